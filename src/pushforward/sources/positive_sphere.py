"""The uniform distribution on the positive part of the sphere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import random
from ..nn.checks import check_sizes
from ..tensors import Condition, event_size
from .base import Source


class PositiveSphere(Source):
    """Unit vectors whose numbers are not negative, uniformly, along the last dimension of an event.

    Their squares are probabilities of the distribution Dirichlet(1/2).  ``log_prob`` is per area of each
    sphere.

    >>> (PositiveSphere(3).log_prob(torch.tensor([[0.6, 0.8, 0.0]])).exp() * 4 * math.pi).round()
    tensor([8.])
    """

    home: Tensor

    def __init__(self, event_shape: int | Sequence[int]):
        super().__init__()
        self.event_shape = check_sizes("event_shape", event_shape)
        self.register_buffer("home", torch.zeros(()))

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        z = random.normal((n, *self.event_shape), generator, self.home.dtype, self.home.device).abs()
        return z / z.norm(dim=-1, keepdim=True)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        d = self.event_shape[-1]
        area = math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2) - d * math.log(2)
        return x.new_full((len(x),), -area * event_size(self.event_shape[:-1]))
