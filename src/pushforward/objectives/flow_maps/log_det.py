"""The objective of heads that learn the log-determinants of a flow map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...fields import Diagonal, FlowMap, as_flow_map, jump, log_det_of
from ...flows.divergences import Divergence
from ...nn.checks import check_number
from ...tensors import Condition, event_size
from ..base import Batch, Loss, Step, model_of
from .drawn import leaps, with_leaps
from .forward_mode import check_dropout, derivative
from .matching import FlowMapMatching, MapObjective
from .penalties import log_determinant

#: Spans below this are taken for it where a log-determinant is divided by one, against rounding.
LEAST = 1e-3
#: The largest log-determinant for each element of an event that is learnt from.
MOST = 20.0


class LogDetMatching(MapObjective):
    r"""A flow map and a head D for its log-determinants, learnt together:

    .. math:: L + \lambda \operatorname{E} \frac1d \big| D(s, t, x) - \operatorname{sg} \frac{1}{t - s}
        \log |\det \partial X_{s,t}(x) / \partial x| \big|^2

    L is the loss of ``objective``.  The log-determinants are those of the leaps as they are, so that head and
    map agree also where the map is not yet right: the density of a map that runs back one to one has an
    integral of 1, whatever its errors.  They take d vector-Jacobian products of one evaluation.

    With a ``divergence`` the head learns from divergences of the velocity instead, of the trajectories that
    the leaps should follow:

    .. math:: L + \lambda \operatorname{E} \frac1d \big| D(s, t, x) + (t - s) \, \partial_t D(s, t, x)
        - \operatorname{sg} \operatorname{div} v(t, t, X_{s,t}(x)) \big|^2

    Along a trajectory the log-determinant (t - s) D grows at the divergence where it is; at s = t this says
    that D is the divergence.  Either loss is 0 for the exact head of the exact map, and nothing of the head
    enters its own target, as it does in the self-consistency of F2D2 (arXiv 2512.02636).

    ``models`` holds ``"field"``, the flow map, and ``"head"``, see :class:`~pushforward.fields.LogDetHead`.
    Its targets give the field no gradients.

    objective: by default a two-sided :class:`FlowMapMatching`, with whose path and times rows are drawn; it
    may be :class:`Penalised`.
    divergence: None for the leaps themselves; :class:`~pushforward.flows.Hutchinson`, for large events, takes
    one vector-Jacobian product, and gives a target that is right on average.
    weight: lambda.

    Raises ValueError for a weight that is not positive, an objective of leaps to the data alone, and
    with a ``divergence`` a head without forward-mode derivatives.

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
        objective: MapObjective | None = None,
        divergence: Divergence | None = None,
        weight: float = 1.0,
    ):
        self.objective = with_leaps(objective, two_sided=True)
        self.divergence = divergence
        self.weight = check_number("weight", weight, 0)

    @property
    def matching(self) -> FlowMapMatching:
        return self.objective.matching

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        loss = self.objective.loss(models, batch, step)
        s, t, x = leaps(self.matching, batch, step)
        condition = self.matching.conditions(batch, step)
        head, flow_map = model_of(models, "head"), as_flow_map(model_of(models, "field"))
        if self.divergence is None:
            errors = _of_leaps(flow_map, head, (s, t, x), condition)
        else:
            errors = _of_velocities(flow_map, head, (s, t, x), condition, self.divergence, step)
        squares = errors.square() * (self.weight / event_size(x.shape[1:]))
        part, each = batch.reduce(squares)
        terms = {**loss.terms, "log_det": part.detach() / self.weight}
        return Loss(loss.value + part, loss.per_sample + each, loss.t, terms)


def _of_leaps(
    flow_map: FlowMap, head: nn.Module, rows: tuple[Tensor, Tensor, Tensor], condition: Condition | None
) -> Tensor:
    """Errors ``(B,)`` of D against the log-determinants of leaps over their spans."""
    s, t, x = rows
    known, most = log_det_of(flow_map), MOST * event_size(x.shape[1:])
    with torch.no_grad():
        if known is not None:
            log_det = known(s, t, x, condition)[1]
        else:
            log_det = log_determinant(lambda y: jump(flow_map, s, t, y, condition), x)
    # a leap that folds space has the determinant 0 somewhere
    log_det, span = log_det.clamp(-most, most), t - s
    return (span * head(s, t, x, condition) - log_det) / span.abs().clamp(min=LEAST)


def _of_velocities(
    flow_map: FlowMap,
    head: nn.Module,
    rows: tuple[Tensor, Tensor, Tensor],
    condition: Condition | None,
    divergence: Divergence,
    step: Step,
) -> Tensor:
    """Errors ``(B,)`` of the growth of (t - s) D against divergences where leaps land."""
    s, t, x = rows
    if not torch.compiler.is_compiling():
        check_dropout(head, "head")
    moved = derivative(lambda t: head(s, t, x, condition), (t,), (torch.ones_like(t),))
    with torch.no_grad():
        there, noise = jump(flow_map, s, t, x, condition), divergence.draw(x, step.generator)
        growth = divergence(Diagonal(flow_map), t, there, condition, noise)[1]
    return moved[0] + (t - s) * moved[1] - growth
