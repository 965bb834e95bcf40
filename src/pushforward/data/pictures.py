"""Samples as pictures: a grid of images, a scatter plot of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .schema import Schema
from .tables import default_names

__all__ = [
    "MOST_COLUMNS",
    "MOST_PIXELS",
    "MOST_POINTS",
    "check_grid",
    "check_scatter",
    "write_grid",
    "write_scatter",
]

#: The most columns a pair plot shows.
MOST_COLUMNS = 8
#: The most points of a plot, and the most pixels of a sheet of images.
MOST_POINTS, MOST_PIXELS = 1_000_000, 50_000_000


def check_scatter(path: Path, rows: int) -> None:
    """Raise ValueError for more points than a plot takes."""
    if rows > MOST_POINTS:
        raise ValueError(f"{path}: a plot takes at most {MOST_POINTS:,} rows, got {rows:,}; write .csv")


def check_grid(path: Path, schema: Schema, rows: int) -> None:
    """Raise ValueError for more images than a sheet takes."""
    height, width = _sheet(schema.event_shape, rows)
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"{path}: {rows:,} images make a sheet of {width:,} x {height:,} pixels, more than "
            f"{MOST_PIXELS:,}; take fewer, or write .npz"
        )


def _zoom(shape: Sequence[int]) -> int:
    """How often a small image is enlarged."""
    return max(1, 32 // max(shape[1:]))


def _sheet(shape: Sequence[int], count: int) -> tuple[int, int]:
    """Height and width of ``count`` images ``(C, H, W)`` side by side, a line between them.

    >>> _sheet((1, 8, 8), 5)
    (65, 98)
    """
    columns = math.ceil(math.sqrt(count))
    lines, zoom = -(-count // columns), _zoom(shape)
    return lines * (zoom * shape[1] + 1) - 1, columns * (zoom * shape[2] + 1) - 1


def write_grid(path: Path, x: Tensor, schema: Schema) -> None:
    """Images ``(N, C, H, W)`` side by side, small ones enlarged, a white line between them.

    Black and white are the ends of the schema's levels, or of the images where it has none.
    """
    from PIL import Image

    low, high = schema.levels[:2] if schema.levels else (x.min().item(), x.max().item())
    scaled = (255 * (x.double() - low) / max(high - low, 1e-12)).round().clamp(0, 255).to(torch.uint8)
    count, channels, height, width = scaled.shape
    zoom = _zoom(scaled.shape[1:])
    tiles = scaled.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3).numpy()
    height, width = tiles.shape[2:]
    columns = math.ceil(math.sqrt(count))
    sheet = np.full((*_sheet(x.shape[1:], count), channels), 255, dtype=np.uint8)
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = tile.transpose(1, 2, 0)
    Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet).save(path)


def write_scatter(path: Path, x: np.ndarray, schema: Schema, extra: Mapping[str, np.ndarray]) -> None:
    """A histogram of one column, a scatter plot of two, all pairs of more; colours show the condition."""
    from matplotlib.figure import Figure

    d, names = x.shape[1], schema.columns or default_names(x.shape[1])
    title = f"{len(x):,} samples of {schema.name}"
    size = min(1.5 + 600 / len(x), 12)
    few = d <= 2
    figure = Figure(figsize=(5.5, 5) if few else (1.8 * d + 1, 1.8 * d), dpi=130, layout="constrained")
    figure.suptitle(title)
    grid: Any = figure.subplots(1 if few else d, 1 if few else d, squeeze=False, sharex="col")
    points: Any = None
    if d == 2:
        points = _scatter(grid[0, 0], x, size, schema, extra)
        grid[0, 0].set(xlabel=names[0], ylabel=names[1])
    elif d == 1:
        grid[0, 0].hist(x[:, 0], bins=60)
        grid[0, 0].set(xlabel=names[0], ylabel="rows")
    else:
        for i, j in np.ndindex(d, d):
            axes = grid[i, j]
            if i == j:
                axes.hist(x[:, i], bins=40, color="grey")
                axes.set_yticks([])
            else:
                points = _scatter(axes, x[:, [j, i]], size / 2, schema, extra)
            axes.tick_params(labelsize=6)
            if i == d - 1:
                axes.set_xlabel(names[j], fontsize=7)
            if j == 0:
                axes.set_ylabel(names[i], fontsize=7)
    if points is not None and extra:
        label = _shown(schema, extra)
        if points.get_array() is None:
            handles, texts = grid[0, min(1, d - 2)].get_legend_handles_labels()
            figure.legend(handles, texts, title=label, loc="outside right center", markerscale=12 / size)
        else:
            figure.colorbar(points, ax=grid, label=label)
    figure.savefig(path)


def _shown(schema: Schema, extra: Mapping[str, np.ndarray]) -> str:
    """The column of the condition that colours show: the first of labels, else the first of all."""
    labels = () if schema.condition is None else schema.condition.label_columns
    return next(name for name in (*labels, *extra) if name in extra)


def _scatter(axes: Any, x: np.ndarray, size: float, schema: Schema, extra: Mapping[str, np.ndarray]) -> Any:
    """Points in a colour per label where there are at most ten, else by the condition's value."""
    style = {"s": size, "linewidths": 0, "rasterized": True}
    if not extra or schema.condition is None:
        return axes.scatter(x[:, 0], x[:, 1], **style)
    name = _shown(schema, extra)
    values = extra[name]
    if name not in schema.condition.label_columns:
        return axes.scatter(x[:, 0], x[:, 1], c=values, **style)
    classes, index = np.unique(values, return_inverse=True)
    if len(classes) > 10:
        return axes.scatter(x[:, 0], x[:, 1], c=index, **style)
    points = None
    for k, text in enumerate(classes):
        points = axes.scatter(*x[index == k].T, color=f"C{k}", label=str(text), **style)
    return points
