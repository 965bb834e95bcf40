"""How figures look: one palette, one type size, a title and labelled axes on each."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

#: Data, model, Gaussian, class means, real against real: also told apart by those who see few colours.
DATA, MODEL, GAUSSIAN, MEANS, REAL = "#2b4c7e", "#e07a1f", "#8b95a5", "#a46a9f", "#2f8f6b"
INK, FAINT = "#1f2933", "#d5dbe3"
#: Fixed colours for the first labels; more labels go round again.
LABELS = (
    "#2b4c7e",
    "#e07a1f",
    "#2f8f6b",
    "#b8385a",
    "#7a5ea8",
    "#7f6a3d",
    "#3aa0b8",
    "#d9a514",
    "#5c6b7a",
    "#c9699f",
)
#: From paper to ink: densities of the model, of the data, and neutral.
DENSITY = LinearSegmentedColormap.from_list(
    "density", ["#ffffff", "#fbe3cb", "#f0a860", "#c75f12", "#5e2708"]
)
GREY = LinearSegmentedColormap.from_list("grey", ["#ffffff", "#11161c"])

Width = Literal["half", "full"]


@dataclass(frozen=True)
class Picture:
    """A figure with what is said about it.

    name: of its file.  alt: what it shows, for those who do not see it.  width: half a page or a whole
    one, which a phone scrolls sideways.
    """

    name: str
    figure: Figure
    caption: str
    alt: str
    width: Width = "half"

    def save(self, folder: Path) -> bytes:
        """Write ``folder/name.png`` and return its content."""
        content = to_png(self.figure)
        (folder / f"{self.name}.png").write_bytes(content)
        return content


def canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure in inches with ``(rows, columns)`` axes."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def dress(ax: Axes, title: str, x: str, y: str, grid: bool = True) -> Axes:
    """Title, labels and a quiet frame."""
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)
    ax.set_xlabel(x, fontsize=10, color=INK)
    ax.set_ylabel(y, fontsize=10, color=INK)
    ax.tick_params(labelsize=9, colors=INK, length=3, color="#9aa5b1")
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#9aa5b1")
    if grid:
        ax.grid(color=FAINT, linewidth=0.6)
        ax.set_axisbelow(True)
    return ax


def shares(ax: Axes, values: np.ndarray, bins: np.ndarray, colour: str, label: str | None = None) -> None:
    """A histogram of shares of rows, as an outline over a tint."""
    heights = np.histogram(values, bins)[0] / len(values)
    ax.stairs(heights, bins, fill=True, color=colour, alpha=0.15)
    ax.stairs(heights, bins, color=colour, linewidth=1.5, label=label)


def legend(ax: Axes, **options: Any) -> None:
    """A legend without a box."""
    ax.legend(**{"frameon": False, "fontsize": 9, "labelcolor": INK, "handlelength": 1.6, **options})


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as PNG of at most 256 colours, which flat graphics do not exceed by much."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    buffer = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def embedded(content: bytes) -> str:
    """A PNG as a data address."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def limits(*clouds: np.ndarray, margin: float = 0.06, tails: float = 0.001) -> tuple[float, float]:
    """A range that holds nearly all of some numbers, with a margin."""
    values = np.concatenate([np.ravel(c) for c in clouds])
    low, high = np.quantile(values, [tails, 1 - tails])
    pad = margin * (high - low) or 0.5
    return float(low - pad), float(high + pad)
