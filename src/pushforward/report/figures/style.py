"""How figures look: one palette, one type size, a title and labelled axes on each."""

from __future__ import annotations

import base64
import contextlib
import io
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

#: Data, model, Gaussian, class means, real against real: colours that the colour-blind can tell apart.
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
#: Inches across of a figure on half a page, on a whole one, and on a telephone.
HALF, FULL, NARROW = 4.8, 10.8, 4.2
#: Where figures for a telephone lie, beside the others.
NARROW_FOLDER = "narrow"


@dataclass(frozen=True)
class Picture:
    """A figure with what is said about it.

    name: of its file.  alt: what it shows, for those who do not see it.  width: half a page or a whole one.
    narrow: the same panels for a telephone, :data:`NARROW` inches across, where the figure is wider.
    photos: whether it shows images of the data, whose shades stay as they are on dark pages.
    """

    name: str
    figure: Figure
    caption: str
    alt: str
    width: Width = "half"
    narrow: Figure | None = None
    photos: bool = False

    def files(self) -> dict[str, bytes]:
        """The PNG of ``name.png``, and of ``narrow/name.png`` where there is one."""
        figures = {f"{self.name}.png": self.figure}
        if self.narrow is not None:
            figures[f"{NARROW_FOLDER}/{self.name}.png"] = self.narrow
        return {name: to_png(figure) for name, figure in figures.items()}


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Figures of the block look the same everywhere, whatever a `matplotlibrc` of the working folder says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure in inches with ``(rows, columns)`` axes."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def dress(ax: Axes, title: str, x: str, y: str, grid: bool = True) -> Axes:
    """Title, labels and a quiet frame; texts too long for the panel are broken into lines."""
    width, height = panel_size(ax)
    bold = {"loc": "left", "fontsize": 11, "fontweight": "bold", "color": INK, "pad": 8}
    ax.set_title(broken(title, width, 0.1), **bold)
    ax.set_xlabel(broken(x, width, 0.075), fontsize=10, color=INK)
    ax.set_ylabel(broken(y, height, 0.075), fontsize=10, color=INK)
    ax.tick_params(labelsize=9, colors=INK, length=3, color="#9aa5b1")
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#9aa5b1")
    if grid:
        ax.grid(color=FAINT, linewidth=0.6)
        ax.set_axisbelow(True)
    return ax


def panel_size(ax: Axes) -> tuple[float, float]:
    """Inches that a panel has across and up, about half an inch less than its share of the figure."""
    figure, place = ax.get_figure(root=True), ax.get_subplotspec()
    assert figure is not None
    lines, across = (1, 1) if place is None else place.get_geometry()[:2]
    width, height = figure.get_size_inches()
    return width / across - 0.5, height / lines - 0.5


def broken(text: str, inches: float, character: float) -> str:
    """Text in lines of so many inches, at so many for a character; at most three."""
    return textwrap.fill(text, max(8, int(inches / character)), max_lines=3, placeholder=" …")


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
