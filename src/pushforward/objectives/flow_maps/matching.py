"""The objective of flow maps: velocities on the diagonal, leaps off it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from ...fields import Diagonal, Field, FlowMap, GuidedByInput, as_flow_map, hidden_rows, with_weight
from ...fields.guidance.as_input import WEIGHT
from ...paths import Interpolant, Path, PathPoint
from ...rows import row_mean
from ...tensors import Condition, drop_condition, expand_time, map_condition, plain
from ..base import Batch, Loss, Objective, Step, check_share, model_of, partly_hidden
from ..times import Times, Uniform, check_kinds
from .base import MapLoss, MapRows, Maps, uniform
from .forward_mode import check_dropout
from .lagrangian import Lagrangian


class MapObjective(Objective):
    """An objective of a flow map, whose rows are those of a :class:`FlowMapMatching`."""

    @property
    @abstractmethod
    def matching(self) -> FlowMapMatching:
        """What draws the rows and trains the leaps."""


class FlowMapMatching(MapObjective):
    r"""A flow map from data, or distilled from a teacher's velocity field.

    A share of the rows has s = t and regresses v(t, t, x_t) on the velocity of the pair, as
    :class:`~pushforward.objectives.FlowMatching` does, or on that of the teacher; on the others ``loss`` says
    what a leap from s to t should be.  ``models`` holds ``"field"``, a
    :class:`~pushforward.fields.FlowMap`.

    loss: a :class:`MapLoss`, by default :class:`Lagrangian`, which says between what times rows leap.
    path, times: as those of flow matching.
    teacher: a velocity field that takes the place of the velocities of pairs.
    drop_condition: the share of rows whose condition is hidden.
    two_sided: whether s > t is trained too, so that the map runs backwards.
    margin: how far times stay away from an end at which the velocity of the path is infinite.
    guidance: the weight w of classifier-free guidance that the map has in it, where it learns from data: the
    velocity of a pair becomes w dx/dt + (1 - w) v(t, t, x) without the condition, so that v(t, t, x) is w
    times the conditional velocity and 1 - w times that without condition (Geng et al. 2025, section 4.2).  A
    teacher is guided by itself, see :class:`~pushforward.fields.Guided`.  Two weights are a range, of which
    each row draws one, also with a teacher; the map is told it in its condition, see
    :class:`~pushforward.fields.AtWeight`.

    Raises ValueError for a loss that cannot train both directions, and the path and times that flow matching
    refuses; of a loss with derivatives also for a layer that drops out in training mode, or has no
    forward-mode derivative.

    >>> from pushforward import Rows
    >>> from pushforward.fields import TwoTimes
    >>> from pushforward.nn import MLP
    >>> batch = Batch((Rows(torch.zeros(8, 2)), Rows(torch.ones(8, 2))))
    >>> models = nn.ModuleDict({"field": TwoTimes(MLP(2, spans=True))})
    >>> sorted(FlowMapMatching().loss(models, batch, Step()).terms)
    ['diagonal', 'leaps']
    """

    def __init__(
        self,
        loss: MapLoss | None = None,
        path: Path | None = None,
        times: Times | None = None,
        teacher: Field | None = None,
        drop_condition: float = 0.0,
        two_sided: bool = False,
        margin: float = 1e-3,
        guidance: float | tuple[float, float] = 1.0,
    ):
        check_kinds(path, times)
        loss = loss or Lagrangian()
        if not isinstance(loss, MapLoss):
            raise ValueError(f"loss: expected a MapLoss such as Lagrangian(), got {loss!r}")
        if two_sided and not loss.two_sided:
            raise ValueError(f"two_sided: {type(loss).__name__} leaps towards the data alone")
        if loss.needs_two_sided and not two_sided:
            raise ValueError(f"two_sided: {type(loss).__name__} leaps there and back; say two_sided=True")
        self.rule, self.path, self.teacher = loss, path or Interpolant(), teacher
        self.times = (times or Uniform()).along(self.path)
        self.drop_condition = check_share(drop_condition)
        self.two_sided, self.margin = two_sided, margin
        if guidance != 1 and not drop_condition:
            raise ValueError(f"guidance: expected 1 where no condition is hidden, got {guidance}")
        self.weights = guidance if isinstance(guidance, tuple) else None
        self.guidance = 1.0 if isinstance(guidance, tuple) else guidance
        if self.weights is not None and self.teacher is not None:
            self.teacher = GuidedByInput(self.teacher)
        self._sample = plain(self.path.sample)

    @property
    def matching(self) -> FlowMapMatching:
        return self

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        if batch.target.mask is not None:
            raise ValueError("mask: flow maps cannot leave out elements; a velocity field can")
        condition = self.conditions(batch, step)
        model = model_of(models, "field")
        if self.rule.derivative and not torch.compiler.is_compiling():
            check_dropout(model)
        flow_map = as_flow_map(cast(FlowMap, model))
        leads = step.ema if self.rule.averaged and step.ema is not None else models
        target = as_flow_map(cast(FlowMap, model_of(leads, "field")))
        s, t, still, leaps = self._times(batch, step)
        point = self._sample(s, *(rows.x for rows in batch.marginals), generator=step.generator)
        velocity = _Constant(Diagonal(target) if self.teacher is None else self.teacher)
        if self.teacher is None:
            slope = self._guided(cast(Tensor, point.velocity), velocity, s, point.x, condition)
        else:
            slope = velocity(s, point.x, condition)
        parts: list[Tensor] = []
        if len(still):
            moment = s[still]
            output = flow_map(moment, moment, point.x[still], _taken(condition, still))
            parts.append((output - slope[still]).square())
        if len(leaps):
            given = _taken(condition, leaps)
            maps = Maps(
                lambda s, t, x: flow_map(s, t, x, given),
                lambda s, t, x: target(s, t, x, given),
                lambda t, x: velocity(t, x, given),
                self.teacher is not None,
            )
            rows = MapRows(
                maps,
                s[leaps],
                t[leaps],
                point.x[leaps],
                slope[leaps],
                self._along(point, leaps),
                uniform(s, step)[leaps],
                step,
            )
            parts.append(_over_events(self.rule.losses(rows), rows.x))
        squares = torch.cat(parts)
        found = row_mean(squares.detach())
        weight = self.rule.weight(found)
        if weight is not None:
            squares = squares * expand_time(weight, squares)
        value, weighted = batch.reduce(squares[torch.cat([still, leaps]).argsort()])
        terms = {"diagonal": found[: len(still)], "leaps": found[len(still) :]}
        return Loss(value, weighted, s, {name: part.mean() for name, part in terms.items() if len(part)})

    def conditions(self, batch: Batch, step: Step) -> Condition | None:
        """Those of the target, a share of them hidden, with a weight of guidance where it is an input."""
        condition = partly_hidden(batch, self.drop_condition, step)
        if condition is None or self.weights is None:
            return condition
        low, high = self.weights
        return with_weight(condition, low + (high - low) * uniform(batch.target.x, step))

    def _guided(
        self, slope: Tensor, velocity: _Constant, s: Tensor, x: Tensor, condition: Condition | None
    ) -> Tensor:
        """The velocities of pairs under guidance; as they are where the condition is hidden."""
        if condition is None or (self.guidance == 1 and self.weights is None):
            return slope
        absent = velocity(s, x, drop_condition(condition))
        weight: float | Tensor = self.guidance
        if self.weights is not None and isinstance(condition, dict):
            weight = expand_time(condition[WEIGHT].nan_to_num(1.0), x)
        guided = absent + weight * (slope - absent)
        return torch.where(expand_time(hidden_rows(condition), x), slope, guided)

    def _along(self, point: PathPoint, chosen: Tensor) -> Callable[[Tensor], Tensor]:
        """Where ``chosen`` pairs of ``point`` are at other times."""
        points = tuple(end[chosen] for end in point.points)
        if point.noise is None:
            return lambda u: self._sample(u, *points).x
        noise = point.noise[chosen]

        def at(u: Tensor) -> Tensor:
            c = self.path.coefficients(expand_time(u, noise))
            return c.alpha * points[1] + c.sigma * points[0] + c.gamma * noise

        return at

    def _times(self, batch: Batch, step: Step) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Times s and t of rows ``(B,)``, and the places of those that stay, s = t, and of those that leap.

        Every so many rows one leaps, counted over all processes and steps, so that a row has the same times
        wherever it is, and every stratum of times its share.
        """
        like = batch.target.x
        place = Uniform().draw(like, step)  # in strata, which the other place is drawn without
        still, leaps = (rows.to(like.device) for rows in self._divided(len(like), step))
        other = uniform(like, step)[leaps]
        first, second = self.rule.times(place[leaps], other, self._at, step)
        if self.two_sided:
            back = uniform(like, step)[leaps] < 0.5
            first, second = torch.where(back, second, first), torch.where(back, first, second)
        s = self._at(place)
        t = s.index_copy(0, leaps, second)
        return s.index_copy(0, leaps, first), t, still, leaps

    def alone(self, like: Tensor, step: Step) -> Tensor:
        """A time for each row ``(B,)``, of the distribution of times but without strata."""
        return self._at(uniform(like, step))

    def _at(self, u: Tensor) -> Tensor:
        """The times at which the distribution function of times is ``u``, away from open ends."""
        return self.times.inside(self.times.quantile(u), self.margin, self.path.open_ends)

    def _divided(self, count: int, step: Step) -> tuple[Tensor, Tensor]:
        """The places of rows that stay, and of those that leap; their numbers are known without looking."""
        first = (0 if step.rows is None else step.rows[0]) + step.index
        share = 1 - self.rule.diagonal
        number = torch.arange(first, first + count, dtype=torch.float64)
        leap = ((number + 1) * share).floor() > (number * share).floor()
        leaping = math.floor((first + count) * share) - math.floor(first * share)
        order = leap.byte().argsort(stable=True)
        return order[: count - leaping], order[count - leaping :]


class _Constant:
    """A field whose outputs are taken for constants."""

    def __init__(self, field: Field):
        self.field = field

    def __call__(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        with torch.no_grad():
            return self.field(t, x, condition)


def _over_events(losses: Tensor, x: Tensor) -> Tensor:
    """Losses ``(B,)`` of rows as losses of the elements of their events, whose mean they are."""
    return losses if losses.shape == x.shape else expand_time(losses, x).expand_as(x)


def _taken(condition: Condition | None, rows: Tensor) -> Condition | None:
    return None if condition is None else map_condition(lambda c: c[rows], condition)
