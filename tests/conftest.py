"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from pushforward.training.processes import MEETING, STARTED_BY, STARTERS


def told_of_processes() -> dict[str, str]:
    """What the environment says of the processes of a run."""
    names = (*STARTERS, *MEETING, STARTED_BY, "WORLD_SIZE", "RANK")
    return {name: os.environ[name] for name in names if name in os.environ}


@pytest.fixture(autouse=True)
def leaves_the_process_alone() -> Iterator[None]:
    """The tests after this one find one process, as it did."""
    before = told_of_processes()
    yield
    assert told_of_processes() == before and not torch.distributed.is_initialized()
