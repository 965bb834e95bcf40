"""Penalties on what a flow map does to volume, and on how its trajectories bend."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...fields import Diagonal, as_flow_map, jump
from ...flows.divergence import CACHED, plain_attention
from ...nn.checks import check_number
from ...tensors import event_size, sum_event
from ..base import Batch, Loss, Step, model_of
from .drawn import leaps, points, with_leaps
from .forward_mode import derivative
from .matching import FlowMapMatching, MapObjective


class Penalised(MapObjective):
    r"""The loss of a flow map plus penalties on its volume and on the curvature of its trajectories:

    .. math:: L + \lambda_v \operatorname{E} \frac{1}{d} \log^2 |\det \partial X_{s,t} / \partial x|
        + \lambda_c \operatorname{E} \frac{1}{d} |\partial_t u + (u \cdot \nabla) u|^2, \qquad
        u(t, x) = v(t, t, x)

    The first is zero where the map keeps volumes; its Jacobians are exact, in d vector-Jacobian products of
    one evaluation.  The second is the squared acceleration along trajectories, zero where they are straight
    lines at constant speed, and takes one forward-mode derivative of the velocity.  Rows are points of the
    path at its times.  Both pull the map away from the one that carries the source to the data, by as much
    as their weights say.

    ``models`` holds ``"field"``, the flow map.  objective: by default :class:`FlowMapMatching`.
    volume, curvature: the weights; at 0 a penalty is not computed.

    Raises ValueError for weights that are negative, and an objective of leaps to the data alone.

    >>> from pushforward import Rows
    >>> from pushforward.fields import TwoTimes
    >>> from pushforward.nn import MLP
    >>> batch = Batch((Rows(torch.zeros(8, 2)), Rows(torch.ones(8, 2))))
    >>> models = nn.ModuleDict({"field": TwoTimes(MLP(2, spans=True))})
    >>> sorted(Penalised(volume=0.1, curvature=0.1).loss(models, batch, Step()).terms)
    ['curvature', 'diagonal', 'leaps', 'volume']
    """

    def __init__(self, objective: MapObjective | None = None, volume: float = 0.0, curvature: float = 0.0):
        self.objective = with_leaps(objective)
        self.volume = check_number("volume", volume, 0) if volume else 0.0
        self.curvature = check_number("curvature", curvature, 0) if curvature else 0.0

    @property
    def matching(self) -> FlowMapMatching:
        return self.objective.matching

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        loss = self.objective.loss(models, batch, step)
        if not self.volume and not self.curvature:
            return loss
        flow_map = as_flow_map(model_of(models, "field"))
        matching = self.matching
        condition = matching.conditions(batch, step)
        value, errors, terms = loss.value, loss.per_sample, dict(loss.terms)
        found: dict[str, tuple[float, Tensor]] = {}
        if self.volume:
            s, t, x = leaps(matching, batch, step)
            log_det = log_determinant(lambda y: jump(flow_map, s, t, y, condition), x)
            found["volume"] = self.volume, log_det.square() / event_size(x.shape[1:])
        if self.curvature:
            t = matching.alone(batch.target.x, step)
            x = points(matching, t, batch, step)
            bent = acceleration(lambda t, y: Diagonal(flow_map)(t, y, condition), t, x)
            found["curvature"] = self.curvature, sum_event(bent.square()) / event_size(x.shape[1:])
        for name, (weight, squares) in found.items():
            mean, each = batch.reduce(squares)
            value, errors = value + weight * mean, errors + weight * each
            terms[name] = mean.detach()
        return Loss(value, errors, loss.t, terms)


def log_determinant(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log |det df/dx| ``(B,)`` of a map of rows ``(B, *event)``, with gradients.

    >>> log_determinant(lambda x: 2 * x, torch.zeros(1, 3))
    tensor([2.0794])
    """
    size = event_size(x.shape[1:])
    basis = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, 1, *x.shape[1:])
    chunk = None if torch.is_grad_enabled() else max(4, CACHED // max(1, x.numel()))
    with plain_attention():
        _, pull, *_ = torch.func.vjp(function, x)
        columns = torch.func.vmap(lambda v: pull(v)[0], chunk_size=chunk)(basis.expand(-1, *x.shape))
    return torch.linalg.slogdet(columns.movedim(0, 1).reshape(len(x), size, size))[1]


def acceleration(field: Callable[[Tensor, Tensor], Tensor], t: Tensor, x: Tensor) -> Tensor:
    """du/dt + (u . grad) u ``(B, *event)`` of a velocity field, with gradients.

    >>> acceleration(lambda t, x: x, torch.zeros(1), torch.ones(1, 1))  # of x exp(t)
    tensor([[1.]])
    """
    return derivative(field, (t, x), (torch.ones_like(t), field(t, x)))[1]
