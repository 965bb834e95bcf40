"""How much memory a computation holds at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch


def peak_memory(run: Callable[[], object]) -> int:
    """The most bytes that ``run()`` holds at once beyond what was there before it."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as seen:
        run()
    assert seen.profiler is not None and seen.profiler.kineto_results is not None
    events: list[Any] = [
        event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    return max(
        itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    )
