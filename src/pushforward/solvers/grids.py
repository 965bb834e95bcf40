"""Named time grids: where the steps of a solver lie in the interval that it solves over.

Each is a function of the number of steps, with one number that may be chosen, and returns rising fractions
from 0 to 1.  As an option of a solver it is written ``grid=karras`` or ``grid=shifted:5``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from ..nn.checks import check_number
from ..registry.texts import is_number, quoted, suggest

__all__ = ["GRIDS", "cosine", "karras", "named", "shifted", "uniform"]

#: The largest and the smallest sigma / alpha of :func:`karras`.
HIGH, LOW = 80.0, 0.002


def uniform(steps: int) -> list[float]:
    """Equal steps.

    >>> uniform(4)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    return [i / steps for i in range(steps + 1)]


def shifted(steps: int, shift: float = 3.0) -> list[float]:
    """t = u / (shift - (shift - 1) u) of equally spaced u: for ``shift`` > 1 shorter steps near the noise.

    On the linear path it divides alpha / sigma by ``shift``, which images of a higher resolution need (Esser
    et al. 2024, arXiv 2403.03206, eq. 23).  Shifts after each other multiply.

    >>> shifted(2, 3.0), shifted(2, 0.5)
    ([0.0, 0.25, 1.0], [0.0, 0.6666666666666666, 1.0])
    """
    return [*(u / (shift - (shift - 1) * u) for u in uniform(steps)[:-1]), 1.0]


def karras(steps: int, rho: float = 7.0) -> list[float]:
    """Equal steps of (sigma / alpha)^(1 / rho) on the linear path, from 80 to 0.002.

    Karras et al. 2022, arXiv 2206.00364, eq. 5.  The first time is 0 in place of the one at 80, and the step
    after 0.002 leads to 1.

    >>> [round(t, 4) for t in karras(5)]
    [0.0, 0.054, 0.2845, 0.8549, 0.998, 1.0]
    """
    if steps == 1:
        return [0.0, 1.0]
    high, low = HIGH ** (1 / rho), LOW ** (1 / rho)
    ratios = [(high + (low - high) * i / (steps - 1)) ** rho for i in range(1, steps)]
    return [0.0, *(1 / (1 + ratio) for ratio in ratios), 1.0]


def cosine(steps: int) -> list[float]:
    """The levels of noise of the cosine schedule on the linear path: alpha / sigma = tan(pi u / 2).

    Nichol & Dhariwal 2021, arXiv 2102.09672.  Steps are a little longer at both ends than in the middle.

    >>> [round(t, 4) for t in cosine(4)]
    [0.0, 0.2929, 0.5, 0.7071, 1.0]
    """
    parts = [(math.sin(0.5 * math.pi * u), math.cos(0.5 * math.pi * u)) for u in uniform(steps)]
    return [0.0, *(a / (a + s) for a, s in parts[1:-1]), 1.0]


#: By name: the grid, and the name of the number that it takes.
GRIDS: dict[str, tuple[Callable[..., list[float]], str]] = {
    "uniform": (uniform, ""),
    "shifted": (shifted, "shift"),
    "karras": (karras, "rho"),
    "cosine": (cosine, ""),
}


def named(text: str) -> Callable[[int], list[float]]:
    """The grid that ``text`` names, with its number after a colon.

    Raises ValueError for an unknown name, and for a number that is not positive or not wanted.

    >>> named("shifted:3")(2)
    [0.0, 0.25, 1.0]
    """
    name, colon, number = text.partition(":")
    if name not in GRIDS:
        raise ValueError(f"grid: unknown grid {quoted(name)}{suggest(name, GRIDS)}")
    make, option = GRIDS[name]
    if not colon:
        return make
    if not option or not is_number(number):
        takes = f"one number, {option}, after the colon" if option else "no number"
        raise ValueError(f"grid: {name} takes {takes}, got {quoted(text)}")
    return partial(make, **{option: check_number(f"grid: {option}", float(number), 0.0)})
