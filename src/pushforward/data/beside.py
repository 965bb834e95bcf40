"""Writing tables without a schema: a few columns alone, or beside the columns of their rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import random
from ..entries import DATASETS
from .limits import MAX_SIZE
from .parquet import open_parquet
from .pieces import cells_in_pieces
from .prose import is_prose
from .sources import OPENERS, open_source
from .streams import as_table, write_parquet, write_text, writing
from .stretches import again, at_once, survey
from .text_tables import open_text
from .write import TABLES, TEXTS, checked_suffix

if TYPE_CHECKING:
    import pyarrow as pa

#: Decimals of floats that are written as text.
DECIMALS = 6
#: Rows of a table that are held at once.
ROWS = 65_536

#: Columns by name, some rows of them.
Columns = Mapping[str, np.ndarray]


def write_columns(path: Path, names: Sequence[str], pieces: Iterable[Columns]) -> None:
    """Columns as a table, text or Parquet by the suffix, as they come; floats in text have six decimals.

    The file is new or as it was until all is written.  Raises ValueError for a suffix that is no table's.
    """
    suffix = checked_suffix(path, TABLES)
    with writing(path, pieces) as (scratch, parts):
        if suffix in TEXTS:
            write_text(scratch, path, names, _rows(names, parts))
        else:
            write_parquet(scratch, map(as_table, _Ahead(names, parts)))


def write_beside(
    path: Path,
    source: str,
    names: Sequence[str],
    pieces: Iterable[Columns],
    escape: bool = False,
    max_size: float = MAX_SIZE,
) -> None:
    """All columns of the table ``source``, row by row, with further ones, ``names``, at the right.

    Cells of a text table are copied unchanged; from Parquet to Parquet the types are kept.
    escape: texts that a spreadsheet would take for formulas begin with an apostrophe.  Raises ValueError for
    a source that is no table, and for a name that it has already, before it asks for the first of ``pieces``.
    """
    text = checked_suffix(path, TABLES) in TEXTS
    table = _open(source, text, max_size)
    for name in names:
        if name in table.names:
            raise ValueError(f"--keep: {source} has a column {name!r} already; rename it")
    with writing(path, pieces) as (scratch, parts):
        if text:
            write_text(scratch, path, [*table.names, *names], _joined(table, _rows(names, parts)), escape)
        else:
            write_parquet(scratch, _widened(table, _Ahead(names, parts)))


@dataclass(frozen=True)
class _Table:
    """A table to stand beside: ``rows`` as texts or ``parts`` with their types, whichever is asked for."""

    source: str
    names: tuple[str, ...]
    rows: Iterator[Sequence[str]]
    parts: Iterator[pa.Table]

    def changed(self) -> ValueError:
        return ValueError(f"{self.source}: has other rows than a moment ago; nothing was written")


def _open(source: str, text: bool, max_size: float) -> _Table:
    file = Path(source).expanduser()
    opener = OPENERS.get(file.suffix.lower()) if file.is_file() and source not in DATASETS else None
    if is_prose(file):
        raise ValueError(f"--keep: {source} holds text, which has no columns to keep")
    if opener is open_text and text:
        names, cells = cells_in_pieces(file, ROWS, max_size)
        return _Table(source, names, itertools.chain.from_iterable(cells), iter(()))
    if opener is open_text:
        table = open_text(file, max_size)
        names = tuple(dict.fromkeys(table.names))
        rows = at_once(len(names), ROWS)
        parts = map(as_table, again(table, survey(table, names, rows), rows))
    elif opener is open_parquet:
        kept = open_parquet(file, max_size)
        names, parts = kept.names, kept.tables(at_once(len(kept.names), ROWS))
    else:
        raw = open_source(source, None, random.seeded("read"), tested=False, max_size=max_size)[0]
        if raw.kind != "table":
            raise ValueError(f"--keep: {raw.source} holds {raw.kind}s, which have no columns to keep")
        columns = {**raw.columns, **raw.extra}
        names, parts = tuple(columns), iter([as_table(columns)])
    if text:
        return _Table(source, names, itertools.chain.from_iterable(map(_as_texts, parts)), iter(()))
    return _Table(source, names, iter(()), parts)


def _as_texts(table: pa.Table) -> Iterator[tuple[str, ...]]:
    """Rows of a table as texts, empty where a value is missing."""
    import pyarrow as pa

    columns: list[list[str]] = []
    for column in table.columns:
        if pa.types.is_floating(column.type):
            values = column.to_numpy()
            columns.append(np.where(np.isnan(values), "", values.astype(str)).tolist())
        else:
            columns.append(["" if value is None else str(value) for value in column.to_pylist()])
    return zip(*columns)


def _rows(names: Sequence[str], parts: Iterable[Columns]) -> Iterator[tuple[str, ...]]:
    """Rows of columns in parts, as texts."""
    for part in parts:
        yield from zip(*(_texts(part[name]) for name in names))


def _texts(values: np.ndarray) -> list[str]:
    if values.dtype.kind == "f":
        return [f"{value:.{DECIMALS}f}" for value in values.tolist()]
    return list(map(str, values.tolist()))


def _joined(table: _Table, rows: Iterator[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """The rows of ``table`` with further cells at their ends."""
    for cells in table.rows:
        more = next(rows, None)
        if more is None:
            raise table.changed()
        yield (*cells, *more)
    if next(rows, None) is not None:
        raise table.changed()


def _widened(table: _Table, ahead: _Ahead) -> Iterator[pa.Table]:
    """The parts of ``table`` with further columns at their right."""
    import pyarrow as pa

    for part in table.parts:
        more = ahead.take(part.num_rows)
        if any(len(values) < part.num_rows for values in more.values()):
            raise table.changed()
        columns = [pa.array(values) for values in more.values()]
        for name, column in zip(more, columns):
            part = part.append_column(name, column)
        yield part
    if ahead.more():
        raise table.changed()


class _Ahead:
    """Columns that come in parts, to be taken so many rows at a time."""

    def __init__(self, names: Sequence[str], parts: Iterator[Columns]):
        self.parts = parts
        self.held: dict[str, np.ndarray] = {name: np.empty(0) for name in names}
        self.count = 0

    def take(self, count: int) -> dict[str, np.ndarray]:
        """The next rows, fewer at the end."""
        waiting: dict[str, list[np.ndarray]] = {name: [values] for name, values in self.held.items()}
        while self.count < count and (part := next(self.parts, None)) is not None:
            for name, values in waiting.items():
                values.append(part[name])
            self.count += len(part[next(iter(waiting))])
        whole = {
            name: np.concatenate([v for v in values if len(v)] or values) for name, values in waiting.items()
        }
        self.held = {name: values[count:] for name, values in whole.items()}
        self.count = max(0, self.count - count)
        return {name: values[:count] for name, values in whole.items()}

    def more(self) -> bool:
        """Whether rows are left."""
        return self.count > 0 or next(self.parts, None) is not None

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """All that is left, :data:`ROWS` at a time."""
        while len(next(iter((part := self.take(ROWS)).values()))):
            yield part
