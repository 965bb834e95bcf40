"""Figures of rows of many numbers: pairs of columns, marginals, lines over positions."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from .style import DATA, INK, MODEL, Picture, canvas, dress, limits, shares
from .subject import Subject

#: Columns that a pair plot and the marginals show at most.
MOST_PAIRS, MOST_MARGINALS = 8, 24


def _numpy(x: Tensor) -> np.ndarray:
    return x.double().reshape(len(x), -1).numpy()


def pairs(subject: Subject) -> Picture:
    """Every pair of columns, held-out rows beneath samples."""
    d = min(subject.size, MOST_PAIRS)
    count = min(subject.rows, 600)
    data, model = _numpy(subject.reference.x[:count]), _numpy(subject.drawn.x[:count])
    ranges = [limits(data[:, i], model[:, i]) for i in range(d)]
    side, dot = min(12.0, 2.6 + 1.9 * d), 4 if count > 200 else 12
    figure, axes = canvas(side, side, d, d)
    for i in range(d):
        for j in range(d):
            ax = axes[i, j]
            if j > i:
                ax.set_visible(False)
                continue
            title = subject.names[i] if i == j else ""
            dress(ax, title, subject.names[j], subject.names[i] if i != j else "share of rows", grid=i != j)
            ax.tick_params(labelsize=7)
            ax.xaxis.label.set_visible(i == d - 1)
            ax.yaxis.label.set_visible(j == 0)
            if i == j:
                _marginal(ax, data[:, i], model[:, i], ranges[i])
            else:
                ax.scatter(data[:, j], data[:, i], s=dot, color=DATA, alpha=0.4, linewidths=0)
                ax.scatter(model[:, j], model[:, i], s=dot, color=MODEL, alpha=0.4, linewidths=0)
                ax.set_ylim(*ranges[i])
            ax.set_xlim(*ranges[j])
    figure.suptitle("Every pair of columns", x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    _cloud_keys(figure)
    text = f"{count:,} held-out rows (blue) and as many samples (orange)."
    if subject.size > d:
        text += f" The first {d} of {subject.size} columns."
    return Picture("pairs", figure, text, "Scatter plots of all pairs of columns, data and samples.", "full")


def _cloud_keys(figure: Figure) -> None:
    handles = [Patch(color=DATA, label="held-out rows"), Patch(color=MODEL, label="samples")]
    figure.legend(handles=handles, loc="outside upper right", frameon=False, fontsize=10, ncols=2)


def _marginal(ax: Axes, data: np.ndarray, model: np.ndarray, span: tuple[float, float]) -> None:
    # Few rows would fill many bins with noise.
    count = max(8, min(30, round(2 * min(len(data), len(model)) ** 0.5)))
    bins = np.linspace(*span, count + 1)
    for values, colour in ((data, DATA), (model, MODEL)):
        shares(ax, values, bins, colour)


def marginals(subject: Subject) -> Picture:
    """The histogram of every column."""
    shown = min(subject.size, MOST_MARGINALS)
    columns = min(3 if shown <= 9 else 4, shown)
    lines = -(-shown // columns)
    data, model = _numpy(subject.test.x), _numpy(subject.drawn.x)
    figure, axes = canvas(10.8, 0.5 + (2.7 if columns <= 3 else 2.0) * lines, lines, columns)
    for index, ax in enumerate(axes.flat):
        if index >= shown:
            ax.set_visible(False)
            continue
        name = subject.names[index]
        dress(ax, name, name, "share of rows")
        ax.xaxis.label.set_visible(False)
        ax.yaxis.label.set_visible(index % columns == 0)
        ax.locator_params(nbins=5)
        _marginal(ax, data[:, index], model[:, index], limits(data[:, index], model[:, index], tails=0.002))
    figure.suptitle("Marginals", x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    _cloud_keys(figure)
    text = f"{len(data):,} {'held-out' if subject.held_out else 'other'} rows and {len(model):,} samples."
    if subject.size > shown:
        text += f" The first {shown} of {subject.size} columns."
    return Picture("marginals", figure, text, "Histograms of every column, data and samples.", "full")


def series(subject: Subject) -> Picture:
    """Rows of two dimensions as lines over their first one."""
    features = min(subject.event[-1], 4)
    count = min(12, subject.rows)
    clouds = {"Data, held out": (subject.reference.x, DATA), "Samples of the model": (subject.drawn.x, MODEL)}
    figure, axes = canvas(10.8, 0.6 + 2.6 * features, features, 2, sharey="row")
    for column, (title, (x, colour)) in enumerate(clouds.items()):
        lines = x[:count].double().reshape(count, subject.event[0], -1).numpy()
        for feature in range(features):
            ax = dress(axes[feature, column], f"{title}, feature {feature}", "position", f"feature {feature}")
            ax.plot(lines[:, :, feature].T, color=colour, linewidth=0.9, alpha=0.7)
    text = f"{count} held-out rows and {count} samples."
    return Picture("samples", figure, text, "Lines over positions, data and samples.", "full")
