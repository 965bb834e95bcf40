"""Increasing piecewise linear maps, and one that gives more space to frequent levels of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from ...tensors import Condition, sum_event
from ..base import Bijection

#: a level that holds more than this share of all pixels has a normal distribution of its own
ATOM = 0.05
#: deviation of the distribution of other levels, and how many deviations of both two distributions lie apart
WIDE, APART = 2.5, 2.3
#: knots of a fitted polygon, how many deviations it reaches out, and the least step in units of a level
KNOTS, REACH, LEAST = 256, 4.0, 1e-3


class PiecewiseLinear(Bijection):
    """y = y_k + (x - x_k) (y_{k+1} - y_k) / (x_{k+1} - x_k) between knots, for every element.

    ``x``, ``y``: ``(K,)`` increasing knots; the end pieces go on beyond them.  Raises ValueError for fewer
    than two knots, unequal numbers of them, and knots that do not increase.

    >>> PiecewiseLinear(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 3.0, 4.0])).forward(
    ...     torch.tensor([[0.5, 1.5, 3.0]]))
    tensor([[1.5000, 3.5000, 5.0000]])
    """

    x: Tensor
    y: Tensor

    def __init__(self, x: Tensor, y: Tensor):
        super().__init__()
        for name, knots in (("x", x), ("y", y)):
            increasing = knots.ndim == 1 and len(knots) > 1 and bool((knots.diff() > 0).all())
            if not increasing or not bool(knots.isfinite().all()):
                raise ValueError(f"{name}: expected at least two increasing knots, got {knots.tolist()}")
        if len(x) != len(y):
            raise ValueError(f"x, y: expected equally many knots, got {len(x)} and {len(y)}")
        self.register_buffer("x", x)
        self.register_buffer("y", y)

    @classmethod
    def of_levels(cls, values: Tensor, low: float, high: float, step: float = 1.0) -> Self:
        """The map to dequantised pixels in [low, high + step) from normal distributions, fitted to pixels
        ``values``.

        Each level of over 5 % of all pixels, such as the black of drawings, is the image of a normal
        distribution of deviation 1, the levels between them of one of deviation 2.5, far enough apart not to
        overlap: with F the distribution function of the dequantised pixels, all positions together, and G
        that of the mixture, y = F^-1(G(x)) at 256 knots.  So the noise within a level, which no model can
        predict, is normal; cf.  Chen & Gopinath 2000 (Gaussianization).

        Raises ValueError for no values, and for values that are not levels from ``low`` to ``high``.

        >>> map = PiecewiseLinear.of_levels(torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0]), 0, 3)
        >>> map.y[[0, -1]]
        tensor([0., 4.])
        """
        if not (low < high and step > 0):
            raise ValueError(f"low, high, step: expected low < high and step > 0, got {low}, {high}, {step}")
        # half a step beyond an end still rounds to it
        near = (values >= low - 0.5 * step) & (values <= high + 0.5 * step)
        if values.numel() == 0 or not bool(near.all()):
            raise ValueError(f"values: expected levels from {low:g} to {high:g}, at least one")
        levels = round((high - low) / step) + 1
        place = ((values.flatten().double() - low) / step).round().long().clamp(0, levels - 1)
        # one more of each level, so that every one is reached
        share = torch.bincount(place, minlength=levels).double() + 1
        share = share / share.sum()
        weight, scale = _normals(share.tolist())
        centre = torch.cat([scale.new_zeros(1), APART * (scale[1:] + scale[:-1])]).cumsum(0)
        first, last = float(-REACH * scale[0]), float(centre[-1] + REACH * scale[-1])
        x = torch.linspace(first, last, KNOTS, dtype=torch.float64)
        g = (weight * torch.special.ndtr((x[:, None] - centre) / scale)).sum(1)
        f = torch.cat([share.new_zeros(1), share.cumsum(0)])
        k = (torch.searchsorted(f, g) - 1).clamp(0, levels - 1)
        y = low + step * (k + (g - f[k]) / share[k])
        # the ends are reached exactly; between them knots that are too close for single precision go
        ends = low, high + step
        kept = [0]
        y[0], y[-1] = ends
        for i in range(1, KNOTS - 1):
            if min(y[i] - y[kept[-1]], ends[1] - y[i]) > LEAST * step:
                kept.append(i)
        kept.append(KNOTS - 1)
        return cls(x[kept].to(values.dtype), y[kept].to(values.dtype))

    def _through(self, given: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """From knots ``a`` to knots ``b``: values and the sums of their log-slopes."""
        a, b = a.to(given), b.to(given)
        k = (torch.searchsorted(a, given.contiguous()) - 1).clamp(0, len(a) - 2)
        slope = (b.diff() / a.diff())[k]
        return b[k] + slope * (given - a[k]), sum_event(slope.log())

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self._through(x, self.x, self.y)

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self._through(y, self.y, self.x)


def _normals(shares: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Weights and deviations of normal distributions: one for each atom and each run of levels between."""
    weights: list[float] = []
    scales: list[float] = []
    alone = True
    for share in shares:
        if alone or share > ATOM:
            weights.append(0.0)
            scales.append(1.0 if share > ATOM else WIDE)
        weights[-1] += share
        alone = share > ATOM
    return torch.tensor(weights, dtype=torch.float64), torch.tensor(scales, dtype=torch.float64)
