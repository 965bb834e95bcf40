"""Losses of posteriors of tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from ..paths import LateTimes, TokenPath
from ..tensors import expand_time
from .base import Batch, Loss, Objective, Step, check_share, field_of, model_of, partly_hidden
from .times import Times, Uniform, check_kinds


class TokenLoss(ABC):
    """What a posterior of tokens is trained by; the exact posterior is to be its minimiser."""

    @abstractmethod
    def times(self, like: Tensor, path: TokenPath, tokens: int, step: Step) -> Tensor:
        """Times ``(B,)`` of rows of so many ``tokens``, for B rows ``like``."""

    @abstractmethod
    def errors(self, path: TokenPath, t: Tensor, x: Tensor, x1: Tensor, log_probs: Tensor) -> Tensor:
        """What is minimised, ``(B, *event)``: of ``log_probs`` ``(B, *event, K)`` of the tokens ``x1``, which
        are seen as ``x`` at the times ``t``."""


class ELBO(TokenLoss):
    """The bound on the negative log-likelihood, in nats per token.

    It is the integral over time of the generalised KL divergence of the rates of jumps (see
    :meth:`~pushforward.paths.TokenPath.divergence`), for a mask a weighted cross entropy.  Times are
    :class:`~pushforward.paths.LateTimes`, at which its terms vary little.  Shaul et al. 2024, arXiv
    2412.03487; for a mask Gat et al. 2024, arXiv 2407.15595.

    >>> from pushforward.paths import MaskedTokens
    >>> ELBO().times(torch.zeros(8), MaskedTokens(2), 64, Step()).shape
    torch.Size([8])
    """

    def times(self, like: Tensor, path: TokenPath, tokens: int, step: Step) -> Tensor:
        return LateTimes(tokens, path.last).quantile(Uniform().draw(like, step))

    def errors(self, path: TokenPath, t: Tensor, x: Tensor, x1: Tensor, log_probs: Tensor) -> Tensor:
        each = path.divergence(t, x, x1, log_probs)
        return each * expand_time(LateTimes(x1[0].numel(), path.last).weight(t), each)


class CrossEntropy(TokenLoss):
    """E[-log p(x1^i | x_t)] over the ``times``, uniform ones by default.

    Gat et al. 2024, arXiv 2407.15595.  Raises ValueError for times that are none.

    >>> log_probs = torch.zeros(1, 3, 2).log_softmax(-1)
    >>> from pushforward.paths import MaskedTokens
    >>> tokens = torch.tensor([[0, 1, 1]])
    >>> CrossEntropy().errors(MaskedTokens(2), torch.tensor([0.5]), tokens, tokens, log_probs)
    tensor([[0.6931, 0.6931, 0.6931]])
    """

    def __init__(self, times: Times | None = None):
        check_kinds(None, times)
        self.drawn = times or Uniform()

    def times(self, like: Tensor, path: TokenPath, tokens: int, step: Step) -> Tensor:
        return self.drawn.draw(like, step, 1 - path.last)

    def errors(self, path: TokenPath, t: Tensor, x: Tensor, x1: Tensor, log_probs: Tensor) -> Tensor:
        return -log_probs.gather(-1, x1[..., None])[..., 0]


class DiscreteMatching(Objective):
    r"""A :class:`TokenLoss` of a posterior of tokens along a ``path``, that of the field by default.

    ``loss`` is :class:`ELBO` by default, the bound on the negative log-likelihood, or :class:`CrossEntropy`.
    Both have the exact posterior as their minimiser (Gat et al. 2024, arXiv 2407.15595; Shaul et al. 2024,
    arXiv 2412.03487).

    ``models`` holds ``"field"`` with log-probabilities ``(B, *event, K)``, such as a
    :class:`~pushforward.fields.TokenPosterior`.  Rows are tokens, int64 or whole floats.  Each row's
    condition is hidden with probability ``drop_condition``.

    Raises ValueError for a loss that is none, and values that are no tokens.

    >>> from pushforward import Rows
    >>> from pushforward.paths import MaskedTokens
    >>> batch = Batch((Rows(torch.zeros(8, 4)),))
    >>> field = nn.Linear(1, 1)
    >>> field.forward = lambda t, x, condition=None: torch.zeros(*x.shape, 2).log_softmax(-1)
    >>> objective = DiscreteMatching(MaskedTokens(2), CrossEntropy())
    >>> objective.loss(nn.ModuleDict({"field": field}), batch, Step()).value
    tensor(0.6931)
    """

    def __init__(
        self,
        path: TokenPath | None = None,
        loss: TokenLoss | None = None,
        drop_condition: float = 0.0,
    ):
        check_kinds(path, None)
        if loss is not None and not isinstance(loss, TokenLoss):
            raise ValueError(f"loss: expected a TokenLoss such as ELBO() or CrossEntropy(), got {loss!r}")
        self.path, self.rule = path, loss or ELBO()
        self.drop_condition = check_share(drop_condition)

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        rows = tuple(part.x for part in batch.marginals)
        like = rows[-1].new_zeros(len(rows[-1]), dtype=torch.float32)
        path = self.path or cast(TokenPath, model_of(models, "field").path)
        t = self.rule.times(like, path, rows[-1][0].numel(), step)
        point = path.sample(t, *rows, generator=step.generator)
        x1 = rows[-1].long()
        condition = partly_hidden(batch, self.drop_condition, step)
        found = field_of(models)(t, point.x, condition)
        value, errors = batch.reduce(self.rule.errors(path, t, point.x, x1, found))
        return Loss(value, errors, t)
