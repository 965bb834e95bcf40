"""Writing samples as tables, arrays and pictures, of any number of rows."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..files import check_writable
from ..tensors import (
    Condition,
    event_size,
    join_conditions,
    map_condition,
    pack_condition,
    take_condition,
    to_tensor,
    unpack_condition,
)
from .pictures import MOST_COLUMNS, check_grid, check_scatter, write_grid, write_scatter
from .prose import SUFFIX as PROSE
from .prose import write_prose
from .schema import Schema
from .streams import Spool, as_table, stretch, write_npy, write_npz, write_parquet, write_text, writing
from .tables import default_names

#: What :func:`write_rows` can write.
SUFFIXES = (".csv", ".tsv", ".parquet", ".npy", ".npz", ".png", PROSE)
#: Those of tables, and of these those of text.
TABLES, TEXTS = SUFFIXES[:3], SUFFIXES[:2]

#: Some rows: points ``(N, *event)`` in data units, and the condition of each.
Piece = tuple[Tensor, "Condition | None"]


def checked_suffix(path: Path, known: tuple[str, ...]) -> str:
    """The suffix of ``path``.  Raises ValueError unless it is one of the ``known`` ones."""
    suffix = path.suffix.lower()
    if suffix not in known:
        raise ValueError(f"{path}: cannot write {suffix or 'without a suffix'!r}; known: {', '.join(known)}")
    return suffix


def check_output(path: Path, known: tuple[str, ...], escape: bool = False) -> None:
    """Raise ValueError or OSError, before anything is computed, where ``path`` cannot be written.

    escape: whether cells shall be escaped, which those of text tables alone can be.
    """
    suffix = checked_suffix(path, known)
    if escape and suffix not in TEXTS:
        raise ValueError(f"--escape: serves .csv and .tsv alone, got {path}")
    check_writable(path)


def check_form(path: Path, schema: Schema, conditioned: bool, rows: int = 1) -> None:
    """Raise ValueError if the format of ``path`` cannot hold such points.

    conditioned: whether each has a condition.  rows: how many there are at least.
    """
    suffix, kind = checked_suffix(path, SUFFIXES), schema.kind
    if kind == "text" and suffix not in (PROSE, ".npy", ".npz"):
        raise ValueError(f"{path}: texts are written as {PROSE}, .npy or .npz")
    if suffix == PROSE and kind != "text":
        raise ValueError(f"{path}: {PROSE} is for texts, and the data are {kind}s")
    if suffix in TABLES and kind != "table":
        raise ValueError(f"{path}: {kind}s are written as .npy, .npz" + " or .png" * (kind == "image"))
    if suffix == ".npy" and conditioned:
        raise ValueError(f"{path}: .npy holds one array and no condition; write .npz")
    if suffix == ".npz" and conditioned and schema.condition and "x" in schema.condition.columns:
        raise ValueError(f"{path}: the condition is called 'x' like the data; write .csv or .parquet")
    if suffix == ".png":
        if kind == "array":
            raise ValueError(f"{path}: arrays are written as .npy or .npz")
        if kind == "image":
            check_grid(path, schema, rows)
        elif schema.event_shape[0] > MOST_COLUMNS:
            raise ValueError(
                f"{path}: a plot shows at most {MOST_COLUMNS} columns, "
                f"got {schema.event_shape[0]}; write .csv"
            )
        else:
            check_scatter(path, rows)


def write_rows(path: Path | str, x: Tensor, schema: Schema, condition: Condition | None = None) -> None:
    """Write points in the format of the suffix of ``path``; folders are made as needed.

    x: ``(N, *event)`` in data units, or with further dimensions in front, ``(n, B, *event)``, which are
        flattened; ``condition`` is broadcast to them.
    ``.csv``, ``.tsv``, ``.parquet``: tables, with columns by name and the condition's as the user knows it.
        Cells of columns of integers are rounded, whole numbers of a condition that was integers are written
        so.  ``.npy``: the points alone.  ``.npz``: the points as ``x``, the condition by its name.  Whole
        pixels that fit are written as bytes.
    ``.txt``: texts, a line of dashes between two of them.
    ``.png``: a grid of images, or a scatter plot of a table of up to eight columns.

    Until everything is written an older file is not changed.  Raises ValueError for another suffix and for a
    format that cannot hold the points or the condition, and OSError if ``path`` cannot be written.
    """
    path = Path(path)
    check_output(path, SUFFIXES)
    x, condition = _flatten(to_tensor(x, "x"), schema, _as_tensors(condition))
    check_form(path, schema, condition is not None, len(x))
    write_pieces(path, [(x, condition)], schema)


def write_pieces(path: Path, pieces: Iterable[Piece], schema: Schema, escape: bool = False) -> int:
    """Write points as :func:`write_rows` does, of any number, as they come; how many there were.

    escape: texts that a spreadsheet would take for formulas begin with an apostrophe.
    """
    suffix, count = checked_suffix(path, SUFFIXES), 0

    def counted() -> Iterator[Piece]:
        nonlocal count
        for x, condition in pieces:
            count += len(x)
            check_form(path, schema, condition is not None, count)
            step = stretch(event_size(schema.event_shape))
            for start in range(0, len(x), step):
                rows = slice(start, start + step)
                yield _computed(x[rows]), take_condition(condition, rows)
        if not count:
            raise ValueError("x: no rows to write")

    with writing(path, counted()) as (scratch, rows):
        if suffix in TEXTS:
            names, cells = _cells(rows, schema)
            write_text(scratch, path, names, cells, escape)
        elif suffix == PROSE:
            write_prose(scratch, (x for x, _ in rows), schema.alphabet)
        elif suffix == ".png":
            _write_picture(scratch, list(rows), schema)
        else:
            with contextlib.ExitStack() as stack:
                held = _Held(rows, schema, path.parent, stack)
                if suffix == ".parquet":
                    write_parquet(scratch, map(as_table, held.columns()))
                elif suffix == ".npz":
                    write_npz(scratch, {name: (held.array(name), count) for name in held.names})
                else:
                    with scratch.open("wb") as file:
                        write_npy(file, held.array("x"), count)
    return count


def _computed(x: Tensor) -> Tensor:
    """Points on the CPU; NumPy's and other programs' floats have at least four bytes."""
    x = x.detach().cpu()
    return x.float() if x.dtype.is_floating_point and x.dtype.itemsize < 4 else x


def _as_tensors(condition: Any) -> Condition | None:
    if condition is None or isinstance(condition, Mapping):
        return map_condition(lambda part: to_tensor(part, "condition"), condition)
    return to_tensor(condition, "condition")


def _flatten(x: Tensor, schema: Schema, condition: Condition | None) -> tuple[Tensor, Condition | None]:
    """Points ``(N, *event)`` and the condition of each."""
    d = len(schema.event_shape)
    lead, event = x.shape[: x.ndim - d], x.shape[x.ndim - d :]
    if not lead or tuple(event) != schema.event_shape:
        raise ValueError(
            f"x: expected shape (rows, {', '.join(map(str, schema.event_shape))}), got {tuple(x.shape)}"
        )
    if x.numel() == 0:
        raise ValueError("x: no rows to write")
    if condition is not None:
        if schema.condition is None:
            raise ValueError("condition: the data have none, got one")
        ndim = schema.condition.ndim
        condition = map_condition(lambda c: _spread(c, tuple(lead), ndim), condition)
    return x.reshape(-1, *event), condition


def _spread(condition: Tensor, lead: tuple[int, ...], ndim: int) -> Tensor:
    """One condition of ``ndim`` dimensions, or as many as ``lead`` says, as one for every row."""
    own = condition.shape[condition.ndim - ndim :]
    try:
        return condition.detach().cpu().broadcast_to((*lead, *own)).reshape(-1, *own)
    except RuntimeError:
        raise ValueError(
            f"condition: expected one or as many as rows {lead}, got shape {tuple(condition.shape)}"
        ) from None


def _columns(x: np.ndarray, schema: Schema) -> dict[str, np.ndarray]:
    return dict(zip(schema.columns or default_names(x.shape[1]), x.T))


def _decoded(condition: Condition | None, schema: Schema) -> dict[str, np.ndarray]:
    if condition is None:
        return {}
    assert schema.condition is not None
    return schema.condition.decode_columns(condition)


def _cells(pieces: Iterator[Piece], schema: Schema) -> tuple[list[str], Iterator[tuple[str, ...]]]:
    """The names of all columns, and the rows, cell by cell as texts."""
    x, condition = next(pieces)
    names = [*_columns(x.numpy(), schema), *_decoded(condition, schema)]

    def rows() -> Iterator[tuple[str, ...]]:
        for x, condition in itertools.chain([first], pieces):
            columns = [
                _texts(v, name in schema.integers, True) for name, v in _columns(x.numpy(), schema).items()
            ]
            columns += [
                _texts(v, name in schema.integers, False) for name, v in _decoded(condition, schema).items()
            ]
            yield from zip(*columns)

    first = (x, condition)
    return names, rows()


def _texts(values: np.ndarray, integers: bool, rounded: bool) -> list[str]:
    """The shortest texts that read back as the same numbers, of ``integers`` those of :func:`_integers`."""
    texts = values.astype(str)
    if integers and values.dtype.kind == "f":
        nearest, whole = _integers(values, rounded)
        texts = np.where(whole, np.where(whole, nearest, 0).astype(np.int64).astype(str), texts)
    return texts.tolist()


def _integers(values: np.ndarray, rounded: bool) -> tuple[np.ndarray, np.ndarray]:
    """The nearest integers, and which values are written so: whole ones or, ``rounded``, all of 64 bits."""
    nearest = np.rint(values)
    inside = np.abs(values) < 2.0**63
    return nearest, inside if rounded else inside & (nearest == values)


class _Held:
    """All rows of a file whose types depend on them, kept in files without names until it is written."""

    def __init__(self, pieces: Iterable[Piece], schema: Schema, folder: Path, stack: contextlib.ExitStack):
        self.schema, self.spools = schema, dict[str, Spool]()
        self.bytes = _are_bytes(schema)
        self.integers = dict.fromkeys(schema.integers, True) if schema.kind == "table" else {}
        names: list[str] = []
        for x, condition in pieces:
            extra = _decoded(condition, schema)
            names = names or list(extra)
            self.bytes = self.bytes and bool((x == x.round().clamp(0, 255)).all())
            for columns, rounded in (
                ((_columns(x.numpy(), schema), True), (extra, False)) if self.integers else ()
            ):
                for name in {*columns} & {*self.integers}:
                    whole = columns[name].dtype.kind != "f" or _integers(columns[name], rounded)[1].all()
                    self.integers[name] &= bool(whole)
            for name, tensor in {"x": x, **pack_condition(condition)}.items():
                if name not in self.spools:
                    self.spools[name] = stack.enter_context(Spool(folder))
                self.spools[name].add(tensor.numpy())
        self.names = ("x", *names)

    def _pieces(self) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """All rows: points, and columns of the condition."""
        step = stretch(event_size(self.schema.event_shape) + len(self.spools))
        for parts in zip(*(spool.parts(step) for spool in self.spools.values())):
            x, *rest = parts
            tensors = {name: torch.from_numpy(part) for name, part in zip([*self.spools][1:], rest)}
            yield (
                x.astype(np.uint8) if self.bytes else x,
                _decoded(unpack_condition(tensors), self.schema),
            )

    def array(self, name: str) -> Iterator[np.ndarray]:
        """The points ``x``, or a column of the condition, in parts."""
        for x, extra in self._pieces():
            yield x if name == "x" else extra[name]

    def columns(self) -> Iterator[dict[str, np.ndarray]]:
        """All columns of a table, in parts; of integers where all rows have such."""
        for x, extra in self._pieces():
            columns = {**_columns(x, self.schema), **extra}
            for name, whole in self.integers.items():
                if name in columns and columns[name].dtype.kind == "f":
                    values = columns[name]
                    nearest, inside = _integers(values, name not in extra)
                    columns[name] = nearest.astype(np.int64) if whole else np.where(inside, nearest, values)
            yield columns


def _are_bytes(schema: Schema) -> bool:
    """Whether the levels of pixels are whole numbers that fit a byte."""
    if schema.levels is None:
        return False
    low, high, step = schema.levels
    return low >= 0 and high <= 255 and float(step).is_integer()


def _write_picture(path: Path, pieces: list[Piece], schema: Schema) -> None:
    x = torch.cat([x for x, _ in pieces])
    if schema.kind == "image":
        write_grid(path, x, schema)
        return
    whole = join_conditions(*(condition for _, condition in pieces))
    write_scatter(path, x.numpy(), schema, _decoded(whole, schema))
