"""The path of tokens from a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from ..schedules import Schedule
from .base import by_token
from .mixture import MixturePath


class MaskedTokens(MixturePath):
    """From one more token, the mask, number ``size``: tokens appear one by one and stay.

    The posterior does not depend on the time, and the bound on the log-likelihood is that of an
    autoregressive model in random order.  Campbell et al. 2024, arXiv 2402.04997; Gat et al. 2024, arXiv
    2407.15595.

    >>> path = MaskedTokens(3)
    >>> x1 = torch.tensor([[0, 1, 2, 1]])
    >>> path.sample(torch.tensor(0.0), x1).x, path.sample(torch.tensor(1.0), x1).x
    (tensor([[3, 3, 3, 3]]), tensor([[0, 1, 2, 1]]))
    """

    def __init__(self, size: int, schedule: Schedule | None = None):
        super().__init__(size, size + 1, schedule)

    @property
    def start(self) -> Tensor:
        return torch.eye(self.values, dtype=torch.float64)[-1]

    def log_likelihood(self, t: Tensor, x: Tensor) -> Tensor:
        known = (x < self.size)[..., None]
        differs = x[..., None] != torch.arange(self.size, device=x.device)
        zero = by_token(torch.zeros_like(t), x)
        return torch.where(known & differs, -torch.inf, zero)
