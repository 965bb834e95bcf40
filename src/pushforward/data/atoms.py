"""Values and rows that repeat so often that the density is unbounded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

#: Share of a column that one value, or of a table that one row, may hold before it counts as an atom.
ATOM_COLUMN, ATOM_ROW = 0.05, 0.01

#: Share of a column from which on a repeated value below that is worth a warning.
WORTH_A_WORD = 0.01

#: Columns, and values of a row, that a message shows.
SHOWN = 3


def atoms(x: np.ndarray, share: float = ATOM_COLUMN) -> tuple[np.ndarray, bool]:
    """Which columns of ``x`` ``(n, d)`` hold an atom, and whether one row holds over 1 % of the table.

    An atom is one value in over a ``share`` of the rows, at least twice; a row counts from three times on.

    >>> columns, row = atoms(np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]]))
    >>> columns.tolist(), row
    ([True, False], False)
    """
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"x: expected rows (n, d), at least one, got shape {x.shape}")
    columns = [_most(column)[1] > max(1, share * len(x)) for column in x.T]
    return np.array(columns), _most(x)[1] > max(2, ATOM_ROW * len(x))


def describe(x: np.ndarray, columns: np.ndarray, row: bool, names: Sequence[str] = ()) -> str:
    """The result of :func:`atoms` for ``x`` as a text.

    >>> describe(np.zeros((40, 2)), np.array([True, False]), False, ["a", "b"])
    "column 'a' is 0 in 40 of 40 rows"
    """
    said = []
    for i in np.flatnonzero(columns)[:SHOWN]:
        first, count = _most(x[:, i])
        name = f"column {names[i]!r}" if names else f"column {i}"
        said.append(f"{name} is {x[first, i]:g} in {count:,}")
    text = ", ".join(said) + f" of {len(x):,} rows" if said else ""
    if columns.sum() > SHOWN:
        text += f" and {columns.sum() - SHOWN} more columns repeat one value as often"
    if row:
        text += " and " * bool(said) + f"one row comes {_most(x)[1]:,} times"
    return text


def check_atoms(source: str, x: np.ndarray, columns: Sequence[str] = ()) -> None:
    """Refuse rows ``x`` ``(n, *event)`` with an atom, whose likelihood is unbounded; warn of fewer repeats.

    Raises ValueError that names the columns and values, or the row, and how many rows hold it.
    """
    n = len(x)
    names = [f"column {name!r}" for name in columns] or [
        f"element [{', '.join(map(str, index))}]" for index in np.ndindex(x.shape[1:])
    ]
    x = x.reshape(n, -1)
    found = [(name, *_most(column)) for name, column in zip(names, x.T)]
    held = [(name, i, count) for name, i, count in found if count > max(1, ATOM_COLUMN * n)]
    if held:
        each = [f"{name} is {x[i, names.index(name)]:g} in {count:,}" for name, i, count in held[:SHOWN]]
        more = f" and {len(held) - SHOWN} more columns repeat one value as often" * (len(held) > SHOWN)
        raise ValueError(
            f"{source}: {', '.join(each)} of {n:,} rows{more}: the likelihood is unbounded if one value "
            f"holds over {ATOM_COLUMN:.0%} of a column; leave the column out, make it the --condition, or "
            "add noise as wide as its steps"
        )
    distinct = np.unique(x, axis=0, return_counts=True)[1]
    row, count = _most(x)
    if count > max(2, ATOM_ROW * n):
        values = ", ".join(f"{value:g}" for value in x[row, :SHOWN]) + ", ..." * (x.shape[1] > SHOWN)
        raise ValueError(
            f"{source}: {count:,} of {n:,} rows are ({values}): the likelihood is unbounded if one row "
            f"holds over {ATOM_ROW:.0%} of the table; keep one of each with --deduplicate"
        )
    said = []
    if count > 1:
        said.append(f"{n - len(distinct):,} of {n:,} rows repeat earlier ones (see --deduplicate)")
    name, i, most = max(found, key=lambda entry: entry[2])
    if most > max(1, WORTH_A_WORD * n):
        said.append(f"{name} is {x[i, names.index(name)]:g} in {most:,} of {n:,} rows")
    if said:
        text = f"{source}: {' and '.join(said)}; densities of repeated values mean little"
        warnings.warn(text, UserWarning, stacklevel=2)


def _most(values: np.ndarray) -> tuple[int, int]:
    """Where what occurs most often is first, and how often it does."""
    _, first, counts = np.unique(values, axis=0, return_index=True, return_counts=True)
    best = int(counts.argmax())
    return int(first[best]), int(counts[best])
