"""Rational-quadratic splines of a circle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...nn.checks import check_count
from ..base import Domain
from .base import Monotone
from .spline import MOST_BINS, spline


class CircularSpline(Monotone):
    """A rational-quadratic spline of the circle [-pi, pi): the slopes at both ends agree, then a rotation.

    The last parameter turns the circle by 2 arctan(p), at most half a turn either way (Rezende et al. 2020,
    arXiv 2002.02428, section 2.1).  Angles outside are taken modulo 2 pi.  Raises ValueError for fewer
    than 2 bins.

    >>> spline = CircularSpline(bins=4)
    >>> spline.forward_and_log_slope(torch.tensor([1.0]), torch.zeros(spline.size, 1))[0]
    tensor([1.])
    """

    def __init__(self, bins: int = 8):
        self.bins = check_count("bins", bins, 2, MOST_BINS)
        self.size = 3 * bins + 1
        self.domain = self.codomain = Domain(-math.pi, math.pi)

    def forward_and_log_slope(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        y, log_slope = self._unturned(wrap(x), p, False)
        return wrap(y + _turn(p)), log_slope

    def inverse_and_log_slope(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        return self._unturned(wrap(y - _turn(p)), p, True)

    def _unturned(self, given: Tensor, p: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        bins, slopes = p[:-1].split([2 * self.bins, self.bins])

        def ends(here: Tensor) -> tuple[Tensor, Tensor]:
            return (slopes * here).sum(0), (slopes.roll(-1, 0) * here).sum(0)

        return spline(given, bins, ends, math.pi, inverse)


def _turn(p: Tensor) -> Tensor:
    return 2 * p[-1].atan()


def wrap(angle: Tensor) -> Tensor:
    """The angle in [-pi, pi]; an angle in it is not changed."""
    turned = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
    return torch.where(angle.abs() <= math.pi, angle, turned)
