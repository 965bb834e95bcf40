"""Figures of rows of two numbers: scatter, density, the distribution at five times, trajectories."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.image import AxesImage
from scipy.ndimage import zoom
from torch import Tensor

from ...solvers import Tsit5
from ..budget import LOOSE_EVALUATIONS
from ..densities import has_density, log_prob
from ..dynamics import to_data, trajectory
from ..loaded_run import LoadedRun
from .style import DATA, DENSITY, HALF, INK, LABELS, MODEL, NARROW, Picture, canvas, dress, legend, limits

#: Times at which the distribution is drawn.
TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Height over width of a plane within which both axes have one scale.
EQUAL = (0.3, 1.5)
#: So many times as wide as the data a source may be in pictures whose axes hold both.
FAR = 5.0
#: The axes of a plane.
Ranges = list[tuple[float, float]]


def order(loaded: LoadedRun) -> list[int]:
    """Which column is drawn along which axis: as they come, but longitude always from left to right."""
    told = getattr(loaded.flow.preprocess, "axes", None)
    if told is not None:
        return told
    first, second = (name.strip().lower() for name in loaded.names)
    return [1, 0] if first.startswith("lat") and second.startswith("lon") else [0, 1]


def axis_names(loaded: LoadedRun) -> tuple[str, str]:
    across, up = order(loaded)
    return loaded.names[across], loaded.names[up]


def in_plane(loaded: LoadedRun, x: Tensor) -> np.ndarray:
    """Rows ``(n, 2)`` in the order of the axes."""
    return x.double().reshape(len(x), 2).numpy()[:, order(loaded)]


def ranges_of(loaded: LoadedRun, *clouds: np.ndarray, margin: float = 0.06) -> Ranges:
    """The ranges of both axes: the whole of a space that has an end, else those of the points."""
    if loaded.box is not None:
        return [loaded.box[i] for i in order(loaded)]
    return [limits(*(cloud[:, i] for cloud in clouds), margin=margin) for i in (0, 1)]


def _colours(labels: Tensor | None, count: int, plain: str) -> list[str] | str:
    if labels is None:
        return plain
    return [LABELS[int(label) % len(LABELS)] for label in labels[:count]]


def _label_keys(loaded: LoadedRun, ax: Axes) -> None:
    """Name the colours of the labels, if there are few enough to tell apart."""
    if loaded.labelled and len(loaded.classes) <= len(LABELS):
        for name, colour in zip(loaded.classes, LABELS):
            ax.plot([], [], "o", color=colour, markersize=4, label=str(name))
        legend(ax, loc="best", markerscale=1.2, ncols=2 if len(loaded.classes) > 5 else 1, fontsize=8)


def square(ax: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    ax.set_xlim(*x)
    ax.set_ylim(*y)
    if EQUAL[0] < (y[1] - y[0]) / (x[1] - x[0]) < EQUAL[1]:
        ax.set_aspect("equal")


def plane_height(ranges: Ranges, across: float) -> float:
    """Inches that a plane needs whose axes are ``across`` wide, so that equal axes leave no empty paper."""
    (left, right), (low, high) = ranges
    ratio = (high - low) / (right - left)
    return 0.95 + across * (min(ratio, 1.15) if EQUAL[0] < ratio < EQUAL[1] else 0.8)


def scatter(loaded: LoadedRun) -> list[Picture]:
    """Held-out rows and samples side by side, on equal axes."""
    count = min(loaded.rows, 1000)
    data, model = in_plane(loaded, loaded.reference.x[:count]), in_plane(loaded, loaded.drawn.x[:count])
    ranges = ranges_of(loaded, data, model)
    labels = loaded.labels(loaded.reference)
    pictures = []
    for name, title, cloud, colour in (
        ("data", "Data, held out" if loaded.held_out else "Data", data, DATA),
        ("samples", "Samples of the model", model, MODEL),
    ):
        figure, axes = canvas(HALF, plane_height(ranges, 4.0))
        ax = dress(axes[0, 0], f"{title}, {count:,} rows", *axis_names(loaded))
        ax.scatter(*cloud.T, s=7, c=_colours(labels, count, colour), alpha=0.55, linewidths=0)
        square(ax, ranges[0], ranges[1])
        _label_keys(loaded, ax)
        text = f"{count:,} rows. Both panels have the same axes, and should look alike."
        pictures.append(Picture(name, figure, text, f"Scatter plot: {title.lower()}."))
    return pictures


def density(loaded: LoadedRun) -> list[Picture]:
    """The model's density with the data, and the distribution at five times."""
    reason = has_density(loaded)
    if reason:
        return [_moving_points(loaded)]
    if loaded.spec is not None and not loaded.labelled:
        return [_moving_points(loaded)]
    names = axis_names(loaded)
    data = in_plane(loaded, loaded.test.x)
    ranges = ranges_of(loaded, data, margin=0.12)
    side = grid_side(loaded, "density", 0.2, 60)
    z = grid_density(loaded, ranges, side, of_velocity(loaded, 1.0))
    figure, axes = canvas(HALF, plane_height(ranges, 3.3))
    ax = dress(axes[0, 0], "Density of the model", names[0], names[1], grid=False)
    mapped = heat(ax, z, ranges)
    bar = figure.colorbar(mapped, ax=ax, pad=0.02, aspect=28)
    bar.set_label("density", fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    shown = data[:1000]
    ax.scatter(*shown.T, s=1.5, c=DATA, alpha=0.5, linewidths=0)
    square(ax, ranges[0], ranges[1])
    per = loaded.run.recipe.per or f"unit of {names[0]} and {names[1]}"
    text = f"Per {per}: exp(log_prob) on a grid of {side} × {side}, smoothed. "
    text += f"Dots are {len(shown):,} held-out rows. Colours follow the square root, which shows the tails."
    first = Picture("density", figure, text, "Heat map of the model's density with held-out rows as dots.")
    return [first, _moving_density(loaded, ranges)]


def grid_side(loaded: LoadedRun, name: str, share: float, most: int) -> int:
    """Grid points per side that a share of the budget pays for."""
    classes = len(loaded.classes) or 1
    per_row = LOOSE_EVALUATIONS * (1 + 2.5 * loaded.size) * classes
    return max(
        16,
        int(
            loaded.budget.affordable(f"points of the figure of the {name}", most * most, share, per_row)
            ** 0.5
        ),
    )


def heat(ax: Axes, z: np.ndarray, ranges: Ranges, top: float | None = None) -> AxesImage:
    """The density ``z``, darkest at ``top``, or by itself."""
    # A spike of a few cells would leave everything else white.
    top = float(np.quantile(z, 0.999)) if top is None else top
    shades = PowerNorm(0.5, vmin=0.0, vmax=top or 1.0)
    return ax.imshow(
        z,
        origin="lower",
        extent=(*ranges[0], *ranges[1]),
        cmap=DENSITY,
        norm=shades,
        interpolation="bilinear",
        aspect="auto",
    )


def grid_density(
    loaded: LoadedRun, ranges: Ranges, side: int, log_p: Callable[[Tensor, Tensor | None], Tensor]
) -> np.ndarray:
    """A density on a grid, averaged over labels by their share in training, for display.

    log_p: its logarithm ``(n,)``, of points and the labels of these or None.
    """
    axes = [torch.linspace(low, high, side, dtype=torch.float64) for low, high in ranges]
    y, x = torch.meshgrid(axes[1], axes[0], indexing="ij")
    points = torch.stack([x, y], -1)[..., order(loaded)].reshape(-1, *loaded.event)
    points = points.to(loaded.train.x.dtype)
    labels = loaded.labels(loaded.train)
    if labels is None:
        value = log_p(points, None)
    else:
        value = torch.full((len(points),), -torch.inf, dtype=torch.float64)
        for label, count in zip(*labels.unique(return_counts=True)):
            share = math.log(float(count) / len(labels))
            found = log_p(points, torch.full((len(points),), int(label)))
            value = value.logaddexp(share + found.nan_to_num(-1e9))
    return _fine(value.reshape(side, side).numpy())


def of_velocity(loaded: LoadedRun, t: float) -> Callable[[Tensor, Tensor | None], Tensor]:
    """log p_t along the velocity field, roughly, for :func:`grid_density`."""
    solver = Tsit5(rtol=1e-2, atol=1e-2)
    return lambda x, labels: log_prob(loaded, x, labels, t, "grid", solver=solver, strict=False)[0]


def _fine(log_p: np.ndarray) -> np.ndarray:
    """The density on a grid five times as fine: cubic in the logarithm, which is smooth where p is not."""
    top = float(np.nanmax(log_p, initial=-1e9, where=np.isfinite(log_p)))
    known = np.clip(np.nan_to_num(log_p, nan=-np.inf), top - 12.0, top)
    finer = np.asarray(zoom(known, 5, order=3, mode="nearest", grid_mode=False))
    return np.exp(np.minimum(finer, top))


def _moving_density(loaded: LoadedRun, ranges: Ranges) -> Picture:
    """The density at five times, from the source to the data."""
    frames = _frames(loaded, ranges)
    side = grid_side(loaded, "density at five times", 0.04, 36)
    grids = [grid_density(loaded, frame, side, of_velocity(loaded, t)) for frame, t in zip(frames, TIMES)]

    def panel(ax: Axes, index: int) -> None:
        dress(ax, f"t = {TIMES[index]:g}", *axis_names(loaded), grid=False)
        heat(ax, grids[index], frames[index])

    text = (
        "The distribution that the flow moves, from the source at t = 0 to the data at t = 1, in data units; "
        f"each panel has its own colour scale{_own_axes(frames, ' and its own axes')}. The last one should "
        "look like the data, without mass between clusters that are separate."
    )
    return _times(frames, panel, text, "Five heat maps of the density from source to data.")


def _times(frames: list[Ranges], panel: Callable[[Axes, int], None], text: str, alt: str) -> Picture:
    """Five panels in a row, which share the vertical axis where they can; in two columns on a telephone."""
    shared, figures = frames[0] == frames[-1], []
    for width, across, each in ((12.6, len(TIMES), 2.3), (NARROW, 2, 1.7)):
        lines = -(-len(TIMES) // across)
        height = max(plane_height(frame, each) for frame in frames)
        figure, axes = canvas(width, height * lines, lines, across, sharey=shared)
        for index, ax in enumerate(axes.flat):
            if index >= len(TIMES):
                ax.set_visible(False)
                continue
            panel(ax, index)
            square(ax, *frames[index])
            if not shared:  # of one height, whatever their axes
                ax.set_aspect("auto")
            ax.yaxis.label.set_visible(index % across == 0)
            ax.xaxis.label.set_visible(index >= len(TIMES) - across)
        figures.append(figure)
    return Picture("times", figures[0], text, alt, "full", figures[1])


def _frames(loaded: LoadedRun, ranges: Ranges) -> list[Ranges]:
    """The axes of the five panels: one for all, or of each its own where the source is far wider."""
    if loaded.box is not None:
        return [ranges] * len(TIMES)
    wide = _wide(loaded, ranges)
    if not _far(wide, ranges):
        return [wide] * len(TIMES)
    path, _, _ = trajectory(loaded, 200, torch.tensor(TIMES), "frames")
    clouds = [in_plane(loaded, cloud) for cloud in to_data(loaded, path)[:-1]]
    return [*([limits(cloud[:, i], tails=0.005) for i in (0, 1)] for cloud in clouds), ranges]


def _far(wide: Ranges, ranges: Ranges) -> bool:
    """Whether one of the axes is so wide that nothing could be seen of the data."""
    return any(a[1] - a[0] > FAR * (b[1] - b[0]) for a, b in zip(wide, ranges))


def _own_axes(frames: list[Ranges], told: str) -> str:
    """What a caption says of panels with axes of their own, with the reason."""
    return "" if frames[0] == frames[-1] else f"{told}, because the source is far wider than the data"


def _wide(loaded: LoadedRun, ranges: Ranges) -> Ranges:
    """Ranges that hold both the source, seen in data units, and the data."""
    assert loaded.inner is not None
    condition = loaded.condition(loaded.test, 500)
    start = loaded.inner.source.sample(500, condition, loaded.generator("wide"))
    x = in_plane(loaded, loaded.sampler.outwards(start.to(loaded.device)))
    both = [limits(x[:, i], margin=0.02, tails=0.005) for i in (0, 1)]
    return [(min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(both, ranges)]


def _moving_points(loaded: LoadedRun) -> Picture:
    """Samples at five times from source to data, where no density can be drawn."""
    path, condition, _ = trajectory(loaded, 1000, torch.tensor(TIMES), "times")
    x = to_data(loaded, path)
    clouds = [in_plane(loaded, cloud) for cloud in x]
    each = [[limits(cloud[:, i], tails=0.002) for i in (0, 1)] for cloud in clouds]
    wide = [limits(*(cloud[:, i] for cloud in clouds), tails=0.002) for i in (0, 1)]
    frames = each if _far(wide, each[-1]) else [wide] * len(TIMES)
    labels = condition if loaded.labelled and isinstance(condition, Tensor) else None

    def panel(ax: Axes, index: int) -> None:
        cloud = clouds[index]
        dress(ax, f"t = {TIMES[index]:g}", *axis_names(loaded))
        ax.scatter(*cloud.T, s=4, c=_colours(labels, len(cloud), MODEL), alpha=0.5, linewidths=0)

    text = (
        f"{len(clouds[0]):,} points as they move from the source at t = 0 to the data at t = 1. The last "
        f"panel should look like the data{_own_axes(frames, '; each has its own axes')}."
    )
    return _times(frames, panel, text, "Five scatter plots of points from source to data.")


def unbroken(loaded: LoadedRun, x: np.ndarray) -> np.ndarray:
    """Lines ``(times, n, 2)`` with gaps where they leave one side of a map and enter at the other."""
    if loaded.box is None:
        return x
    sizes = np.array([high - low for low, high in ranges_of(loaded)])
    leaps = (np.abs(np.diff(x, axis=0)) > sizes / 2).any(-1)
    broken = x.copy()
    broken[1:][leaps] = np.nan
    return broken


def trajectories(loaded: LoadedRun) -> Picture:
    """The trajectories of a hundred points."""
    path, _, _ = trajectory(loaded, 120, torch.linspace(0, 1, 41), "ways", leap=True)
    x = to_data(loaded, path).double().reshape(41, -1, 2).numpy()[..., order(loaded)]
    ranges, ends = ([limits(part[..., i], tails=0) for i in (0, 1)] for part in (x, x[-1]))
    if loaded.box is not None:
        ranges = ends = ranges_of(loaded)
    outside = _far(ranges, ends)
    if outside:  # what is there of the trajectories about the data
        ranges = [(low - (high - low), high + (high - low)) for low, high in ends]
    figure, axes = canvas(HALF, plane_height(ranges, 4.0))
    ax = dress(axes[0, 0], "Trajectories", *axis_names(loaded))
    lines = unbroken(loaded, x)
    ax.plot(lines[..., 0], lines[..., 1], color="#9aa5b1", linewidth=0.7, alpha=0.7)
    if not outside:
        look = {"facecolors": "white", "edgecolors": INK, "linewidths": 0.8, "label": "source, t = 0"}
        ax.scatter(*x[0].T, s=14, zorder=3, **look)
    ax.scatter(*x[-1].T, s=14, color=MODEL, linewidths=0, zorder=3, label="data, t = 1")
    square(ax, ranges[0], ranges[1])
    legend(ax, loc="best")
    text = (
        "Trajectories of 120 points from source to data, in data units. Straight ones need few evaluations. "
        "Points that end between clusters of the data are errors of the model."
    )
    if outside:
        text += " They start outside of the picture, because the source is far wider than the data."
    return Picture("trajectories", figure, text, "Lines from source points to data points.")
