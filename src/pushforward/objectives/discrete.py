"""Losses of posteriors of tokens."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from torch import nn

from ..paths import LateTimes, TokenPath
from ..tensors import expand_time
from .base import Batch, Loss, Objective, Step, check_share, field_of, model_of, partly_hidden
from .times import Times, Uniform, check_kinds

#: What a posterior of tokens is trained by.
TokenLoss = Literal["elbo", "cross-entropy"]


class DiscreteMatching(Objective):
    r"""Cross entropy or generalised KL divergence of a posterior of tokens along a ``path``.

    "elbo", the bound on the negative log-likelihood in nats per token (see
    :meth:`~pushforward.paths.TokenPath.divergence`; for a mask it is a weighted cross entropy), or
    "cross-entropy", E[-log p(x1^i | x_t)].  Both have the exact posterior as their minimiser (Gat et al.
    2024, arXiv 2407.15595; Shaul et al. 2024, arXiv 2412.03487).

    ``models`` holds ``"field"`` with log-probabilities ``(B, *event, K)``, such as a
    :class:`~pushforward.fields.TokenPosterior`.  Rows are tokens, int64 or whole floats.  ``times`` are those
    of the cross entropy, uniform by default; the bound has its own, :class:`~pushforward.paths.LateTimes`.
    Each row's condition is hidden with probability ``drop_condition``.

    Without a ``path`` it is that of the field.

    Raises ValueError for an unknown loss, times beside the bound, and values that are no tokens.

    >>> from pushforward import Rows
    >>> from pushforward.paths import MaskedTokens
    >>> batch = Batch((Rows(torch.zeros(8, 4)),))
    >>> field = nn.Linear(1, 1)
    >>> field.forward = lambda t, x, condition=None: torch.zeros(*x.shape, 2).log_softmax(-1)
    >>> objective = DiscreteMatching(MaskedTokens(2), "cross-entropy")
    >>> objective.loss(nn.ModuleDict({"field": field}), batch, Step()).value
    tensor(0.6931)
    """

    def __init__(
        self,
        path: TokenPath | None = None,
        loss: TokenLoss = "elbo",
        drop_condition: float = 0.0,
        times: Times | None = None,
    ):
        check_kinds(path, times)
        if loss not in get_args(TokenLoss):
            raise ValueError(f"loss: expected one of {', '.join(get_args(TokenLoss))}, got {loss!r}")
        if loss == "elbo" and times is not None:
            raise ValueError(f"times: the bound has times of its own, got {times!r}; leave them out")
        self.path, self.kind = path, loss
        self.drop_condition = check_share(drop_condition)
        self.times = times

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        rows = tuple(part.x for part in batch.marginals)
        like = rows[-1].new_zeros(len(rows[-1]), dtype=torch.float32)
        path = self.path or cast(TokenPath, model_of(models, "field").path)
        late = LateTimes(rows[-1][0].numel(), path.last)
        if self.kind == "elbo":
            t = late.quantile(Uniform().draw(like, step))
        else:
            t = (self.times or Uniform()).draw(like, step, 1 - path.last)
        point = path.sample(t, *rows, generator=step.generator)
        x1 = rows[-1].long()
        condition = partly_hidden(batch, self.drop_condition, step)
        found = field_of(models)(t, point.x, condition)
        if self.kind == "cross-entropy":
            each = -found.gather(-1, x1[..., None])[..., 0]
        else:
            each = path.divergence(t, point.x, x1, found)
            each = each * expand_time(late.weight(t), each)
        value, errors = batch.reduce(each)
        return Loss(value, errors, t)
