"""Posteriors of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..paths import TokenPath, TokenPoints
from ..tensors import Condition, parameter_dtype
from .base import AnyField, as_field


class TokenPosterior(nn.Module):
    """log p(x1^i = k | x_t) ``(B, *event, K)``, from a network's scores and what a token says itself.

    Along a path of vectors, :class:`~pushforward.paths.TokenPoints`, the network sees how likely each token
    is by its own vector, probabilities ``(B, *event, K)``.

    By Bayes' rule the posterior is in proportion to exp(score_k) p_t(x_t^i | x1^i = k).  A network then need
    not learn how noisy a token is at t; of a path from a mask, tokens that have appeared are known.

    network: a field with values ``(B, *event, K)``.  It is given times of its own dtype.

    >>> from pushforward.paths import MaskedTokens
    >>> field = TokenPosterior(lambda t, x: torch.zeros(*x.shape, 2), MaskedTokens(2))
    >>> field(torch.tensor(0.5), torch.tensor([[2, 1]])).exp()
    tensor([[[0.5000, 0.5000],
             [0.0000, 1.0000]]])
    """

    def __init__(self, network: AnyField, path: TokenPath | TokenPoints):
        super().__init__()
        self.network, self.path = as_field(network, "network"), path

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        own = parameter_dtype(self)
        time = torch.as_tensor(t, dtype=torch.float64, device=x.device)
        dtype = own or torch.get_default_dtype()
        alone = self.path.log_likelihood(time, x)
        seen = self.path.seen(x, alone)
        scores = self.network(time.to(dtype), seen.to(dtype) if seen.is_floating_point() else seen, condition)
        if scores.shape != alone.shape:
            raise ValueError(
                f"network: expected scores of shape {tuple(alone.shape)}, got {tuple(scores.shape)}"
            )
        return (scores + alone.to(scores)).log_softmax(-1)


class PosteriorVelocity(nn.Module):
    """The velocity of vectors ``(B, *event, E)`` to the points of tokens, from a posterior of these.

    posterior: log p(x1^i = k | x_t = x) ``(B, *event, K)``.

    >>> from pushforward.paths import SimplexTokens
    >>> path = SimplexTokens(2)
    >>> first = PosteriorVelocity(lambda t, x: torch.tensor([[[0.0, -torch.inf]]]), path)
    >>> first(torch.tensor(0.0), torch.tensor([[[0.0, 1.0]]])) / torch.pi
    tensor([[[0.5000, 0.0000]]])
    """

    def __init__(self, posterior: AnyField, path: TokenPoints):
        super().__init__()
        self.posterior, self.path = as_field(posterior, "posterior"), path

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        time = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        found = self.posterior(time, x, condition).softmax(-1).to(x)
        return self.path.velocity(time, x, found)
