"""Several distributions mixed with fixed weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from .. import random
from ..inputs import check_weights
from ..tensors import Condition
from .base import Source


class Blend(Source):
    """sum_k w_k p_k of sources ``parts`` on the same events, the ``weights`` ``(K,)`` fixed and normalised.

    Raises ValueError for no parts, events of different shapes and weights that cannot be normalised.

    >>> from pushforward.sources import Normal
    >>> Blend([Normal(1), Normal(1, 2.0)], [0.5, 0.5]).log_prob(torch.zeros(1, 1))
    tensor([-1.2066])
    """

    log_weights: Tensor

    def __init__(self, parts: Sequence[Source], weights: Sequence[float] | Tensor):
        super().__init__()
        if not parts:
            raise ValueError("parts: expected at least one source")
        w = check_weights(weights, len(parts)).double()
        self.event_shape = parts[0].event_shape
        if any(part.event_shape != self.event_shape for part in parts):
            raise ValueError(f"parts: expected equal events, got {[part.event_shape for part in parts]}")
        self.parts = nn.ModuleList(parts)
        self.register_buffer("log_weights", (w / w.sum()).log())

    @property
    def sources(self) -> list[Source]:
        """The parts."""
        return [part for part in self.parts if isinstance(part, Source)]

    def convolved(self, scale: float, noise: float) -> Self:
        return type(self)([part.convolved(scale, noise) for part in self.sources], self.log_weights.exp())

    def affine(self, matrix: Tensor, offset: Tensor) -> Self:
        return type(self)([part.affine(matrix, offset) for part in self.sources], self.log_weights.exp())

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        u = random.uniform((n,), generator, torch.float64, self.log_weights.device)
        steps = self.log_weights.double().exp().cumsum(0)
        chosen = (u[:, None] >= steps / steps[-1]).sum(1)
        x = None
        for k, part in enumerate(self.sources):
            # every part draws all rows, so that a row's draw depends on no other row
            drawn = part.sample(n, condition, generator)
            mine = (chosen == k).reshape(-1, *([1] * (drawn.ndim - 1)))
            x = drawn if x is None else torch.where(mine, drawn, x)
        assert x is not None
        return x

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        each = torch.stack([part.log_prob(x, condition) for part in self.sources], 1)
        return (each + self.log_weights.to(each)).logsumexp(1)
