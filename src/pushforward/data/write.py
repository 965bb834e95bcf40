"""Writing samples: tables, arrays, pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..tensors import Condition, map_condition, to_tensor
from .pictures import MOST_COLUMNS, write_grid, write_scatter
from .schema import Schema
from .tables import default_names

#: What :func:`write_rows` can write.
SUFFIXES = (".csv", ".tsv", ".parquet", ".npy", ".npz", ".png")
#: Those of tables.
TABLES = SUFFIXES[:3]


def checked_suffix(path: Path, known: tuple[str, ...]) -> str:
    """The suffix of ``path``.  Raises ValueError unless it is one of the ``known`` ones."""
    suffix = path.suffix.lower()
    if suffix not in known:
        raise ValueError(f"{path}: cannot write {suffix or 'without a suffix'!r}; known: {', '.join(known)}")
    return suffix


def write_rows(path: Path | str, x: Tensor, schema: Schema, condition: Condition | None = None) -> None:
    """Write points in the form that the suffix of ``path`` names; folders are made as needed.

    x: ``(N, *event)`` in data units, or with further dimensions in front, ``(n, B, *event)``, which are
        flattened; ``condition`` is broadcast to them.
    ``.csv``, ``.tsv``, ``.parquet``: tables, with columns by name and the condition's as the user knows it.
        Columns of integers are rounded, whole numbers of a condition that was integers are written so.
    ``.npy``: the points alone.  ``.npz``: the points as ``x``, the condition by its name.  Whole pixels that
        fit are written as bytes.
    ``.png``: a grid of images, or a scatter plot of a table of up to eight columns.

    Raises ValueError for another suffix, and where the form cannot hold the points or the condition.
    """
    path = Path(path)
    suffix = checked_suffix(path, SUFFIXES)
    x, condition = _flatten(to_tensor(x, "x"), schema, _as_tensors(condition))
    values = _plain(x, schema)
    extra: dict[str, np.ndarray] = {}
    if condition is not None:
        assert schema.condition is not None
        extra = schema.condition.decode_columns(condition)
    if suffix in TABLES:
        if schema.kind != "table":
            raise ValueError(
                f"{path}: {schema.kind}s are written as .npy, .npz" + " or .png" * (schema.kind == "image")
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_table(path, values, schema, extra)
    elif suffix == ".npy":
        if extra:
            raise ValueError(f"{path}: .npy holds one array and no condition; write .npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values)
    elif suffix == ".npz":
        if "x" in extra:
            raise ValueError(f"{path}: the condition is called 'x' like the data; write .csv or .parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, x=values, **extra)
    elif schema.kind == "image":
        path.parent.mkdir(parents=True, exist_ok=True)
        write_grid(path, x, schema)
    else:
        if schema.kind == "array":
            raise ValueError(f"{path}: arrays are written as .npy or .npz")
        if values.shape[1] > MOST_COLUMNS:
            raise ValueError(
                f"{path}: a plot shows at most {MOST_COLUMNS} columns, got {values.shape[1]}; write .csv"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_scatter(path, values, schema, extra)


def _as_tensors(condition: Any) -> Condition | None:
    if condition is None or isinstance(condition, Mapping):
        return map_condition(lambda part: to_tensor(part, "condition"), condition)
    return to_tensor(condition, "condition")


def _flatten(x: Tensor, schema: Schema, condition: Condition | None) -> tuple[Tensor, Condition | None]:
    """Points ``(N, *event)`` and the condition of each."""
    x = x.detach().cpu()
    x = x.float() if x.dtype.is_floating_point and x.dtype.itemsize < 4 else x
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


def _plain(x: Tensor, schema: Schema) -> np.ndarray:
    """Points as NumPy, whole pixels as bytes where they fit."""
    if schema.levels is not None:
        low, high, step = schema.levels
        if (
            low >= 0
            and high <= 255
            and float(step).is_integer()
            and bool((x == x.round().clamp(0, 255)).all())
        ):
            return x.to(torch.uint8).numpy()
    return x.numpy()


def _whole(values: np.ndarray, rounded: bool) -> np.ndarray:
    """Values as integers, where they are in the range of these, and whole or to be ``rounded``."""
    if values.dtype.kind != "f" or not bool((np.abs(values) < 2.0**63).all()):
        return values
    nearest = np.rint(values)
    return nearest.astype(np.int64) if rounded or bool((nearest == values).all()) else values


def _write_table(path: Path, x: np.ndarray, schema: Schema, extra: dict[str, np.ndarray]) -> None:
    columns = dict(zip(schema.columns or default_names(x.shape[1]), x.T))
    for part, rounded in ((columns, True), (extra, False)):
        part |= {name: _whole(part[name], rounded) for name in part if name in schema.integers}
    columns |= extra
    if path.suffix.lower() == ".parquet":
        import pandas as pd

        pd.DataFrame(columns).to_parquet(path, index=False)
    else:
        # the shortest texts that read back as the same numbers
        write_text(path, list(columns), zip(*(values.astype(str).tolist() for values in columns.values())))


def write_text(path: Path, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A text table: cells with commas between them, or tabs where the suffix is ``.tsv``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
