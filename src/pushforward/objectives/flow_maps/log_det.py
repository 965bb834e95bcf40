"""The objective of heads that learn the log-determinants of a flow map."""

from __future__ import annotations

import torch
from torch import nn

from ...fields import Diagonal, as_flow_map, jump
from ...flows.divergences import Divergence, Exact
from ...nn.checks import check_number
from ...tensors import event_size
from ..base import Batch, Loss, Objective, Step, model_of, partly_hidden
from .drawn import leaps, with_leaps
from .forward_mode import check_dropout, derivative
from .matching import FlowMapMatching


class LogDetMatching(Objective):
    r"""A flow map and a head D for its log-determinants, learnt together:

    .. math:: L + \lambda \operatorname{E} \frac1d \big| D(s, t, x) + (t - s) \, \partial_t D(s, t, x)
        - \operatorname{sg} \operatorname{div} v(t, t, X_{s,t}(x)) \big|^2, \qquad
        \log |\det \partial X_{s,t} / \partial x| = (t - s)\, D(s, t, x)

    L is the loss of ``objective``.  Along a trajectory the log-determinant (t - s) D grows at the divergence
    of the velocity where it is; at s = t this says that D is the divergence.  The loss is 0 for the exact
    head of the exact map.  The derivative is in t alone, and nothing of the head enters its own target, as it
    does in the self-consistency of F2D2 (arXiv 2512.02636).

    ``models`` holds ``"field"``, the flow map, and ``"head"``, see :class:`~pushforward.fields.LogDetHead`.
    Its targets give the field no gradients.

    objective: by default a two-sided :class:`FlowMapMatching`, with whose path and times rows are drawn.
    divergence: by default exact, by closed form or d vector-Jacobian products;
    :class:`~pushforward.flows.Hutchinson` has one, and a target that is right on average.
    weight: lambda.

    Raises ValueError for a weight that is not positive, an objective of leaps to the data alone, and a head
    without forward-mode derivatives.

    >>> from pushforward import Rows
    >>> from pushforward.fields import LogDetHead, TwoTimes
    >>> from pushforward.nn import MLP
    >>> models = {"field": TwoTimes(MLP(2, spans=True)), "head": LogDetHead(MLP(2, spans=True))}
    >>> batch = Batch((Rows(torch.zeros(8, 2)), Rows(torch.ones(8, 2))))
    >>> sorted(LogDetMatching().loss(nn.ModuleDict(models), batch, Step()).terms)
    ['diagonal', 'leaps', 'log_det']
    """

    def __init__(
        self,
        objective: FlowMapMatching | None = None,
        divergence: Divergence | None = None,
        weight: float = 1.0,
    ):
        self.objective = with_leaps(objective, two_sided=True)
        self.divergence = divergence or Exact()
        self.weight = check_number("weight", weight, 0)

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        loss = self.objective.loss(models, batch, step)
        s, t, x = leaps(self.objective, batch, step)
        condition = partly_hidden(batch, self.objective.drop_condition, step)
        head = model_of(models, "head")
        if not torch.compiler.is_compiling():
            check_dropout(head, "head")
        moved = derivative(lambda t: head(s, t, x, condition), (t,), (torch.ones_like(t),))
        with torch.no_grad():
            flow_map = as_flow_map(model_of(models, "field"))
            there, noise = jump(flow_map, s, t, x, condition), self.divergence.draw(x, step.generator)
            growth = self.divergence(Diagonal(flow_map), t, there, condition, noise)[1]
        squares = (moved[0] + (t - s) * moved[1] - growth).square()
        squares = squares * (self.weight / event_size(x.shape[1:]))
        part, errors = batch.reduce(squares)
        terms = {**loss.terms, "log_det": part.detach() / self.weight}
        return Loss(loss.value + part, loss.per_sample + errors, loss.t, terms)
