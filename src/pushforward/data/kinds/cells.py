"""The cells of one column, as numbers and as texts, and what is wrong with one of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..raw import MISSING, as_numbers
from ..text import label_text, quoted


class Level(NamedTuple):
    """A value that occurs, and in how many rows."""

    value: Any
    rows: int


class Cells:
    """One column of a table: numbers, or texts with None where a cell is empty.

    source: what messages call the table.  where: says where a person finds row i.
    """

    def __init__(
        self,
        name: str,
        values: np.ndarray,
        source: str = "",
        where: Callable[[int], str] = lambda i: f"row {i + 1}",
    ):
        self.name, self.values, self.source, self.where = name, values, source, where
        self.textual = values.dtype == object
        self.read: dict[str, list[Any]] = {}
        """What it reads as in some formats, so that it is read once."""

    def __len__(self) -> int:
        return len(self.values)

    @functools.cached_property
    def missing(self) -> np.ndarray:
        """Which cells are empty, by what every reader of a table takes for empty."""
        if self.textual:
            return np.array([_is_missing(cell) for cell in self.values], dtype=bool)
        if self.values.dtype.kind in "iu":
            return np.zeros(len(self), dtype=bool)
        return np.isnan(self.values)

    @functools.cached_property
    def _numbers(self) -> tuple[np.ndarray, np.ndarray]:
        numbers, text = as_numbers(self.values)
        return numbers.astype(np.float64), text

    @property
    def is_numeric(self) -> np.ndarray:
        """Which cells are numbers, or texts that write one."""
        return ~self._numbers[1] & ~self.missing

    def numbers(self, kind: str) -> np.ndarray:
        """The column as float64, NaN where a cell is empty.

        Raises ValueError for a text and for what is not finite, neither of which ``kind`` takes.
        """
        numbers, text = self._numbers
        self.refuse(text, f"kind {kind} takes numbers")
        self.refuse(np.isinf(numbers), f"kind {kind} takes finite numbers")
        return numbers

    @functools.cached_property
    def texts(self) -> np.ndarray:
        """The column as texts, None where a cell is empty; whole numbers have no point."""
        if self.textual:
            found = [None if gone else str(cell) for cell, gone in zip(self.values, self.missing)]
        elif self.values.dtype.kind in "iu":
            found = [str(cell) for cell in self.values.tolist()]
        else:
            found = [None if gone else label_text(v) for v, gone in zip(self.values.tolist(), self.missing)]
        texts = np.empty(len(self), dtype=object)
        texts[:] = found
        return texts

    @functools.cached_property
    def levels(self) -> tuple[Level, ...]:
        """What occurs, in rising order, and how often; of empty cells nothing."""
        return self.levels_of((self.texts if self.textual else self.values)[~self.missing])

    @staticmethod
    def levels_of(values: np.ndarray) -> tuple[Level, ...]:
        """The different ``values`` but NaN, in rising order, and how often each occurs."""
        values = values if values.dtype == object else values[~np.isnan(values)]
        different, counts = np.unique(values, return_counts=True)
        return tuple(map(Level, different.tolist(), counts.tolist()))

    @property
    def seen(self) -> int:
        """How many cells are not empty."""
        return int((~self.missing).sum())

    def refuse(self, bad: np.ndarray, expected: str) -> None:
        """Raise ValueError for the first row that is ``bad``, with its value and what was expected."""
        if bad.any():
            row = int(bad.argmax())
            cell = self.values[row : row + 1].tolist()[0]
            told = "an empty cell" if self.missing[row] else quoted(cell)
            raise self.error(f"{told} at {self.where(row)}, but {expected}")

    def error(self, text: str) -> ValueError:
        """An error that names the table and the column."""
        return ValueError(f"{self.source}{': ' * bool(self.source)}column {self.name!r}: {text}")


def _is_missing(cell: Any) -> bool:
    if isinstance(cell, str):
        return cell in MISSING or cell.strip() in MISSING
    return cell is None or cell != cell  # NaN
