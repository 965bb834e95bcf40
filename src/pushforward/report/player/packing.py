"""Films as plain data for the page: particles in 16 bits, images as sheets."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..figures.images import shades
from ..figures.planar import order
from ..figures.style import limits
from ..loaded_run import LoadedRun
from ..page import readable
from .film import Film

#: Columns that can be chosen, held-out rows drawn behind, bytes of states, bytes of images.
COLUMNS, BEHIND, STATES, SHEETS = 12, 1000, 1_500_000, 1_400_000
#: How far outside the view positions are kept, in widths of it.
OUTSIDE = 2.0
#: Qualities of sheets that are too large without loss, tried in turn.
QUALITIES = (90, 75, 50, 25)


def packed_points(loaded: LoadedRun, film: Film) -> dict[str, Any]:
    """Positions of particles by column, time and particle, and held-out rows by column and row.

    Each column has a range ``low`` to ``high`` that 0 to 65,535 stand for, and a ``view`` within it, which
    holds nearly all particles and rows.  Rows of a single number get a second column, the number they
    started from.
    """
    columns = order(loaded) if loaded.look == "plane" else list(range(min(loaded.size, COLUMNS)))
    names = [readable(loaded.names[column]) for column in columns]
    most = max(2, STATES // (2 * len(film.times) * max(2, len(columns))))
    states = film.states[:, :most].flatten(2)[..., columns].double().numpy()
    data = loaded.reference.x[:BEHIND].flatten(1)[:, columns].double().numpy()
    if len(columns) == 1:
        states = np.concatenate([states, np.broadcast_to(states[:1], states.shape)], 2)
        names, data = [*names, f"{names[0]} at t = 0"], data[:0].repeat(2, 1)
    ranges = [_view(states[..., i], data[:, i]) for i in range(len(names))]
    kept = [(low - OUTSIDE * (high - low), high + OUTSIDE * (high - low)) for low, high in ranges]
    packed = {
        "kind": "points",
        "times": film.times,
        "names": names,
        "views": ranges,
        "ranges": kept,
        "count": states.shape[1],
        "states": [_in_16_bits(states[..., i], *kept[i]) for i in range(len(names))],
        "data": [_in_16_bits(data[:, i], *kept[i]) for i in range(len(names))],
    }
    if film.labels is not None:
        packed["labels"] = film.labels[:most].tolist()
    return packed


def _view(states: np.ndarray, data: np.ndarray) -> tuple[float, float]:
    """A range that holds nearly all of the states at both ends and of the data."""
    ends = [limits(part, margin=0.04, tails=0.002) for part in (states[0], states[-1], data) if part.size]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    middle = limits(states, margin=0.04, tails=0.01)
    return min(low, middle[0]), max(high, middle[1])


def _in_16_bits(values: np.ndarray, low: float, high: float) -> str:
    """Numbers as little-endian integers of 16 bits, 0 for ``low`` and 65,535 for ``high``, in base 64."""
    share = np.clip((values - low) / (high - low), 0.0, 1.0)
    return base64.b64encode(np.round(share * 65535).astype("<u2").tobytes()).decode()


def packed_images(loaded: LoadedRun, film: Film) -> dict[str, Any]:
    """A sheet of all images for every time; images of one label stand together."""
    rows = torch.arange(film.states.shape[1])
    if film.labels is not None:
        rows = film.labels.argsort(stable=True)
    across = math.isqrt(len(rows) - 1) + 1
    pixels = [shades(loaded, state[rows]) for state in film.states]
    # as in the other figures, most pixels are paper, and paper is white
    if pixels[0].ndim == 3 and pixels[-1].mean() < 0.5:
        pixels = [1.0 - images for images in pixels]
    sheets = [_encoded(_sheet(images, across), SHEETS // len(pixels)) for images in pixels]
    height, width = pixels[0].shape[1:3]
    return {
        "kind": "images",
        "times": film.times,
        "count": len(rows),
        "across": across,
        "size": [width, height],
        "sheets": sheets,
    }


def _sheet(images: np.ndarray, across: int) -> Image.Image:
    """Images ``(n, H, W)`` or ``(n, H, W, 3)`` in [0, 1] without margins, ``across`` in a row."""
    (high, wide), colours = images.shape[1:3], images.shape[3:]
    lines = -(-len(images) // across)
    blank = np.ones((lines * across - len(images), *images.shape[1:]))
    grid = np.concatenate([images, blank]).reshape(lines, across, high, wide, *colours)
    grid = np.moveaxis(grid, 2, 1).reshape(lines * high, across * wide, *colours)
    return Image.fromarray(np.round(255 * grid).astype(np.uint8))


def _encoded(sheet: Image.Image, most: int) -> str:
    """A sheet as a data address: lossless in at most so many bytes, else at the first quality that is.

    Noise takes many bytes and needs no quality, images of the data take few.
    """
    kind, content = "png", _as_bytes(sheet, "PNG")
    for quality in QUALITIES:
        if len(content) <= most:
            break
        kind, content = "jpeg", _as_bytes(sheet, "JPEG", quality=quality, subsampling=0)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _as_bytes(sheet: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, kind, **options)
    return buffer.getvalue()
