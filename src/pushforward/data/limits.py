"""The limit of the memory for reading one input, checked before the memory is allocated."""

from __future__ import annotations

import math
from typing import Any

#: Gigabytes that the numbers of one input may take, where nothing is said.
MAX_SIZE = 2.0
#: What each column of a table costs, in bytes, whatever it holds.
COLUMN = 20_000
#: Part of the limit that one line of a text table may have.
LINE = 1 / 250
#: Gigabytes that no machine has.
LARGEST = 1e6


def checked_max_size(value: Any) -> float:
    """A limit in gigabytes.  Raises ValueError unless it is a positive, finite number."""
    given = isinstance(value, int | float) and not isinstance(value, bool)
    if not given or not 0 < value < math.inf:
        raise ValueError(f"--max-size: expected a positive number of gigabytes, got {value}")
    return float(value)


def check_size(where: str, size: float, max_size: float, what: str = "numbers", least: bool = False) -> None:
    """Raise ValueError where ``size`` bytes, or at ``least`` so many, are more than ``max_size`` gigabytes.

    >>> check_size("x.npz", 3e9, 2.0)
    Traceback (most recent call last):
    ValueError: x.npz: 3 GB of numbers, more than 2 GB; raise the limit with --max-size 4
    """
    if size > max_size * 1e9:
        raise ValueError(
            f"{where}: {'at least ' * least}{_gigabytes(size)} of {what}, more than {max_size:g} GB"
            f"{raise_to(2 * max_size if least else size / 1e9)}"
        )


def check_columns(where: str, count: int, max_size: float) -> None:
    """Raise ValueError for a table of more columns than :data:`COLUMN` bytes for each allow.

    >>> check_columns("x.csv", 50_000_000, 2.0)
    Traceback (most recent call last):
    ValueError: x.csv: 50,000,000 columns, more than 100,000; raise the limit with --max-size 1010
    """
    most = int(max_size * 1e9 / COLUMN)
    if count > most:
        raise ValueError(f"{where}: {count:,} columns, more than {most:,}{raise_to(count * COLUMN / 1e9)}")


def raise_to(size: float) -> str:
    """The end of an error message: the flag that allows ``size`` gigabytes, if that is a size of memory.

    >>> raise_to(3.0), raise_to(0.5), raise_to(1e9)
    ('; raise the limit with --max-size 4', '; raise the limit with --max-size 0.51', '')
    """
    if size > LARGEST:
        return ""
    enough = math.ceil(size * 1.01) if size > 1 else math.ceil(size * 101) / 100
    return f"; raise the limit with --max-size {enough}"


def longest_line(max_size: float) -> int:
    """Bytes that a line of a text table may have, and a cell.

    >>> longest_line(2.0)
    8000000
    """
    return int(min(max_size * 1e9 * LINE, 2**30))


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.3g} GB" if size < 1e12 else f"{size / 1e9:,.0f} GB"
