"""The isotropic normal distribution, the source of most flows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from .. import random
from ..nn.checks import check_number, check_sizes
from ..tensors import Condition, event_size, sum_event
from .base import Source


class Normal(Source):
    """N(loc, scale^2 I) on events of ``event_shape``.

    Raises ValueError for a scale that is not positive and a loc that is not finite.

    >>> Normal(2).log_prob(torch.zeros(1, 2))
    tensor([-1.8379])
    """

    normal = True
    loc: Tensor
    scale: Tensor

    def __init__(self, event_shape: int | Sequence[int], scale: float = 1.0, loc: float = 0.0):
        super().__init__()
        scale = check_number("scale", scale, 0, torch.finfo(torch.float32).max)
        loc = check_number("loc", loc)
        self.event_shape = check_sizes("event_shape", event_shape)
        self.register_buffer("loc", torch.tensor(float(loc)))
        self.register_buffer("scale", torch.tensor(float(scale)))

    def is_white(self, scale: float) -> bool:
        return abs(float(self.loc)) <= 1e-4 * scale and math.isclose(float(self.scale), scale, rel_tol=1e-4)

    def convolved(self, scale: float, noise: float) -> Self:
        spread = math.hypot(scale * float(self.scale), noise)
        return type(self)(self.event_shape, spread, scale * float(self.loc)).to(self.loc.dtype)

    def masked(self, mask: Tensor) -> MaskedNormal:
        return MaskedNormal(self, mask)

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        z = random.normal((n, *self.event_shape), generator, self.loc.dtype, self.loc.device)
        return self.loc + self.scale * z

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        scale, d = self.scale.to(x), event_size(self.event_shape)
        z = (x - self.loc.to(x)) / scale
        return -0.5 * sum_event(z.square()) - d * (0.5 * math.log(2 * math.pi) + scale.log())


class MaskedNormal(Source):
    """A :class:`Normal` of which row i has the elements where ``mask`` ``(B, *event_shape)`` is True."""

    def __init__(self, normal: Normal, mask: Tensor):
        super().__init__()
        self.inner, self.mask, self.event_shape = normal, mask, normal.event_shape

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return torch.where(self.mask, self.inner.sample(n, condition, generator), 0.0)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        scale = self.inner.scale.to(x)
        z = (x - self.inner.loc.to(x)) / scale
        each = 0.5 * (z.square() + math.log(2 * math.pi)) + scale.log()
        return -sum_event(torch.where(self.mask, each, 0.0))
