"""The memory that a block of code takes at its peak."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: Bytes of memory that a refusal may take.
LITTLE = 100e6


@contextmanager
def little_memory(most: float = LITTLE) -> Iterator[None]:
    """The block may not take more memory than this at any moment."""

    def peak() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError:
        pytest.skip("the peak of memory is not told here")
    before = peak()
    yield
    assert peak() - before < most, f"{(peak() - before) / 1e6:.0f} MB"
