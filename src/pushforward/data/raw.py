"""A source as it was read, and the checks that every source has to pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .schema import Kind
from .text import flag, hint, number, quoted

#: Texts that stand for a missing number.
MISSING = ("", "NA", "N/A", "n/a", "<NA>", "nan", "NaN", "NAN", "null", "NULL", "None")
#: Beyond this whole numbers are no longer exact in float64.
EXACT = 2**53
#: Characters of the name of a column.
LONGEST_NAME = 1000


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Data as they were read: not yet split, nothing fitted.

    columns: a table's columns by name, each ``(N,)`` of numbers, or of objects (texts, None where empty).
    x: ``(N, *event)`` of arrays and images; None for tables.
    extra: what may become the condition but is not data, by name.
    named: whether the columns' names come from the source.
    repeated: names that several columns have; ``columns`` holds the first of each.
    where: says where a person finds row i, such as ``line 7``.
    train_rows: set where the source comes split: so many rows first for training, the rest for testing.
    """

    name: str
    source: str
    kind: Kind
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    x: np.ndarray | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    named: bool = True
    repeated: tuple[str, ...] = ()
    levels: tuple[float, float, float] | None = None
    where: Callable[[int], str] = lambda i: f"row {i + 1}"
    train_rows: int | None = None

    def __len__(self) -> int:
        if self.x is not None:
            return len(self.x)
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def known(self, name: str, use: str, among: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """The column ``name``, of those that are data or else can be the condition.

        Raises ValueError, which begins with ``use``, where there is none.
        """
        known = {**self.columns, **self.extra} if among is None else among
        if name not in known:
            raise ValueError(f"{self.source}: {use}: no column {name!r}{_hint(name, known)}")
        return known[name]

    def weights(self, name: str) -> np.ndarray:
        """The column ``name`` as weights ``(N,)``.  Raises ValueError for what are no weights."""
        tally = Tally(self.source, (name,), self.where)
        w = tally.numbers(name, self.known(name, "sample_weight"))
        tally.check_columns()
        bad = ~(np.isfinite(w) & (w >= 0))
        if w.ndim != 1 or len(w) != len(self) or bad.any() or not w.any():
            row = int(bad.argmax())
            got = f"{w[row]:g} at {self.where(row)}" if bad.any() else f"shape {w.shape} with sum {w.sum():g}"
            raise ValueError(
                f"{self.source}: sample_weight: expected a non-negative number for every row in {name!r}, "
                f"not all zero, got {got}"
            )
        return w.astype(np.float64)

    def pick(self, name: str) -> np.ndarray:
        """The column ``name`` for a condition.  Raises ValueError where there is none, or empty cells."""
        column = self.known(name, "condition")
        empty = cells_missing(column)
        if empty.any():
            raise ValueError(
                f"{self.source}: condition column {name!r} has {empty.sum()} missing cells, "
                f"the first at {self.where(int(empty.argmax()))}"
            )
        return column

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """The table's columns ``names`` as ``(N, d)``.  Raises ValueError for a text and for empty cells."""
        tally = Tally(self.source, names, self.where)
        x = tally.matrix(self.columns)
        tally.check()
        return x


class Tally:
    """Faults of columns that should be finite numbers, collected over the pieces of a table.

    names: the columns, in the order in which they are reported.
    """

    def __init__(self, source: str, names: Sequence[str], where: Callable[[int], str]):
        self.source, self.names, self.where = source, tuple(names), where
        self.rows, self._bad = 0, 0
        self._first: tuple[str, int] | None = None
        self._texts: dict[str, tuple[Any, int]] = {}
        self._large: set[str] = set()
        self._fractions: set[str] = set()

    def numbers(self, name: str, column: np.ndarray) -> np.ndarray:
        """The column of the next piece as floats, nan where a cell is missing or holds a text."""
        if column.dtype.kind not in "iu":
            self._fractions.add(name)
        elif len(column) and (column.max() > EXACT or column.min() < -EXACT):
            self._large.add(name)
        values, text = as_numbers(column)
        if name not in self._texts and text.any():
            first = int(text.argmax())
            self._texts[name] = (column[first], self.rows + first)
        return values

    def matrix(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The columns of the next piece as ``(N, d)``: float32 where all are, else float64."""
        parts = [self.numbers(name, columns[name]) for name in self.names]
        single = all(part.dtype == np.float32 for part in parts)
        x = np.stack(parts, 1).astype(np.float32 if single else np.float64, copy=False)
        bad = ~np.isfinite(x)
        if bad.any():
            if self._first is None:
                row, column = divmod(int(bad.argmax()), len(self.names))
                self._first = self.names[column], self.rows + row
            self._bad += int(bad.sum())
        self.rows += len(x)
        return x

    def check_columns(self) -> None:
        """Raise ValueError for a text where numbers belong, and for a column of integers beyond 2^53."""
        for name in self.names:
            if name in self._large - self._fractions:
                raise ValueError(
                    f"{self.source}: column {name!r} holds integers beyond 2^53, which are not exact"
                )
            if name in self._texts:
                cell, row = self._texts[name]
                raise ValueError(
                    f"{self.source}: column {name!r} holds {quoted(cell)} at {self.where(row)}, "
                    "expected numbers"
                )

    def check(self) -> None:
        """Raise ValueError as :meth:`check_columns` does, and for cells that are empty or not finite."""
        self.check_columns()
        if self._first is not None:
            name, row = self._first
            raise ValueError(
                f"{self.source}: {self._bad} of {self.rows * len(self.names)} values are empty or not "
                f"finite, the first in column {name!r} at {self.where(row)}"
            )


def as_numbers(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A column as floats, nan where a cell is missing or holds a text, and where these texts are.

    >>> as_numbers(np.array(["1.5", "", "two"], dtype=object))
    (array([1.5, nan, nan]), array([False, False,  True]))
    """
    text = np.zeros(len(column), dtype=bool)
    if column.dtype != object:
        return column if column.dtype == np.float32 else column.astype(np.float64), text
    values = np.full(len(column), np.nan)
    for i, cell in enumerate(column):
        if cell is None or (isinstance(cell, str) and cell.strip() in MISSING):
            continue
        try:
            value = number(cell) if isinstance(cell, str) else float(cell)
        except OverflowError:  # an integer beyond every float
            value = None
        if value is None:
            text[i] = True
        else:
            values[i] = value
    return values, text


def out_of_range(values: np.ndarray, single: bool = False) -> str:
    """What keeps finite numbers, of whatever shape, from being squared, in words; empty where nothing does.

    single: in float32, in which networks compute.

    >>> out_of_range(np.array([1e200, 2e200])), out_of_range(np.array([1.0, 2.0]))
    ('up to 2e+200', '')
    """
    limit = 1e30 if single else 1e150
    low, high = float(values.min()), float(values.max())
    if max(-low, high) > limit:
        return f"up to {max(-low, high):.3g}"
    return f"all within {high - low:.3g}" if 0 < high - low < 1 / limit else ""


def cells_missing(column: np.ndarray) -> np.ndarray:
    """Which cells of a column hold nothing that a condition can be: empty ones, and numbers not finite."""
    if column.dtype == object:
        return np.array([cell is None for cell in column], dtype=bool)
    return ~np.isfinite(column)


def _hint(name: str, known: Mapping[str, np.ndarray]) -> str:
    return hint(name, known) if known else "; the data have no columns to choose from"


def repeated_names(source: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names that occur several times.  Raises ValueError for one that is empty or of more than
    :data:`LONGEST_NAME` characters."""
    if "" in names:
        raise ValueError(
            f"{source}: column {names.index('') + 1} has no name "
            "(an index column? leave it out when writing the table)"
        )
    if (longest := max(map(len, names), default=0)) > LONGEST_NAME:
        raise ValueError(
            f"{source}: a column has a name of {longest:,} characters, expected at most {LONGEST_NAME:,}"
        )
    return tuple(name for name, count in Counter(names).items() if count > 1)


def check_varies(source: str, x: np.ndarray, columns: Sequence[str]) -> None:
    """Raise ValueError where a column of training rows, or a whole array, holds one value only."""
    if columns:
        for name, low, high in zip(columns, x.min(0), x.max(0)):
            if low == high:
                raise ValueError(
                    f"{source}: column {name!r} is constant (always {low:g}) in the rows to train on; "
                    f"leave out with {flag('--exclude', [name])}"
                )
    elif x.min() == x.max():
        raise ValueError(f"{source}: every value is {x.min():g}; there is nothing to learn")
    elif what := out_of_range(x, x.dtype == np.float32):
        raise ValueError(f"{source}: values too far from 1 to compute with ({what}); use other units")
