"""Rational-quadratic splines of a circle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base import Domain
from .base import Monotone
from .spline import LEAST_BIN, knots, slopes, spline


class CircularSpline(Monotone):
    """A rational-quadratic spline of the circle [-pi, pi): the slopes at both ends agree, then a rotation.

    The last parameter turns the circle by 2 arctan(p), at most half a turn either way (Rezende et al. 2020,
    arXiv 2002.02428, section 2.1).  Angles outside are taken modulo 2 pi.  Raises ValueError for fewer
    than 2 bins.

    >>> spline = CircularSpline(bins=4)
    >>> spline.forward_and_log_slope(torch.tensor([1.0]), torch.zeros(1, spline.size))[0]
    tensor([1.])
    """

    def __init__(self, bins: int = 8):
        if bins < 2 or bins * LEAST_BIN >= 1:
            raise ValueError(f"bins: expected at least 2 and fewer than {round(1 / LEAST_BIN)}, got {bins}")
        self.bins, self.size = bins, 3 * bins + 1
        self.domain = self.codomain = Domain(-math.pi, math.pi)

    def _parts(self, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k = self.bins
        both = knots(p[..., : 2 * k].unflatten(-1, (2, k)), math.pi)
        d = slopes(p[..., 2 * k : 3 * k])
        return both, torch.cat([d, d[..., :1]], -1), 2 * p[..., 3 * k].atan()

    def forward_and_log_slope(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        both, d, turn = self._parts(p)
        y, log_slope = spline(both, d, wrap(x), False)
        return wrap(y + turn), log_slope

    def inverse_and_log_slope(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        both, d, turn = self._parts(p)
        return spline(both, d, wrap(y - turn), True)


def wrap(angle: Tensor) -> Tensor:
    """The angle in [-pi, pi]; one that is already there is not touched."""
    turned = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
    return torch.where(angle.abs() <= math.pi, angle, turned)
