"""A source known only by its samples."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from .. import random
from ..inputs import as_points
from ..nn.checks import check_number
from ..tensors import Condition
from .base import Source


class Empirical(Source):
    """The uniform distribution on the rows of ``x`` ``(N, *event)``, optionally smoothed by N(0, noise^2 I).

    It has no density: :meth:`log_prob` raises ValueError.  Raises ValueError for no rows, values that are not
    finite and negative noise.

    >>> Empirical(torch.zeros(5, 2)).sample(3).shape
    torch.Size([3, 2])
    """

    rows: Tensor

    def __init__(self, x: Tensor, noise: float = 0.0):
        super().__init__()
        x = as_points(x, "x")
        self.event_shape = tuple(x.shape[1:])
        self.noise = check_number("noise", noise, 0, torch.finfo(torch.float32).max) if noise else 0.0
        self.register_buffer("rows", x)

    @property
    def atoms(self) -> Tensor:
        return self.rows

    def convolved(self, scale: float, noise: float) -> Self:
        return type(self)(scale * self.rows, math.hypot(scale * self.noise, noise))

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        u = random.uniform((n,), generator, torch.float64, self.rows.device)
        x = self.rows[(u * len(self.rows)).long()]
        if self.noise:
            x = x + self.noise * random.normal(x.shape, generator, x.dtype, x.device)
        return x

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        raise ValueError("the source is known only by its samples, so the flow has no density")
