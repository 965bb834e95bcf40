"""A source as it was read, and the checks that every source has to pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .schema import Kind
from .text import hint, number

#: Texts that stand for a missing number.
MISSING = ("", "NA", "N/A", "n/a", "<NA>", "nan", "NaN", "NAN", "null", "NULL", "None")
#: Beyond this whole numbers are no longer exact in float64.
EXACT = 2**53


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Data as they were read: not yet split, nothing fitted.

    columns: a table's columns by name, each ``(N,)`` of numbers, or of objects (texts, None where empty).
    x: ``(N, *event)`` of arrays and images; None for tables.
    extra: what may become the condition but is not data, by name.
    named: whether the columns' names come from the source.
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
    levels: tuple[float, float, float] | None = None
    where: Callable[[int], str] = lambda i: f"row {i + 1}"
    train_rows: int | None = None

    def __len__(self) -> int:
        if self.x is not None:
            return len(self.x)
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def _known(self, name: str, use: str) -> np.ndarray:
        known = {**self.columns, **self.extra}
        if name not in known:
            raise ValueError(f"{self.source}: {use}: no column {name!r}{_hint(name, known)}")
        return known[name]

    def weights(self, name: str) -> np.ndarray:
        """The column ``name`` as weights ``(N,)``.  Raises ValueError for what are no weights."""
        w = self._numbers(name, self._known(name, "sample_weight"))
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
        column = self._known(name, "condition")
        if column.dtype == object:
            empty = np.array([value is None for value in column], dtype=bool)
        else:
            empty = ~np.isfinite(column)
        if empty.any():
            raise ValueError(
                f"{self.source}: condition column {name!r} has {empty.sum()} empty cells, "
                f"the first at {self.where(int(empty.argmax()))}"
            )
        return column

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """The table's columns ``names`` as ``(N, d)``.  Raises ValueError for a text and for empty cells."""
        columns = [self._numbers(name, self.columns[name]) for name in names]
        single = all(column.dtype == np.float32 for column in columns)
        x = np.stack(columns, 1).astype(np.float32 if single else np.float64, copy=False)
        bad = ~np.isfinite(x)
        if bad.any():
            row, column = divmod(int(bad.argmax()), len(names))
            raise ValueError(
                f"{self.source}: {bad.sum()} of {bad.size} values are empty or not finite, "
                f"the first in column {names[column]!r} at {self.where(row)}"
            )
        return x

    def _numbers(self, name: str, column: np.ndarray) -> np.ndarray:
        if column.dtype == np.float32:
            return column
        if column.dtype.kind in "iu" and len(column) and (column.max() > EXACT or column.min() < -EXACT):
            raise ValueError(
                f"{self.source}: column {name!r} holds integers beyond 2^53, which are not exact"
            )
        if column.dtype != object:
            return column.astype(np.float64)
        values = np.full(len(column), np.nan)
        for i, cell in enumerate(column):
            if cell is None or (isinstance(cell, str) and cell in MISSING):
                continue
            value = number(cell) if isinstance(cell, str) else float(cell)
            if value is None:
                comma = isinstance(cell, str) and number(cell.replace(",", ".")) is not None
                advice = (
                    "write decimals with a point" if comma else "a column of texts can serve as a condition"
                )
                raise ValueError(
                    f"{self.source}: column {name!r} holds {cell!r} at {self.where(i)}, "
                    f"expected numbers ({advice})"
                )
            values[i] = value
        return values


def _hint(name: str, known: Mapping[str, np.ndarray]) -> str:
    return hint(name, known) if known else "; the data have no columns to choose from"


def check_names(source: str, names: Sequence[str]) -> None:
    """Raise ValueError for column names that are empty or occur twice."""
    for i, name in enumerate(names):
        if not name:
            raise ValueError(
                f"{source}: column {i + 1} has no name (an index column? leave it out when writing the table)"
            )
        if name in names[:i]:
            raise ValueError(f"{source}: two columns are named {name!r}")


def check_finite(source: str, x: np.ndarray) -> None:
    """Raise ValueError that counts the values of an array that are not finite and shows the first."""
    bad = ~np.isfinite(x)
    if bad.any():
        first = [int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape)]
        raise ValueError(
            f"{source}: {bad.sum()} of {bad.size} values are not finite, the first at index {first}"
        )


def check_varies(source: str, x: np.ndarray, columns: Sequence[str]) -> None:
    """Raise ValueError where a column of a table, or a whole array, holds one value only."""
    if columns:
        for name, low, high in zip(columns, x.min(0), x.max(0)):
            if low == high:
                raise ValueError(f"{source}: column {name!r} is constant (always {low:g}); leave it out")
    elif x.min() == x.max():
        raise ValueError(f"{source}: every value is {x.min():g}; there is nothing to learn")
