"""Affine increasing maps."""

from __future__ import annotations

import torch
from torch import Tensor

from ...nn.checks import check_number
from ..numerics.slopes import bounded
from .base import Monotone


class ScaleShift(Monotone):
    """y = exp(a) x + b with a = r / (1 + |r| / bound) for the parameters (r, b).

    The logarithm of the scale lies strictly between -bound and bound, smoothly, so that no network output
    carries a sample to infinity (Dinh et al. 2017, arXiv 1605.08803, eq. 7, has it unbounded, or in a tanh).
    Raises ValueError for a bound that is not positive.

    >>> import torch
    >>> y, log_slope = ScaleShift().forward_and_log_slope(torch.ones(1), torch.tensor([[0.0], [2.0]]))
    >>> y, log_slope
    (tensor([3.]), tensor([0.]))
    """

    size = 2

    def __init__(self, bound: float = 5.0):
        self.bound = check_number("bound", bound, 0)

    def _log_scale(self, p: Tensor) -> Tensor:
        return bounded(p[0], self.bound)

    def forward_and_log_slope(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = self._log_scale(p)
        return torch.addcmul(p[1], x, log_scale.exp()), log_scale.expand_as(x)

    def inverse_and_log_slope(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = self._log_scale(p)
        return (y - p[1]) / log_scale.exp(), -log_scale.expand_as(y)
