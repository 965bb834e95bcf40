"""The path of tokens from uniform noise."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..schedules import Schedule
from .base import by_token
from .mixture import MixturePath


class UniformTokens(MixturePath):
    """From tokens that are equally likely: a token may be drawn again and again, and so be mended.

    Its bound on the log-likelihood is not tight even for the exact posterior, because x_t does not say which
    tokens are noise: for one token of probabilities (.1, .2, .3, .4) it is 1.6553 where the entropy is 1.2799
    nats.  Gat et al. 2024, arXiv 2407.15595; Campbell et al. 2024, arXiv 2402.04997.

    >>> path = UniformTokens(3)
    >>> path.sample(torch.tensor(1.0), torch.tensor([[0, 1, 2, 1]])).x
    tensor([[0, 1, 2, 1]])
    """

    starts_differ: ClassVar[bool] = True

    def __init__(self, size: int, schedule: Schedule | None = None):
        super().__init__(size, size, schedule)

    @property
    def start(self) -> Tensor:
        return torch.full((self.size,), 1 / self.size, dtype=torch.float64)

    def log_likelihood(self, t: Tensor, x: Tensor) -> Tensor:
        kappa = by_token(self.kappa(t)[0], x)
        other = torch.log((1 - kappa) / self.size)
        same = x[..., None] == torch.arange(self.size, device=x.device)
        return torch.where(same, torch.log(kappa + (1 - kappa) / self.size), other)
