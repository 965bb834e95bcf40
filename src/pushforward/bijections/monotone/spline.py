"""Rational-quadratic splines."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Monotone

#: least width and height of a bin, as a share of the interval, and least slope at a knot
LEAST_BIN, LEAST_SLOPE = 1e-3, 1e-3
#: softplus of this plus LEAST_SLOPE is 1
UNIT = math.log(math.expm1(1 - LEAST_SLOPE))


class RationalQuadratic(Monotone):
    """A monotone rational-quadratic spline on [-bound, bound] and the identity beyond.

    ``bins`` widths and heights and the slopes at the ``bins - 1`` inner knots are free; the slope at both
    ends is 1 (Durkan et al. 2019, arXiv 1906.04032, section 3.1; Gregory & Delbourgo 1982).  With bin
    (x0, x1) -> (y0, y1), end slopes d0 and d1, s = (y1 - y0)/(x1 - x0), z = (x - x0)/(x1 - x0) and
    z' = 1 - z,

        y = y0 + (y1 - y0) (s z^2 + d0 z z') / B,   dy/dx = s^2 (d1 z^2 + 2 s z z' + d0 z'^2) / B^2,
        B = s (z^2 + z'^2) + (d0 + d1) z z'.

    The inverse, with w = (y - y0)/(y1 - y0), w' = 1 - w and e = d0 w' - d1 w, is

        z = 2 s w / (2 s w + A),   A = e + sqrt(e^2 + 4 s^2 w w'),

    where A for negative e is taken as 4 s^2 w w' / (sqrt(...) - e): every term is positive, so that no
    digits cancel and no root is of a negative number, at any parameters.

    Raises ValueError for fewer than 2 bins and a bound that is not positive.

    >>> spline = RationalQuadratic(bins=4)
    >>> y, log_slope = spline.forward_and_log_slope(torch.tensor([0.5, 9.0]), torch.zeros(2, spline.size))
    >>> y, log_slope
    (tensor([0.5000, 9.0000]), tensor([0., 0.]))
    """

    def __init__(self, bins: int = 8, bound: float = 5.0):
        if bins < 2 or bins * LEAST_BIN >= 1:
            raise ValueError(f"bins: expected at least 2 and fewer than {round(1 / LEAST_BIN)}, got {bins}")
        if not bound > 0:
            raise ValueError(f"bound: expected a positive number, got {bound}")
        self.bins, self.bound = bins, float(bound)
        self.size = 3 * bins - 1

    def forward_and_log_slope(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        y, log_slope = spline(*_table(p, self.bins, self.bound), _inside(x, self.bound), False)
        return self._with_tails(x, y, log_slope)

    def inverse_and_log_slope(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        x, log_slope = spline(*_table(p, self.bins, self.bound), _inside(y, self.bound), True)
        return self._with_tails(y, x, log_slope)

    def _with_tails(self, given: Tensor, value: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        inside = given.abs() < self.bound
        return torch.where(inside, value, given), torch.where(inside, log_slope, 0.0)


def _inside(x: Tensor, bound: float) -> Tensor:
    return x.clamp(-bound, bound)


def knots(p: Tensor, bound: float) -> Tensor:
    """Knots on [-bound, bound] from free numbers ``(..., K)``: ``(..., K + 1)``, both ends exact."""
    bins = p.shape[-1]
    share = LEAST_BIN + (1 - LEAST_BIN * bins) * p.softmax(-1)
    inner = 2 * bound * share[..., :-1].cumsum(-1) - bound
    return F.pad(F.pad(inner, (1, 0), value=-bound), (0, 1), value=bound)


def slopes(p: Tensor) -> Tensor:
    """Positive slopes from free numbers; 1 from 0."""
    return LEAST_SLOPE + F.softplus(p + UNIT)


def _table(p: Tensor, bins: int, bound: float) -> tuple[Tensor, Tensor]:
    """Knots of both axes ``(..., 2, K + 1)`` and slopes at them ``(..., K + 1)``."""
    both = knots(p[..., : 2 * bins].unflatten(-1, (2, bins)), bound)
    return both, F.pad(slopes(p[..., 2 * bins :]), (1, 1), value=1.0)


def spline(both: Tensor, slope: Tensor, given: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    """Value and log-slope at points within the knots of axis 0, or with ``inverse`` of axis 1."""
    axis = both[..., 1 if inverse else 0, :]
    k = (given[..., None] >= axis[..., 1:-1]).sum(-1, keepdim=True)
    ends = torch.cat([k, k + 1], -1)
    d0, d1 = slope.gather(-1, ends).unbind(-1)
    corners = both.gather(-1, ends[..., None, :].expand(*ends.shape[:-1], 2, 2))
    (x0, x1), (y0, y1) = (c.unbind(-1) for c in corners.unbind(-2))
    width, height = x1 - x0, y1 - y0
    s = height / width
    if inverse:
        w = ((given - y0) / height).clamp(0, 1)
        v = 1 - w
        e = d0 * v - d1 * w
        q = 4 * s * s * w * v
        larger = e.abs() + (e * e + q).sqrt()
        a = torch.where(e >= 0, larger, q / larger)
        below = 2 * s * w
        total = below + a
        z, rest = below / total, a / total
    else:
        z = ((given - x0) / width).clamp(0, 1)
        rest = 1 - z
    product = z * rest
    base = s * (z * z + rest * rest) + (d0 + d1) * product
    value = x0 + width * z if inverse else y0 + height * (s * z * z + d0 * product) / base
    ratio = s / base
    log_slope = (ratio * ratio * (d1 * z * z + 2 * s * product + d0 * rest * rest)).log()
    return value, -log_slope if inverse else log_slope
