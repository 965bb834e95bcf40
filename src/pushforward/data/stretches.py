"""Tables that are read in pieces: the kinds of their columns, and all of their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .limits import check_size
from .raw import MISSING, Raw, repeated_names

#: Cells that are held at once.
CELLS = 2**23
#: Bytes that a cell takes by the kind of its column: a number, or a text.
CELL_BYTES = {"i": 8, "u": 8, "f": 8, "O": 72}


class Stretched(Protocol):
    """A table on disk."""

    @property
    def source(self) -> str:
        """What messages call it."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, in their order."""
        ...

    @property
    def named(self) -> bool:
        """Whether the names come from the file."""
        ...

    @property
    def size(self) -> int:
        """Bytes that its texts take at least, where a column holds texts."""
        ...

    @property
    def unfolded(self) -> int:
        """Bytes of all values where these may take more than in the file, else 0."""
        ...

    def stretches(
        self, names: Sequence[str], rows: int, kinds: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """The columns ``names``, at most ``rows`` at a time, of these ``kinds`` where they are known."""
        ...

    def where(self, row: int) -> str:
        """Where a person finds row ``row``, counted from 0."""
        ...


@dataclass(frozen=True)
class Survey:
    """The rows of a table, the kind of every column, and its columns if they are one stretch."""

    rows: int
    kinds: dict[str, str]
    only: dict[str, np.ndarray] | None


def survey(
    table: Stretched,
    names: Sequence[str],
    rows: int,
    look: Callable[[dict[str, np.ndarray]], object] = lambda part: None,
) -> Survey:
    """Go through a table once, and ``look`` at every stretch as it is.

    The kind of a column is a letter, ``i`` or ``u`` for integers, ``f`` for floats, ``O`` for texts: what
    its column would be if it were read at once.
    """
    kinds, count = dict.fromkeys(names, ""), 0
    only: dict[str, np.ndarray] | None = None
    for number, part in enumerate(table.stretches(names, rows)):
        look(part)
        kinds = {name: joint(kinds[name], kind_of(part[name])) for name in names}
        count += len(part[names[0]])
        only = part if number == 0 else None
    return Survey(count, {name: "O" if kind in ("", "-") else kind for name, kind in kinds.items()}, only)


def again(table: Stretched, found: Survey, rows: int) -> Iterator[dict[str, np.ndarray]]:
    """Every stretch of a table that was gone through, its columns of the kinds that were found."""
    if found.only is not None:
        yield found.only
    else:
        yield from table.stretches(list(found.kinds), rows, found.kinds)


def kind_of(column: np.ndarray) -> str:
    """The kind of a part of a column; ``-`` where all of it is missing, which goes with any kind."""
    kind = column.dtype.kind
    if kind == "O" and all(cell is None or (isinstance(cell, str) and cell in MISSING) for cell in column):
        return "-"
    return kind


def joint(kind: str, other: str) -> str:
    """The kind of a column of two parts: integers with a missing one among them are floats.

    >>> joint("i", "f"), joint("-", "i"), joint("f", "O"), joint("", "i")
    ('f', 'f', 'O', 'i')
    """
    if not kind or kind == other:
        return other
    return "O" if "O" in (kind, other) else "f"


def at_once(width: int, rows: int) -> int:
    """Rows of a stretch of ``width`` columns, at most ``rows``."""
    return max(1, min(rows, CELLS // max(1, width)))


def whole(table: Stretched, name: str, max_size: float, rows: int = 65_536) -> Raw:
    """All of a table.  Raises ValueError, before memory is taken, for more than ``max_size`` gigabytes."""
    check_size(table.source, table.unfolded, max_size)
    repeated, names = repeated_names(table.source, table.names), list(dict.fromkeys(table.names))
    seen = 0

    def look(part: dict[str, np.ndarray]) -> None:
        nonlocal seen
        seen += sum(CELL_BYTES[column.dtype.kind] * len(column) for column in part.values())
        check_size(table.source, seen, max_size, least=True)

    rows = at_once(len(names), rows)
    found = survey(table, names, rows, look)
    size = found.rows * sum(CELL_BYTES[kind] for kind in found.kinds.values())
    check_size(table.source, size + table.size * ("O" in found.kinds.values()), max_size)
    columns = found.only
    if columns is None:
        columns = {key: np.empty(found.rows, _DTYPES[kind]) for key, kind in found.kinds.items()}
        start = 0
        for part in again(table, found, rows):
            stop = start + len(part[names[0]])
            for key, values in part.items():
                columns[key][start:stop] = values
            start = stop
    return Raw(
        name=name,
        source=table.source,
        kind="table",
        columns=columns,
        named=table.named,
        repeated=repeated,
        where=table.where,
    )


_DTYPES = {"i": np.int64, "u": np.uint64, "f": np.float64, "O": object}
