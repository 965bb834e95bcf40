"""Writing samples: tables, arrays, pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .schema import Schema
from .tables import default_names

#: What :func:`write_rows` can write.
SUFFIXES = (".csv", ".tsv", ".parquet", ".npy", ".npz", ".png")
#: The most columns a pair plot shows.
MOST_COLUMNS = 8


def write_rows(path: Path | str, x: Tensor, schema: Schema, condition: Tensor | None = None) -> None:
    """Write points in the form that the suffix of ``path`` names; folders are made as needed.

    x: ``(N, *event)`` in data units, or with further dimensions in front, ``(n, B, *event)``, which are
        flattened; ``condition`` is broadcast to them.
    ``.csv``, ``.tsv``, ``.parquet``: tables, with columns by name and the condition's as the user knows it.
    ``.npy``: the points alone.  ``.npz``: the points as ``x``, the condition by its name.  Whole pixels that
        fit are written as bytes.
    ``.png``: a grid of images, or a scatter plot of a table of up to eight columns.

    Raises ValueError for another suffix, and where the form cannot hold the points or the condition.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{path}: cannot write {suffix or 'without a suffix'!r}; known: {', '.join(SUFFIXES)}"
        )
    x, condition = _flatten(x, schema, condition)
    values = _plain(x, schema)
    extra: dict[str, np.ndarray] = {}
    if condition is not None:
        assert schema.condition is not None
        extra = schema.condition.decode_columns(condition)
    if suffix in (".csv", ".tsv", ".parquet"):
        if schema.kind != "table":
            raise ValueError(
                f"{path}: {schema.kind}s are written as .npy, .npz" + " or .png" * (schema.kind == "image")
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_table(path, values, schema.columns or default_names(values.shape[1]), extra)
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
        _write_grid(path, x, schema)
    else:
        if schema.kind == "array":
            raise ValueError(f"{path}: arrays are written as .npy or .npz")
        if values.shape[1] > MOST_COLUMNS:
            raise ValueError(
                f"{path}: a plot shows at most {MOST_COLUMNS} columns, got {values.shape[1]}; write .csv"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_pairs(path, values, schema, extra)


def _flatten(x: Tensor, schema: Schema, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Points ``(N, *event)`` and the condition of each."""
    x = x.detach().cpu()
    x = x.float() if x.dtype.is_floating_point and x.dtype.itemsize < 4 else x
    d = len(schema.event_shape)
    lead, event = x.shape[: x.ndim - d], x.shape[x.ndim - d :]
    if not lead or tuple(event) != schema.event_shape:
        raise ValueError(
            f"x: expected shape (rows, {', '.join(map(str, schema.event_shape))}), got {tuple(x.shape)}"
        )
    if condition is not None:
        if schema.condition is None:
            raise ValueError("condition: the data have none, got one")
        inner = 0 if schema.condition.kind == "labels" or len(schema.condition.columns) == 1 else 1
        own = condition.shape[condition.ndim - inner :]
        try:
            condition = condition.detach().cpu().broadcast_to((*lead, *own)).reshape(-1, *own)
        except RuntimeError:
            raise ValueError(
                f"condition: expected one or as many as rows {tuple(lead)}, "
                f"got shape {tuple(condition.shape)}"
            ) from None
    return x.reshape(-1, *event), condition


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


def _write_table(path: Path, x: np.ndarray, names: tuple[str, ...], extra: dict[str, np.ndarray]) -> None:
    import pandas as pd

    frame = pd.DataFrame({**{name: x[:, i] for i, name in enumerate(names)}, **extra})
    if path.suffix.lower() == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix.lower() == ".tsv" else ",")


def _write_grid(path: Path, x: Tensor, schema: Schema) -> None:
    """Images side by side, small ones enlarged, with a line of background between them."""
    from PIL import Image

    low, high = schema.levels[:2] if schema.levels else (x.min().item(), x.max().item())
    scaled = (255 * (x.double() - low) / max(high - low, 1e-12)).round().clamp(0, 255).to(torch.uint8)
    count, channels, height, width = scaled.shape
    zoom = max(1, 32 // max(height, width))
    tiles = scaled.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3).numpy()
    height, width = tiles.shape[2:]
    columns = math.ceil(math.sqrt(count))
    lines = -(-count // columns)
    sheet = np.full((lines * (height + 1) - 1, columns * (width + 1) - 1, channels), 255, dtype=np.uint8)
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = tile.transpose(1, 2, 0)
    Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet).save(path)


def _write_pairs(path: Path, x: np.ndarray, schema: Schema, extra: dict[str, np.ndarray]) -> None:
    """A histogram of one column, a scatter plot of two, all pairs of more; colours show the condition."""
    from matplotlib.figure import Figure

    d, names = x.shape[1], schema.columns or default_names(x.shape[1])
    title = f"{len(x):,} samples of {schema.name}"
    size = min(1.0 + 300 / max(len(x), 1), 12)
    hue, label = _colours(extra)
    if d <= 2:
        figure = Figure(figsize=(5, 5), dpi=150, layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        axes.set_xlabel(names[0])
        if d == 1:
            axes.hist(x[:, 0], bins=60)
            axes.set_ylabel("rows")
        else:
            points = axes.scatter(x[:, 0], x[:, 1], s=size, c=hue, linewidths=0, rasterized=True)
            axes.set_ylabel(names[1])
            if hue is not None:
                figure.colorbar(points, ax=axes, label=label)
    else:
        figure = Figure(figsize=(1.8 * d, 1.8 * d), dpi=110, layout="constrained")
        figure.suptitle(title if hue is None else f"{title}, coloured by {label}")
        grid = figure.subplots(d, d, sharex="col")
        for i, j in np.ndindex(d, d):
            axes = grid[i, j]
            if i == j:
                axes.hist(x[:, i], bins=40)
            else:
                axes.scatter(x[:, j], x[:, i], s=size / 2, c=hue, linewidths=0, rasterized=True)
            axes.tick_params(labelsize=6)
            if i == d - 1:
                axes.set_xlabel(names[j], fontsize=7)
            if j == 0:
                axes.set_ylabel("rows" if i == 0 else names[i], fontsize=7)
    figure.savefig(path)


def _colours(extra: dict[str, np.ndarray]) -> tuple[np.ndarray | None, str]:
    """A number per row that shows the first column of the condition."""
    for name, values in extra.items():
        if values.dtype.kind in "iuf":
            return values, name
        classes, index = np.unique(values, return_inverse=True)
        return index, f"{name} ({', '.join(f'{i} {c}' for i, c in enumerate(classes[:10]))})"
    return None, ""
