"""The loss of a network over the columns of a mixed table, of which each row shows others."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from .. import random
from ..nn.columns import ColumnNetwork, show
from .base import Batch, Loss, Objective, Step, model_of


class ColumnMatching(Objective):
    r"""Cross entropies of hidden tokens, and flow matching of hidden numbers, given what a row shows.

    Each row has its own set of columns that are observed: none in half of the rows, else each with one
    probability that is uniform.  Of the other tokens a random share is hidden, and each of these costs

    .. math:: \frac{n + 1}{h} \log \frac{1}{p(x^i | \mathrm{seen})},

    with n that are not observed and h hidden, where h is uniform on 0 to n: on average the bound of an
    autoregressive model in random order (masked discrete flow matching, Gat et al. 2024, arXiv 2407.15595).
    The numbers that are not observed are regressed on x1 - x0 at (1 - t) x0 + t x1, given all tokens and the
    numbers that are, as each number has its own time (2508.04605).  A number that does not exist costs
    nothing.

    ``models`` holds ``"field"``, a :class:`~pushforward.nn.ColumnNetwork`; rows are tokens and numbers
    ``(B, T + M)``, NaN where a number does not exist.

    >>> from pushforward import Rows
    >>> from pushforward.nn import ColumnLayout
    >>> net = ColumnNetwork(ColumnLayout((2,), (0,), (1,), (1,)), width=8, depth=1)
    >>> batch = Batch((Rows(torch.zeros(64, 2)),))
    >>> loss = ColumnMatching().loss(nn.ModuleDict({"field": net}), batch, Step())
    >>> sorted(loss.terms), loss.errors.shape
    (['numbers', 'tokens'], torch.Size([64]))
    """

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        net = cast(ColumnNetwork, model_of(models, "field"))
        layout, x = net.layout, batch.target.x
        tokens, numbers = x[:, : layout.tokens].long(), x[:, layout.tokens :].float()
        exists, rows, draws = layout.exists(tokens), len(x), 3 + layout.columns + layout.tokens
        numbers = torch.where(exists, numbers, 0.0)
        u = random.uniform((rows, draws), step.generator, torch.float32, x.device)
        observed = (u[:, 3:][:, : layout.columns] < u[:, :1]) & (u[:, 1:2] < 0.5)
        seen, known = layout.of_tokens(observed), layout.of_numbers(observed) & exists
        errors = x.new_zeros(rows, dtype=torch.float32)
        terms: dict[str, Tensor] = {}
        if layout.tokens:
            shown = seen | (u[:, 3 + layout.columns :] < u[:, 2:3])
            costs = self._tokens(net, tokens, numbers, shown, known)
            terms["tokens"] = costs * ((1 + (~seen).sum(1)) / (~shown).sum(1).clamp(min=1))
        if layout.numbers:
            every = torch.ones_like(tokens, dtype=torch.bool)
            context = show(layout, tokens, numbers, every, known)
            t = random.uniform((rows,), step.generator, torch.float32, x.device)
            x0 = random.normal(numbers.shape, step.generator, numbers.dtype, x.device)
            free = exists & ~known
            point = torch.where(free, (1 - t[:, None]) * x0 + t[:, None] * numbers, 0.0)
            error = (net.velocity(t, point, context) - (numbers - x0)).square()
            terms["numbers"] = torch.where(free, error, 0.0).sum(1)
        value, detached = batch.reduce(sum(terms.values(), errors))
        return Loss(value, detached, terms={name: term.mean().detach() for name, term in terms.items()})

    @staticmethod
    def _tokens(net: ColumnNetwork, tokens: Tensor, numbers: Tensor, shown: Tensor, known: Tensor) -> Tensor:
        """The cross entropies of the tokens that are not shown, summed, ``(B,)``."""
        scores = net.scores(show(net.layout, tokens, numbers, shown, known))
        each = [s.log_softmax(-1).gather(1, tokens[:, i : i + 1])[:, 0] for i, s in enumerate(scores)]
        return -torch.where(shown, 0.0, torch.stack(each, 1)).sum(1)
