"""Figures of rows of many numbers: pairs of columns, marginals, lines over positions."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from ..loaded_run import LoadedRun
from .style import DATA, FULL, INK, MODEL, NARROW, Picture, canvas, dress, limits, shares

#: Columns that a pair plot and the marginals show at most.
MOST_PAIRS, MOST_MARGINALS = 8, 24


def _numpy(x: Tensor) -> np.ndarray:
    return x.double().reshape(len(x), -1).numpy()


def pairs(loaded: LoadedRun) -> Picture:
    """Every pair of columns, held-out rows beneath samples."""
    d = min(loaded.size, MOST_PAIRS)
    count = min(loaded.rows, 600)
    data, model = _numpy(loaded.reference.x[:count]), _numpy(loaded.drawn.x[:count])
    ranges = [limits(data[:, i], model[:, i]) for i in range(d)]
    dot = 4 if count > 200 else 12

    def panel(ax: Axes, i: int, j: int) -> None:
        """Column ``i`` against column ``j``; the histogram of a column against itself."""
        title = loaded.names[i] if i == j else ""
        dress(ax, title, loaded.names[j], loaded.names[i] if i != j else "share of rows", grid=i != j)
        ax.tick_params(labelsize=7)
        if i == j:
            _marginal(ax, data[:, i], model[:, i], ranges[i])
        else:
            ax.scatter(data[:, j], data[:, i], s=dot, color=DATA, alpha=0.4, linewidths=0)
            ax.scatter(model[:, j], model[:, i], s=dot, color=MODEL, alpha=0.4, linewidths=0)
            ax.set_ylim(*ranges[i])
        ax.set_xlim(*ranges[j])

    side = min(12.0, 2.6 + 1.9 * d)
    figure, axes = canvas(side, side, d, d)
    for i in range(d):
        for j in range(d):
            ax = axes[i, j]
            if j > i:
                ax.set_visible(False)
                continue
            panel(ax, i, j)
            ax.xaxis.label.set_visible(i == d - 1)
            ax.yaxis.label.set_visible(j == 0)
    _headed(figure, "Every pair of columns")
    # the histograms of the diagonal are among the marginals too, and a telephone does without them here
    beside = [(i, j) for i in range(d) for j in range(i)]
    narrow, axes = panels(len(beside), 2, 2.0)
    for ax, (i, j) in zip(axes, beside):
        panel(ax, i, j)
    _headed(narrow, "Every pair of columns")
    text = (
        f"{count:,} held-out rows (blue) and as many samples (orange). Both should cover the same regions. "
        "Orange without blue is what the model invents; blue without orange is what it misses."
    )
    if loaded.size > d:
        text += f" The first {d} of {loaded.size} columns."
    alt = "Scatter plots of all pairs of columns, data and samples."
    return Picture("pairs", figure, text, alt, "full", narrow)


def panels(count: int, across: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure for a telephone with ``count`` panels, ``across`` in a row, each ``height`` inches high."""
    lines = -(-count // across)
    figure, axes = canvas(NARROW, 0.5 + height * lines, lines, across)
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    return figure, list(axes.flat[:count])


def _headed(figure: Figure, title: str) -> None:
    """A title at the left, and what the colours are: at the right, on a telephone at the foot."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    handles = [Patch(color=DATA, label="held-out rows"), Patch(color=MODEL, label="samples")]
    wide = figure.get_figwidth() > NARROW
    where = "outside upper right" if wide else "outside lower left"
    figure.legend(handles=handles, loc=where, frameon=False, fontsize=10, ncols=2)


def _marginal(ax: Axes, data: np.ndarray, model: np.ndarray, span: tuple[float, float]) -> None:
    # Few rows would fill many bins with noise.
    count = max(8, min(30, round(2 * min(len(data), len(model)) ** 0.5)))
    bins = np.linspace(*span, count + 1)
    for values, colour in ((data, DATA), (model, MODEL)):
        shares(ax, values, bins, colour)


def marginals(loaded: LoadedRun) -> Picture:
    """The histogram of every column."""
    shown = min(loaded.size, MOST_MARGINALS)
    columns = min(3 if shown <= 9 else 4, shown)
    lines = -(-shown // columns)
    data, model = _numpy(loaded.test.x), _numpy(loaded.drawn.x)

    def draw(axes: list[Axes], across: int) -> None:
        for index, ax in enumerate(axes):
            name = loaded.names[index]
            dress(ax, name, name, "share of rows")
            ax.xaxis.label.set_visible(False)
            ax.yaxis.label.set_visible(index % across == 0)
            ax.locator_params(nbins=5 if across != 2 else 4)
            span = limits(data[:, index], model[:, index], tails=0.002)
            _marginal(ax, data[:, index], model[:, index], span)

    figure, axes = canvas(FULL, 0.5 + (2.7 if columns <= 3 else 2.0) * lines, lines, columns)
    for ax in axes.flat[shown:]:
        ax.set_visible(False)
    draw(list(axes.flat[:shown]), columns)
    across = 1 if shown <= 3 else 2
    narrow, axes = panels(shown, across, 2.3 if across == 1 else 1.9)
    draw(axes, across)
    for one in (figure, narrow):
        _headed(one, "Marginals")
    text = (
        f"{len(data):,} {'held-out' if loaded.held_out else 'other'} rows and {len(model):,} samples. The "
        "two outlines should agree up to sampling noise."
    )
    if loaded.size > shown:
        text += f" The first {shown} of {loaded.size} columns."
    return Picture("marginals", figure, text, "Histograms of every column, data and samples.", "full", narrow)


def series(loaded: LoadedRun) -> Picture:
    """Rows of two dimensions as lines over their first one."""
    features = min(loaded.event[-1], 4)
    count = min(12, loaded.rows)
    clouds = {"Data, held out": (loaded.reference.x, DATA), "Samples of the model": (loaded.drawn.x, MODEL)}

    def draw(axes: np.ndarray) -> None:
        for column, (title, (x, colour)) in enumerate(clouds.items()):
            lines = x[:count].double().reshape(count, loaded.event[0], -1).numpy()
            for feature in range(features):
                ax = axes[feature, column]
                dress(ax, f"{title}, feature {feature}", "position", f"feature {feature}")
                ax.plot(lines[:, :, feature].T, color=colour, linewidth=0.9, alpha=0.7)

    figure, axes = canvas(FULL, 0.6 + 2.6 * features, features, 2, sharey="row")
    draw(axes)
    narrow, flat = panels(2 * features, 1, 2.2)
    draw(np.array(flat).reshape(features, 2))
    for one, other in zip(flat[::2], flat[1::2]):
        one.sharey(other)
    text = f"{count} held-out rows and {count} samples. Look for oscillations and noise on one side only."
    return Picture("samples", figure, text, "Lines over positions, data and samples.", "full", narrow)
