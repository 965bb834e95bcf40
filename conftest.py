"""What holds for every test and every example of a docstring."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import torch

from pushforward.entries import KINDS
from pushforward.training.processes import MEETING, STARTED_BY, STARTERS

# what is started in the background ignores signals, and so would what the tests start
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


def told_of_processes() -> dict[str, str]:
    """What the environment says of the processes of a run."""
    names = (*STARTERS, *MEETING, STARTED_BY, "WORLD_SIZE", "RANK")
    return {name: os.environ[name] for name in names if name in os.environ}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``thorough``, unless it is asked for by ``THOROUGH=1`` or its own name."""
    if os.environ.get("THOROUGH") or os.environ.get("FAULTS") or any("::" in name for name in config.args):
        return
    left = [item for item in items if item.get_closest_marker("thorough")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]


@pytest.fixture(autouse=True)
def leaves_the_process_alone() -> Iterator[None]:
    """The tests after this one find one process, and what is registered, as it did."""
    before, registered = told_of_processes(), {name: dict(kind.entries) for name, kind in KINDS.items()}
    yield
    for kind, table in registered.items():
        for name in set(KINDS[kind].entries) - set(table):
            del KINDS[kind].entries[name]
    assert told_of_processes() == before and not torch.distributed.is_initialized()
