"""Uniform dequantisation: integers towards the data, continuous values towards the source."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import random
from ...nn.checks import check_number
from ...tensors import Condition
from ..base import Surjection


class Dequantise(Surjection):
    """y = step * floor(x / step), clamped to [low, high]; back: x = y + step * u with u ~ U[0, 1).

    The log-density of y obtained through the inverse is a lower bound on the log-probability of the
    discrete value plus -d log(step), by Jensen (Theis et al. 2016, arXiv 1511.01844, eq. 2-5).  Integers,
    such as the bytes of images, come back as numbers of torch's default dtype.

    Raises ValueError for ``low >= high``, ends that are not finite and a step that is not positive.

    >>> Dequantise(low=0, high=16).forward(torch.tensor([[3.7, 17.2]]))
    tensor([[ 3., 16.]])
    """

    def __init__(self, low: float = 0.0, high: float = 255.0, step: float = 1.0):
        super().__init__()
        self.low, self.high = check_number("low", low), check_number("high", high)
        if not low < high:
            raise ValueError(f"low, high: expected low < high, got {low} and {high}")
        self.step = check_number("step", step, 0)

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        y = self.low + self.step * ((x - self.low) / self.step).floor()
        return y.clamp(self.low, self.high), x.new_zeros(x.shape[0])

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        y = y if y.is_floating_point() else y.to(torch.get_default_dtype())
        noise = random.uniform(y.shape, generator, y.dtype, y.device)
        # rounding must not carry it to the next level
        next_level = y.detach() + self.step
        x = torch.minimum(y + self.step * noise, torch.nextafter(next_level, y.detach()))
        return x, y.new_zeros(y.shape[0])
