"""New rows of a known schema, read whole or some at a time: the same values, and the same errors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import random
from ..rows import Rows, join_rows
from ..tensors import condition_length, map_condition
from . import prose
from .arrays import ArrayTally, as_numpy, raw_array
from .limits import MAX_SIZE, check_columns, check_size, checked_max_size
from .matching import ConditionTally, LevelTally, events, has_condition, matched
from .raw import Tally, repeated_names
from .schema import Schema
from .sources import OPENERS, Source, find_path, is_frame, is_path, open_source
from .stored_arrays import StoredArray, open_npy
from .stretches import Stretched, again, at_once, survey
from .tables import default_names
from .text import is_whole
from .text_tables import open_text

#: Rows of a piece at most.
PIECE = 65_536


@dataclass(frozen=True)
class _How:
    """How new data are read: pieces of ``rows``, and gigabytes of one piece and, where set, of all."""

    schema: Schema
    need_condition: bool
    rows: int
    max_size: float
    limit: float | None


def read_rows(
    source: Source, schema: Schema, need_condition: bool = True, max_size: float = MAX_SIZE
) -> Rows:
    """Read new data of a known schema, for instance to score them.

    Columns are matched by name, in any order, and others ignored; arrays, and tables without a header,
    are matched by position.  A toy draws fresh rows.  The condition is read where it is there.

    Raises ValueError for missing columns, another event shape, values the pixels of ``schema`` cannot
    take, more than ``max_size`` gigabytes, and, with ``need_condition``, a missing condition; warns for one
    outside the training range.
    """
    size = checked_max_size(max_size)
    return join_rows([*_pieces(source, _How(schema, need_condition, PIECE, size, size))])


def read_pieces(
    source: Source,
    schema: Schema,
    need_condition: bool = True,
    rows: int = PIECE,
    max_size: float = MAX_SIZE,
) -> Iterator[Rows]:
    """What :func:`read_rows` reads, at most ``rows`` at a time and fewer of wide ones.

    A table or an npy file is gone through twice and never held: whatever is wrong with it, in whatever row,
    is raised by this call, and ``max_size`` is a limit for a piece of it.  Anything else is read whole.
    """
    if not is_whole(rows) or rows < 1:
        raise ValueError(f"rows: expected a positive number, got {rows!r}")
    return _pieces(source, _How(schema, need_condition, rows, checked_max_size(max_size), None))


def cells_in_pieces(
    path: Path, rows: int = PIECE, max_size: float = MAX_SIZE
) -> tuple[tuple[str, ...], Iterator[list[list[str]]]]:
    """The names of a text table's columns, and its rows cell by cell as they stand in the file."""
    table = open_text(path, checked_max_size(max_size))
    return table.names, table.cells(at_once(len(table.names), rows))


def _pieces(source: Source, how: _How) -> Iterator[Rows]:
    if is_path(source):
        path = find_path(source)[0]
        suffix = "" if path.is_dir() else path.suffix.lower()
        try:
            if suffix == prose.SUFFIX and how.schema.kind == "text":
                return _sliced(prose.windows_of(path, how.schema, how.max_size), how.rows)
            if suffix in OPENERS:
                return _of_table(OPENERS[suffix](path, how.max_size), how)
            if suffix == ".npy":
                return _of_array(open_npy(path), how)
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror or error}") from None
    return _sliced(_at_once(source, how), how.rows)


def _sliced(whole: Rows, rows: int) -> Iterator[Rows]:
    for start in range(0, len(whole), rows):
        part = slice(start, start + rows)
        yield Rows(whole.x[part], map_condition(lambda c, part=part: c[part], whole.condition))


def _at_once(source: Source, how: _How) -> Rows:
    """Rows that are in memory, drawn, or read as a whole."""
    schema, generator = how.schema, random.seeded("read")
    folder = isinstance(source, str | Path) and Path(source).expanduser().is_dir()
    resize = schema.resize if folder else None
    raw, y = open_source(source, None, generator, tested=False, resize=resize, max_size=how.max_size)
    if len(raw) == 0:
        raise ValueError(f"{raw.source}: no rows")
    if schema.kind == "table":
        names = matched(raw.source, raw.kind, tuple(raw.columns), raw.named, schema)
        raw = dataclasses.replace(raw, columns={name: raw.columns[key] for name, key in names.items()})
        array = raw.matrix(schema.columns)
    else:
        array = events(raw, schema)
        levels = LevelTally(raw.source, schema)
        levels.add(array)
        levels.check()
    x = _points(array, schema)
    spec = schema.condition
    if y is not None:
        if spec is None:
            raise ValueError("y: the data were not learnt with a condition, got one")
        frame = is_frame(y) and all(name in y.columns for name in spec.columns)
        c = spec.encode(np.asarray(y[list(spec.columns)]) if frame else y)
        count = condition_length(c)
        if count != len(x):
            raise ValueError(f"x, y: expected equal lengths, got {len(x)} and {count}")
        return Rows(x, c)
    known = {**raw.columns, **raw.extra}
    if spec is None or not has_condition(raw.source, known, raw.named, schema, how.need_condition):
        return Rows(x)
    return Rows(x, spec.encode_columns({name: raw.pick(name) for name in spec.columns}))


def _points(x: np.ndarray, schema: Schema) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x if schema.levels is None else x.astype(np.float32)))


def _of_table(table: Stretched, how: _How) -> Iterator[Rows]:
    """Rows of a table on disk, which is gone through first."""
    source, schema = table.source, how.schema
    repeated_names(source, table.names)
    if schema.kind != "table":
        got = (len({*table.names}),)
        raise ValueError(f"{source}: expected {schema.kind}s of shape {schema.event_shape}, got {got}")
    names = matched(source, "table", tuple(dict.fromkeys(table.names)), table.named, schema)
    conditional = has_condition(source, names, table.named, schema, how.need_condition)
    spec = schema.condition if conditional else None
    wanted = {name: names[name] for name in (*schema.columns, *(() if spec is None else spec.columns))}
    count = at_once(len(wanted), how.rows)

    def renamed(part: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: part[key] for name, key in wanted.items()}

    tally = Tally(source, schema.columns, table.where)
    keys = list(dict.fromkeys(wanted.values()))
    found = survey(table, keys, count, lambda part: tally.matrix(renamed(part)))
    if found.rows == 0:
        raise ValueError(f"{source}: no rows")
    if how.limit is not None:
        check_size(source, 8 * found.rows * len(wanted), how.limit)
    tally.check()
    if spec is not None:
        conditions = ConditionTally(source, spec, table.where)
        for part in again(table, found, count):
            conditions.add(renamed(part))
        conditions.check()

    def pieces() -> Iterator[Rows]:
        for part in map(renamed, again(table, found, count)):
            x = _points(Tally(source, schema.columns, table.where).matrix(part), schema)
            yield Rows(x, None if spec is None else spec.encode_columns(part, warn=False))

    return pieces()


@dataclass(frozen=True)
class _ArrayTable:
    """An npy file of rows of numbers as a table without names."""

    stored: StoredArray
    named = False
    size = unfolded = 0

    @property
    def source(self) -> str:
        """What messages call it."""
        return self.stored.where

    @property
    def names(self) -> tuple[str, ...]:
        """x1, x2, ..."""
        return default_names(math.prod(self.stored.shape[1:]))

    def stretches(
        self, names: Sequence[str], rows: int, kinds: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """The columns ``names``, at most ``rows`` at a time."""
        for part in _parts(self.stored, at_once(math.prod(self.stored.shape[1:]), rows)):
            columns = raw_array(part, source=self.source).columns
            yield {name: columns[name] for name in names}

    def where(self, row: int) -> str:
        """The number of row ``row``, which counts from 0."""
        return f"row {row + 1}"


def _parts(stored: StoredArray, rows: int) -> Iterator[np.ndarray]:
    for start in range(0, len(stored), rows):
        yield as_numpy(stored.rows(start, min(start + rows, len(stored))), stored.where)


def _of_array(stored: StoredArray, how: _How) -> Iterator[Rows]:
    """Rows of an npy file, which is gone through first."""
    source, shape, schema = stored.where, stored.shape, how.schema
    as_numpy(np.empty(0, stored.dtype), source)
    if how.limit is not None:
        check_size(source, stored.memory, how.limit)
    count, tally = at_once(math.prod(shape[1:]), how.rows), ArrayTally(source)
    if len(stored) and 0 not in shape:
        check_size(source, stored.memory / len(stored), how.max_size, "numbers in one row")
        if len(shape) == 2:
            check_columns(source, shape[1], how.max_size)
        for part in _parts(stored, count):
            tally.add(part)
    tally.check(shape)
    if len(shape) <= 2 and schema.kind != "text":
        return _of_table(_ArrayTable(stored), how)
    first = raw_array(stored.rows(0, 1), source=source)
    if first.levels is not None:
        tally.levels(stored.dtype)
    if schema.kind == "table":
        matched(source, first.kind, (), False, schema)
    levels = LevelTally(source, schema)

    def pieces() -> Iterator[np.ndarray]:
        for part in _parts(stored, count):
            yield events(raw_array(part, source=source), schema)

    for x in pieces():
        levels.add(x)
    levels.check()
    has_condition(source, {}, False, schema, how.need_condition)
    return (Rows(_points(x, schema)) for x in pieces())
