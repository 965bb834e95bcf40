"""Translations."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Monotone


class Shift(Monotone):
    """y = x + p: preserves volume, as NICE does (Dinh et al. 2015, arXiv 1410.8516).

    >>> Shift().forward_and_log_slope(torch.ones(2), torch.full((1, 2), 3.0))
    (tensor([4., 4.]), tensor([0., 0.]))
    """

    size = 1

    def forward_and_log_slope(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        return x + p[0], torch.zeros_like(x)

    def inverse_and_log_slope(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        return y - p[0], torch.zeros_like(y)
