"""Flow matching: regress a field on the velocity of paths between paired points."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..fields import PREDICTIONS, Field, Prediction
from ..paths import Interpolant, Path, PathPoint
from ..tensors import expand_time, plain, sum_event, valid_elements
from .base import Batch, Loss, Objective, Step, check_share, field_of, partly_hidden
from .times import Times, Uniform, check_kinds
from .weightings import Weighting


def _error(kind: Prediction, output: Tensor, point: PathPoint) -> Tensor:
    """The output of the network at ``point`` minus its target."""
    if kind == "velocity":
        assert point.velocity is not None, "a jump path has no velocity to regress on"
        return output - point.velocity
    x0, x1 = point.points
    if kind == "data":
        return output - x1
    c = point.coefficients
    assert c is not None
    scale = c.noise_scale
    # without added noise this is x0 itself, also where its coefficient is 0
    noise = x0 if point.noise is None else (c.sigma * x0 + c.gamma * point.noise) / scale
    if kind == "v":
        return output - (c.alpha * noise - scale * x1) / (c.alpha.square() + scale.square()).sqrt()
    # for the score, s (score + n / s): bounded where the score is not
    return output - noise if kind == "noise" else scale * output + noise


def pseudo_huber(error: Tensor, constant: float, mask: Tensor | None = None) -> Tensor:
    """(sqrt(|r|^2 + c^2) - c) / d with c = constant d, for errors r ``(B, *event)`` of d valid elements.

    Shaped ``(B,)``; a row without valid elements counts 0.

    >>> pseudo_huber(torch.tensor([[3.0, 4.0]]), 6.0)
    tensor([0.5000])
    """
    size = error.new_full((len(error),), error[0].numel())
    if mask is not None:
        valid = valid_elements(mask, error)
        error, size = torch.where(valid, error, 0.0), sum_event(valid).clamp(min=1).to(error)
    square, c = sum_event(error.square()), constant * size
    # |r|^2 / (sqrt + c), since the difference of the two would lose the digits of a small error
    return square / ((square + c.square()).sqrt() + c) / size


class FlowMatching(Objective):
    """E |field(t, x_t) - dx_t/dt|^2 over times, pairs of the coupling and the path between them.

    ``times`` is the distribution of t, by default uniform.  The minimiser is the marginal velocity E[dx_t/dt
    | x_t = x] (Lipman et al. 2023, arXiv 2210.02747, theorem 2; Tong et al. 2024, arXiv 2302.00482, theorem
    3.2).  With another ``prediction`` the network is regressed on x1 ("data"), on the noise n ("noise"), on
    -n/s under the weight s^2 ("score") or on (alpha n - s x1) / sqrt(alpha^2 + s^2) ("v");
    :class:`~pushforward.fields.Parameterised` then gives the velocity.  ``models`` holds ``"field"``.  Each
    row's condition is hidden with probability ``drop_condition``, for guidance.  Losses are means over the
    elements of an event.

    ``weighting`` multiplies them by a weight of time: a :class:`~pushforward.objectives.Weighting` or a
    function of t ``(B,)``.  ``huber`` replaces |r|^2 by the pseudo-Huber sqrt(|r|^2 + c^2) - c of a row's
    error r with c = huber d for events of d elements, which outliers influence less, but whose minimiser is
    not the mean; 0.00054 is the value of Lee et al. 2024, arXiv 2405.20320, for reflow.  Times keep
    ``margin`` away from an end where the velocity of the path, or the weight, is infinite.

    Raises ValueError for an unknown prediction, one that the path has no formula for, a probability
    outside [0, 1], a ``margin`` outside (0, 1/2) and a ``huber`` that is not positive.

    >>> from pushforward import Rows
    >>> from pushforward.nn import MLP
    >>> batch = Batch((Rows(torch.zeros(8, 2)), Rows(torch.ones(8, 2))))
    >>> FlowMatching().loss(nn.ModuleDict({"field": MLP(2)}), batch, Step()).per_sample.shape
    torch.Size([8])
    """

    def __init__(
        self,
        path: Path | None = None,
        prediction: Prediction = "velocity",
        drop_condition: float = 0.0,
        times: Times | None = None,
        weighting: Weighting | Callable[[Tensor], Tensor] | None = None,
        huber: float | None = None,
        margin: float = 1e-5,
    ):
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction: expected one of {', '.join(PREDICTIONS)}, got {prediction!r}")
        if not 0 < margin < 0.5:
            raise ValueError(f"margin: expected a number between 0 and 1/2, got {margin}")
        if huber is not None and not 0 < huber < math.inf:
            raise ValueError(f"huber: expected a positive number or None, got {huber}")
        check_kinds(path, times)
        if weighting is not None and not callable(weighting):
            raise ValueError(f"weighting: expected a Weighting or a function of t, got {weighting!r}")
        self.path = path or Interpolant()
        if prediction != "velocity" and not self.path.affine:
            raise ValueError(f"prediction: only velocity can be regressed along a {type(self.path).__name__}")
        self._sample = plain(self.path.sample)
        self.prediction: Prediction = prediction
        self.drop_condition = check_share(drop_condition)
        self.times = (times or Uniform()).along(self.path)
        self.weighting = weighting
        self.huber = huber
        self.margin = margin
        own = weighting.open_ends if isinstance(weighting, Weighting) else (False, False)
        self.open_ends = (self.path.open_ends[0] or own[0], self.path.open_ends[1] or own[1])

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        return self.of_field(field_of(models, mask=batch.marginals[-1].mask), batch, step)

    def of_field(self, field: Field, batch: Batch, step: Step) -> Loss:
        """The loss of a field as it is."""
        target = batch.marginals[-1]
        t = self.times.draw(target.x, step, self.margin, self.open_ends)
        points = (rows.x for rows in batch.marginals)
        point = self._sample(t, *points, generator=step.generator)
        condition = target.condition
        if condition is not None:
            condition = partly_hidden(batch, self.drop_condition, step)
        output = field(t, point.x, condition)
        error = _error(self.prediction, output, point)
        if self.huber is not None:
            errors = pseudo_huber(error, self.huber, target.mask)
            if self.weighting is not None:
                errors = errors * self._weight(point).reshape(-1)
            return Loss(batch.mean(errors), errors.detach(), t)
        squares = error.square()
        if self.weighting is not None:
            squares = squares * expand_time(self._weight(point), squares)
        value, errors = batch.reduce(squares)
        return Loss(value, errors, t)

    def _weight(self, point: PathPoint) -> Tensor:
        """One weight per row, ``(B,)`` or ``(B, 1, ..., 1)``."""
        assert self.weighting is not None
        if isinstance(self.weighting, Weighting):
            return self.weighting(point, self.prediction)
        return self.weighting(point.t)
