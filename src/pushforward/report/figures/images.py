"""Figures of image data: grids of data and samples, samples with their nearest training images."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..formatting import number
from ..loaded_run import LoadedRun
from ..memorisation import Memorisation
from .style import FULL, GREY, HALF, INK, NARROW, Picture, canvas, dress

#: Rows of the grids at most, and images in a row.
MOST_ROWS, ACROSS = 10, 8


def shades(loaded: LoadedRun, x: Tensor) -> np.ndarray:
    """Images ``(n, C, H, W)`` or ``(n, H, W)`` as ``(n, H, W)`` or ``(n, H, W, 3)`` in [0, 1]."""
    low, high = loaded.shade_ends
    images = ((x.double() - low) / ((high - low) or 1.0)).clamp(0, 1)
    if images.ndim == 3:
        images = images[:, None]
    if images.shape[1] == 3:
        return images.permute(0, 2, 3, 1).numpy()
    return images[:, 0].numpy()


def sheet(images: list[np.ndarray], across: int, gap: int = 1) -> np.ndarray:
    """Images in rows of ``across`` with a margin between them."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // across)
    extent = (rows * (height + gap) + gap, across * (width + gap) + gap)
    out = np.full((*extent, *images[0].shape[2:]), np.nan)
    for index, image in enumerate(images):
        top, left = gap + index // across * (height + gap), gap + index % across * (width + gap)
        out[top : top + height, left : left + width] = image
    return out


def show(ax: Axes, page: np.ndarray) -> None:
    if page.ndim == 3:
        ax.imshow(np.nan_to_num(page, nan=0.93), interpolation="nearest")
    else:
        # Light strokes on dark paper or the other way round: most pixels are paper, and paper is white.
        colours = GREY if np.nanmean(page) < 0.5 else GREY.reversed()
        colours = colours.with_extremes(bad="#e4e8ed")
        ax.imshow(np.ma.masked_invalid(page), cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def grids(loaded: LoadedRun) -> list[Picture]:
    """Held-out images and samples, a row for every label where there are labels."""
    pictures = []
    names = [str(name) for name in loaded.classes[:MOST_ROWS]]
    data_title = "Data, held out" if loaded.held_out else "Data"
    for name, title, x, condition in (
        ("data", data_title, loaded.test.x, loaded.condition(loaded.test)),
        ("samples", "Samples of the model", loaded.drawn.x, loaded.sampled_condition),
    ):
        images = shades(loaded, x)
        if names and isinstance(condition, Tensor):
            chosen = []
            for label in range(len(names)):
                rows = (condition == label).nonzero()[:ACROSS, 0].tolist()
                blank = np.full_like(images[0], np.nan)
                chosen += [images[row] for row in rows] + [blank] * (ACROSS - len(rows))
        else:
            chosen = list(images[: MOST_ROWS * ACROSS])
        page = sheet(chosen, ACROSS)
        lines = -(-len(chosen) // ACROSS)
        figure, axes = canvas(HALF, 1.0 + 0.5 * lines * page.shape[0] / page.shape[1] * ACROSS / lines + 0.2)
        y = "label asked for" if names and name == "samples" else "label" if names else "row of the grid"
        ax = dress(axes[0, 0], title, "images in the order of their drawing", y, grid=False)
        show(ax, page)
        height = images[0].shape[0] + 1
        ax.set_xticks([])
        ax.set_yticks([height * (i + 0.5) for i in range(lines)], names or [str(i + 1) for i in range(lines)])
        text = (
            "The first images of every label, not selected." if names else "The first images, not selected."
        )
        if name == "samples":
            text += " They should be as sharp and as varied as the data, and none of them a copy of another."
        if loaded.labelled and len(loaded.classes) > MOST_ROWS:
            text += f" The first {MOST_ROWS} of {len(loaded.classes)} labels."
        pictures.append(Picture(name, figure, text, f"Grid of images: {title.lower()}.", photos=True))
    return pictures


def twins(loaded: LoadedRun, memory: Memorisation) -> Picture:
    """Samples above their nearest training images: the nearest of all and some others."""
    distance = memory.distances["model"]
    order = distance.argsort()
    count = min(12, len(order))
    near = count // 2
    rest = order[torch.linspace(near, len(order) - 1, count - near).long()]
    chosen = torch.cat([order[:near], rest])
    samples = shades(loaded, loaded.drawn.x[chosen])
    train = shades(loaded, memory.train[memory.index[chosen]])
    width, height = samples[0].shape[1] + 1, samples[0].shape[0] + 1
    unit = f"distance of the two in {loaded.unit} (held-out images: {number(_apart(memory))} in the median)"

    def draw(across: int, inches: float) -> Figure:
        """Pairs in rows of ``across``."""
        rows = [range(i, min(i + across, count)) for i in range(0, count, across)]
        high = 1.2 + (len(rows) - 1) * 0.6 + len(rows) * (inches - 0.8) * 2 * height / (across * width)
        figure, axes = canvas(inches, high, len(rows))
        for ax, row in zip(axes[:, 0], rows):
            title = "Samples and their nearest training images" if row.start == 0 else ""
            dress(ax, title, unit if across == count else "", "", grid=False)
            ax.set_ylabel("image", color=INK)
            blank = [np.full_like(samples[0], np.nan)] * (across - len(row))
            shown = [*(samples[i] for i in row), *blank, *(train[i] for i in row), *blank]
            show(ax, sheet(shown, across))
            ax.set_xticks(
                [width * (i + 0.5) for i in range(len(row))],
                [number(float(distance[chosen[i]])) for i in row],
            )
            ax.set_yticks([height * 0.5, height * 1.5], ["sample", "training"])
        if across < count:
            axes[-1, 0].set_xlabel(unit.replace(" (", "\n("), fontsize=10, color=INK)
        return figure

    text = (
        f"Left: the {near} samples of {len(order):,} that come nearest to a training image. Right: others, "
        "up to the farthest. A model that memorises shows the same image twice."
    )
    alt = "Samples above the training images nearest to them."
    return Picture("neighbours", draw(count, FULL), text, alt, "full", draw(min(count, 4), NARROW), True)


def _apart(memory: Memorisation) -> float:
    """Median distance of held-out rows to their nearest training row."""
    return float(memory.distances["real"].median())
