"""Uniform dequantisation: integers towards the data, continuous values towards the source."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import random
from ..tensors import Condition
from .base import Surjection


class Dequantise(Surjection):
    """y = step * floor(x / step), clamped to [low, high]; back: x = y + step * u with u ~ U[0, 1).

    The log-density of y obtained through the inverse is a lower bound on the log-probability of the
    discrete value plus -d log(step), by Jensen (Theis et al. 2016, arXiv 1511.01844, eq. 2-5).

    >>> Dequantise(low=0, high=16).forward(torch.tensor([[3.7, 17.2]]))
    tensor([[ 3., 16.]])
    """

    def __init__(self, low: float = 0.0, high: float = 255.0, step: float = 1.0):
        super().__init__()
        if not (low < high and step > 0):
            raise ValueError(f"expected low < high and step > 0, got {low}, {high} and {step}")
        self.low, self.high, self.step = float(low), float(high), float(step)

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        y = self.low + self.step * ((x - self.low) / self.step).floor()
        return y.clamp(self.low, self.high), x.new_zeros(x.shape[0])

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        noise = random.uniform(y.shape, generator, y.dtype, y.device)
        return y + self.step * noise, y.new_zeros(y.shape[0])
