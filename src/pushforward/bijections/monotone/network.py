"""A monotone network of one hidden layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...nn.checks import check_count
from ..numerics.roots import smooth_root
from ..numerics.slopes import STEEPEST, bounded
from .base import Monotone


class MonotoneNetwork(Monotone):
    r"""y = a x + b + sum_k w_k tanh(u_k (x - c_k)) with a, w_k, u_k > 0, a sum of smooth steps.

    A network of one hidden layer with positive weights, as in neural autoregressive flows (Huang et al.
    2018, arXiv 1804.00779, section 3), on a straight line that makes it onto: the inverse lies
    within sum w / a of (y - b) / a, so that it is bracketed before it is sought, and is found by Newton's
    method with bisection, or a :class:`~pushforward.bijections.InverseFailed` is raised.  Steps start
    spread over [-3, 3] and small.  Raises ValueError for fewer than one step.

    >>> family = MonotoneNetwork(steps=2)
    >>> p = torch.ones(family.size, 1)
    >>> y, _ = family.forward_and_log_slope(torch.tensor([0.7]), p)
    >>> family.inverse_and_log_slope(y, p)[0]
    tensor([0.7000])
    """

    def __init__(self, steps: int = 8):
        self.steps, self.size = check_count("steps", steps), 2 + 3 * steps

    def _parts(self, p: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        k = self.steps
        log_a = bounded(p[0], STEEPEST)
        spread = torch.linspace(-3, 3, k, dtype=p.dtype, device=p.device)
        centres = p[2 : 2 + k] + spread.reshape(-1, *[1] * (p.ndim - 1))
        sharp = bounded(p[2 + k : 2 + 2 * k], STEEPEST).exp()
        heights = F.softplus(p[2 + 2 * k :] - 2) / k
        return log_a.exp(), p[1], centres, sharp, heights

    def forward_and_log_slope(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        y, slope = _value_and_slope(x, *self._parts(p))
        return y, slope.log()

    def inverse_and_log_slope(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        parts = self._parts(p)
        x = smooth_root(_value_and_slope, _bracket, y, *parts)
        return x, -_value_and_slope(x, *parts)[1].log()


def _value_and_slope(
    x: Tensor, a: Tensor, b: Tensor, centres: Tensor, sharp: Tensor, heights: Tensor
) -> tuple[Tensor, Tensor]:
    step = (sharp * (x - centres)).tanh()
    y = a * x + b + (heights * step).sum(0)
    return y, a + (heights * sharp * (1 - step) * (1 + step)).sum(0)


def _bracket(
    y: Tensor, a: Tensor, b: Tensor, centres: Tensor, sharp: Tensor, heights: Tensor
) -> tuple[Tensor, Tensor]:
    """Where the root is, since the steps together move no further than the sum of their heights."""
    reach = heights.sum(0)
    return (y - b - reach) / a, (y - b + reach) / a
