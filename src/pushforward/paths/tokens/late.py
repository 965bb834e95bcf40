"""Times at which the bound on the log-likelihood of tokens is evaluated."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LateTimes:
    """Times of [0, last] with a density in proportion to 1 / (1 - t + 1 / tokens).

    The terms of the bound grow by 1 / (1 - t), while fewer and fewer tokens have one: at these times, and
    divided by their density, they vary little.

    >>> import torch
    >>> LateTimes(64).quantile(torch.tensor([0.0, 0.5, 1.0]))
    tensor([0.0000, 0.8897, 1.0000])
    """

    tokens: int
    last: float = 1.0

    @property
    def _ends(self) -> tuple[float, float]:
        return 1 + 1 / self.tokens, 1 - self.last + 1 / self.tokens

    def quantile(self, u: Tensor) -> Tensor:
        """The times at which the distribution function is ``u``."""
        first, end = self._ends
        return (first - first * (end / first) ** u).clamp(0, self.last)

    def weight(self, t: Tensor) -> Tensor:
        """One over the density at ``t``."""
        first, end = self._ends
        return (first - t) * math.log(first / end)
