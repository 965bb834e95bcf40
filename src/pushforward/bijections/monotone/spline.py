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
    r"""A monotone rational-quadratic spline on [-bound, bound] and the identity beyond.

    The widths and heights of K = ``bins`` bins and the slopes at the K - 1 inner knots are free; the slope at
    both ends is 1 (Durkan et al. 2019, arXiv 1906.04032, section 3.1; Gregory & Delbourgo 1982).  Between the
    knots (x_k, y_k) and (x_k+1, y_k+1) with slopes delta_k and delta_k+1, with
    s = (y_k+1 - y_k) / (x_k+1 - x_k) and xi = (x - x_k) / (x_k+1 - x_k), the paper's eq. 4 and 5 are

        y = y_k + (y_k+1 - y_k) (s xi^2 + delta_k xi (1 - xi)) / beta,
        dy/dx = s^2 (delta_k+1 xi^2 + 2 s xi (1 - xi) + delta_k (1 - xi)^2) / beta^2,
        beta = s + (delta_k+1 + delta_k - 2 s) xi (1 - xi),

    where beta is computed as s (xi^2 + (1 - xi)^2) + (delta_k+1 + delta_k) xi (1 - xi).  The inverse solves
    eq. 4, which is quadratic in xi: with eta = (y - y_k) / (y_k+1 - y_k) and
    e = delta_k (1 - eta) - delta_k+1 eta,

        xi = 2 s eta / (2 s eta + A),   A = e + sqrt(e^2 + 4 s^2 eta (1 - eta)),

    where A for negative e is taken as 4 s^2 eta (1 - eta) / (sqrt(...) - e).  So every term is positive, no
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
    x_k, y_k = 2 * bound * (LEAST_BIN * number + free * (share * past).sum(1)) - bound
    delta, delta_next = (LEAST_SLOPE + F.softplus(end + UNIT) for end in ends(here))
    s = height / width
    if inverse:
        eta = ((given - y_k) / height).clamp(0, 1)
        rest = 1 - eta
        e = delta * rest - delta_next * eta
        q = 4 * s * s * eta * rest
        larger = e.abs() + (e * e + q).sqrt()
        a = torch.where(e >= 0, larger, q / larger)
        below = 2 * s * eta
        total = below + a
        xi, rest = below / total, a / total
    else:
        xi = ((given - x_k) / width).clamp(0, 1)
        rest = 1 - xi
    # eq. 4 and 5, with rest = 1 - xi
    product = xi * rest
    beta = s * (xi * xi + rest * rest) + (delta + delta_next) * product
    value = x_k + width * xi if inverse else y_k + height * (s * xi * xi + delta * product) / beta
    ratio = s / beta
    log_slope = (ratio * ratio * (delta_next * xi * xi + 2 * s * product + delta * rest * rest)).log()
    return value, -log_slope if inverse else log_slope
