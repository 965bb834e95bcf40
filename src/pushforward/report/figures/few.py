"""Figures of flow maps: one step beside many from the same noise, the composition error over times, and the
density of a head."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..formatting import number
from ..heads import HeadDensity, by_head
from ..leaps import MANY, Leaps
from ..loaded_run import LoadedRun
from . import images, planar
from .style import DATA, FULL, GREY, HALF, INK, MODEL, NARROW, Picture, canvas, dress, legend, limits

#: Images in a row on a page, and on a telephone; columns that are drawn of a table.
ACROSS, FEW, COLUMNS = 12, 6, 4
#: Points of a scatter.
POINTS = 400


def leaps(loaded: LoadedRun, found: Leaps) -> list[Picture]:
    """One step beside many, and the table of composition errors."""
    beside = {"plane": _plane, "image": _images}.get(loaded.look, _columns)
    return [beside(loaded, found), _table(found)]


def _plane(loaded: LoadedRun, found: Leaps) -> Picture:
    """One panel of where points end, with a line from one step to many."""
    one, many = (planar.in_plane(loaded, x[:POINTS]) for x in (found.one, found.many))
    ranges = [limits(one[:, i], many[:, i], tails=0.002) for i in (0, 1)]
    figure, axes = canvas(HALF, planar.plane_height(ranges, 4.0))
    ax = dress(axes[0, 0], f"One step and {MANY} steps from the same noise", *planar.axis_names(loaded))
    ax.plot(*np.stack([many, one], 2).transpose(1, 2, 0), color="#9aa5b1", linewidth=0.7, zorder=1)
    ax.scatter(
        *many.T, s=12, facecolors="white", edgecolors=DATA, linewidths=0.8, label=f"{MANY} steps", zorder=2
    )
    ax.scatter(*one.T, s=8, color=MODEL, linewidths=0, label="one step", zorder=3)
    planar.square(ax, ranges[0], ranges[1])
    legend(ax, loc="best")
    text = (
        f"{len(one):,} points, carried in one step of the flow map, and in {MANY} Euler steps along its "
        "velocity. A line joins the two ends of a point; a long one is an error of the map."
    )
    return Picture("one_step", figure, text, "Scatter plot of samples in one step and in many, joined.")


def _columns(loaded: LoadedRun, found: Leaps) -> Picture:
    """Values after one step against values after many, a panel for each of the first columns."""
    one, many = (
        x[:POINTS].double().reshape(min(POINTS, found.rows), -1).numpy() for x in (found.one, found.many)
    )
    count = min(COLUMNS, loaded.size)

    def panel(ax: Axes, index: int) -> None:
        dress(ax, loaded.names[index], f"after {MANY} steps", "after one step")
        ends = limits(one[:, index], many[:, index], tails=0.002)
        ax.plot(ends, ends, color=INK, linewidth=0.9, linestyle="--")
        ax.scatter(many[:, index], one[:, index], s=7, color=MODEL, alpha=0.6, linewidths=0)
        ax.set_xlim(*ends)
        ax.set_ylim(*ends)

    figure, axes = canvas(HALF if count == 1 else FULL, 3.4, 1, count)
    phone, below = canvas(NARROW, 2.9 * count, count)
    for index in range(count):
        panel(axes[0, index], index)
        panel(below[index, 0], index)
    text = (
        f"Each point is a sample: its value after one step of the flow map against that after {MANY} Euler "
        "steps along the map's velocity, from the same noise. Points off the dashed line are its errors."
    )
    if count < loaded.size:
        text += f" The first {count} of {loaded.size} columns."
    alt = "Scatter plots of values after one step against values after many."
    width = "half" if count == 1 else "full"
    return Picture("one_step", figure, text, alt, width, None if count == 1 else phone)


def _images(loaded: LoadedRun, found: Leaps) -> Picture:
    """One step above many, image by image."""
    one, many = (list(images.shades(loaded, x[:ACROSS])) for x in (found.one, found.many))
    count = len(one)
    high, wide = (size + 1 for size in one[0].shape[:2])

    def draw(across: int, inches: float) -> Figure:
        rows = [range(i, min(i + across, count)) for i in range(0, count, across)]
        tall = 0.7 + len(rows) * (0.3 + (inches - 0.8) * 2 * high / (across * wide))
        figure, axes = canvas(inches, tall, len(rows))
        for ax, row in zip(axes[:, 0], rows):
            title = f"One step and {MANY} steps from the same noise" if row.start == 0 else ""
            dress(ax, title, "", "", grid=False)
            blank = [np.full_like(one[0], np.nan)] * (across - len(row))
            shown = [*(one[i] for i in row), *blank, *(many[i] for i in row), *blank]
            images.show(ax, images.sheet(shown, across))
            ax.set_xticks([])
            ax.set_yticks([high * 0.5, high * 1.5], ["one", f"{MANY}"])
        return figure

    text = (
        f"Above: samples in one step of the flow map. Below: the same noise carried in {MANY} Euler steps "
        "along the map's velocity. The two should be the same image."
    )
    alt = "Images in one step above images in many steps."
    return Picture("one_step", draw(ACROSS, FULL), text, alt, "full", draw(FEW, NARROW), True)


def _table(found: Leaps) -> Picture:
    """The composition error over pairs of times."""
    values = np.array([[np.nan if x is None else x for x in row] for row in found.table])
    shown = np.log10(np.maximum(values, 1e-12))
    figure, axes = canvas(HALF, 4.2)
    ax = dress(axes[0, 0], "Composition error", "end t of the leap", "start s of the leap", grid=False)
    step = (found.times[-1] - found.times[0]) / (len(found.times) - 1) / 2
    ends = (found.times[0] - step, found.times[-1] + step)
    mapped = ax.imshow(shown, origin="lower", extent=(*ends, *ends), cmap=GREY, aspect="equal")
    bar = figure.colorbar(mapped, ax=ax, pad=0.02, aspect=28)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{10**value:.2g}")
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    text = (
        "E|X(u, t, X(s, u, x)) − X(s, t, x)|² over the variance at t, with u halfway between s and t; dark "
        f"is worse. Over all times s < u < t its mean is {number(found.composition)}."
    )
    return Picture("composition", figure, text, "Heat map of the composition error over pairs of times.")


def head_density(loaded: LoadedRun, found: HeadDensity) -> Picture:
    """The densities of the velocity and of the head on one plane, with one scale of colours."""
    data = planar.in_plane(loaded, loaded.test.x)
    ranges = [limits(data[:, i], margin=0.12) for i in (0, 1)]
    side = planar.grid_side(loaded, "density beside the head's", 0.1, 48)
    titles = "by the velocity", f"by the head, {found.steps} step{'s' * (found.steps != 1)}"
    of_velocity = planar.of_velocity(loaded, 1.0)
    grids = [
        planar.grid_density(loaded, ranges, side, log_p)
        for log_p in (of_velocity, lambda x, labels: by_head(loaded, x, labels, "grid"))
    ]
    top = float(np.quantile(np.stack(grids), 0.999))

    def draw(inches: float, rows: int, across: int) -> Figure:
        height = rows * planar.plane_height(ranges, inches / across - 0.6)
        figure, axes = canvas(inches, height, rows, across)
        for ax, title, z in zip(axes.flat, titles, grids):
            dress(ax, f"Density {title}", *planar.axis_names(loaded), grid=False)
            planar.heat(ax, z, ranges, top)
            planar.square(ax, *ranges)
        return figure

    text = (
        "The same flow map, with one scale of colours: the density along the velocity v(t, t, x), by an ODE, "
        "and that by the log-determinants of the head. Where they differ, the head or the leaps are off."
    )
    alt = "Two heat maps of the density, along the velocity and by the head."
    return Picture("head_density", draw(FULL, 1, 2), text, alt, "full", draw(NARROW, 2, 1))
