"""Posteriors of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..paths import TokenPath
from ..tensors import Condition, parameter_dtype
from .base import AnyField, as_field


class TokenPosterior(nn.Module):
    """log p(x1^i = k | x_t) ``(B, *event, K)``, from a network's scores and what a token says itself.

    By Bayes' rule the posterior is in proportion to exp(score_k) p_t(x_t^i | x1^i = k).  A network then need
    not learn how noisy a token is at t; of a path from a mask, tokens that have appeared are known.

    network: a field with values ``(B, *event, K)``.  It is given times of its own dtype.

    >>> from pushforward.paths import MaskedTokens
    >>> field = TokenPosterior(lambda t, x: torch.zeros(*x.shape, 2), MaskedTokens(2))
    >>> field(torch.tensor(0.5), torch.tensor([[2, 1]])).exp()
    tensor([[[0.5000, 0.5000],
             [0.0000, 1.0000]]])
    """

    def __init__(self, network: AnyField, path: TokenPath):
        super().__init__()
        self.network, self.path = as_field(network, "network"), path

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        own = parameter_dtype(self)
        time = torch.as_tensor(t, dtype=torch.float64, device=x.device)
        scores = self.network(time.to(own or torch.get_default_dtype()), x, condition)
        expected = (*x.shape, self.path.size)
        if tuple(scores.shape) != expected:
            raise ValueError(f"network: expected scores of shape {expected}, got {tuple(scores.shape)}")
        return (scores + self.path.log_likelihood(time, x).to(scores)).log_softmax(-1)
