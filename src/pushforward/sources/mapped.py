"""A source seen through a bijection, such as the units of the data."""

from __future__ import annotations

import torch
from torch import Tensor

from ..bijections import Bijection
from ..tensors import Condition
from .base import Source


class Mapped(Source):
    """The distribution of f(z), z drawn from ``source`` and f a ``bijection``.

    log p(x) = log p_source(f^-1(x)) + log|det df^-1/dx|.

    >>> from pushforward.bijections import Affine
    >>> from pushforward.sources import Normal
    >>> Mapped(Normal(1), Affine(torch.zeros(1), torch.full((1,), 2.0))).log_prob(torch.zeros(1, 1))
    tensor([-1.6121])
    """

    def __init__(self, source: Source, bijection: Bijection):
        super().__init__()
        self.source, self.bijection = source, bijection
        self.event_shape = bijection.event_shape(source.event_shape)

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.bijection.forward(self.source.sample(n, condition, generator), condition, generator)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        z, log_det = self.bijection.inverse_and_log_det(x, condition)
        return self.source.log_prob(z, condition) + log_det
