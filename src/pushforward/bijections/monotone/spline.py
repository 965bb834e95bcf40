"""Rational-quadratic splines."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ...nn.checks import check_count, check_number
from .base import Monotone

#: least width and height of a bin, as a share of the interval, and least slope at a knot
LEAST_BIN, LEAST_SLOPE = 1e-3, 1e-3
#: as many bins as have room
MOST_BINS = round(1 / LEAST_BIN) - 1
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
    digits cancel and no root is of a negative number, at any parameters.  Slopes reach 1,000: in float32 x
    itself has an error of 2e-7 at bound 5, so that f(f^-1(y)) is right to 5e-4 at the steepest parameters;
    take ``.double()`` where that is too little.

    Raises ValueError for fewer than 2 bins and a bound that is not positive.

    >>> spline = RationalQuadratic(bins=4)
    >>> y, log_slope = spline.forward_and_log_slope(torch.tensor([0.5, 9.0]), torch.zeros(spline.size, 2))
    >>> y, log_slope
    (tensor([0.5000, 9.0000]), tensor([0., 0.]))
    """

    activation = "silu"

    def __init__(self, bins: int = 8, bound: float = 5.0):
        self.bins, self.bound = check_count("bins", bins, 2, MOST_BINS), check_number("bound", bound, 0)
        self.size = 3 * bins - 1

    def forward_and_log_slope(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        return self._within(x, p, False)

    def inverse_and_log_slope(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        return self._within(y, p, True)

    def _within(self, given: Tensor, p: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        bins, inner = p.split([2 * self.bins, self.bins - 1])

        def ends(here: Tensor) -> tuple[Tensor, Tensor]:
            return (inner * here[1:]).sum(0), (inner * here[:-1]).sum(0)

        value, log_slope = spline(given.clamp(-self.bound, self.bound), bins, ends, self.bound, inverse)
        inside = given.abs() < self.bound
        return torch.where(inside, value, given), torch.where(inside, log_slope, 0.0)


def spline(
    given: Tensor, bins: Tensor, ends: Callable[[Tensor], tuple[Tensor, Tensor]], bound: float, inverse: bool
) -> tuple[Tensor, Tensor]:
    """Value and log-slope at points of [-bound, bound].

    ``bins`` ``(2 K, ...)``: free numbers that widths and then heights are the softmax of.  ``ends`` gives
    the free numbers of the slopes at both ends of the bins marked 1 in ``(K, ...)``; 0 is a slope of 1.

    What belongs to a bin is summed with a mask over all bins, not looked up: that is as fast and, unlike a
    lookup, its gradient is too.
    """
    given = given.contiguous()
    share = bins.contiguous().unflatten(0, (2, -1)).softmax(1)
    count, free = share.shape[1], 1 - LEAST_BIN * share.shape[1]
    with torch.no_grad():
        least = LEAST_BIN * torch.arange(1, count, dtype=given.dtype, device=given.device)
        knots = free * share[1 if inverse else 0].cumsum(0)[:-1] + least.reshape(-1, *[1] * given.ndim)
        past = ((given + bound) / (2 * bound) >= knots).to(given.dtype)
        number = past.sum(0)
        past = torch.cat([past, torch.zeros_like(past[:1])])
        here = torch.cat([torch.ones_like(past[:1]), past[:-1]]) - past
    width, height = 2 * bound * (LEAST_BIN + free * (share * here).sum(1))
    x0, y0 = 2 * bound * (LEAST_BIN * number + free * (share * past).sum(1)) - bound
    d0, d1 = (LEAST_SLOPE + F.softplus(end + UNIT) for end in ends(here))
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
