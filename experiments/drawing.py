"""How the figures of experiments look."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

INK, FAINT = "#1f2933", "#d5dbe3"
#: Colours that the colour-blind can tell apart.
COLOURS = ("#2b4c7e", "#e07a1f", "#2f8f6b", "#b8385a", "#7a5ea8", "#8b95a5")
HEAT = LinearSegmentedColormap.from_list("heat", ["#ffffff", "#fbe3cb", "#f0a860", "#c75f12", "#5e2708"])


def canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure in inches with ``(rows, columns)`` axes."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def dress(ax: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Title, labels and a quiet frame."""
    ax.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    ax.set_xlabel(x, fontsize=9, color=INK)
    ax.set_ylabel(y, fontsize=9, color=INK)
    ax.tick_params(labelsize=8, colors=INK, length=3, color="#9aa5b1")
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#9aa5b1")
    ax.grid(color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def plane(ax: Axes, reach: float, title: str = "") -> Axes:
    """A square of the plane without labels."""
    ax.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_color(FAINT)
    return ax


def legend(ax: Axes, **options: Any) -> None:
    """A legend without a box."""
    ax.legend(**{"frameon": False, "fontsize": 8, "labelcolor": INK, **options})
