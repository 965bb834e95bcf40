"""Flow matching: regress a field on the velocity of paths between paired points."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import random
from ..fields import PREDICTIONS, Prediction
from ..paths import Interpolant, Path, PathPoint
from ..tensors import drop_condition
from .base import Batch, Loss, Objective, Step
from .times import Times, Uniform


def _error(kind: Prediction, output: Tensor, point: PathPoint) -> Tensor:
    """The network's output at ``point`` minus what it should be."""
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
    # for the score, s (score + n / s): bounded where the score is not
    return output - noise if kind == "noise" else scale * output + noise


class FlowMatching(Objective):
    """E |field(t, x_t) - dx_t/dt|^2 over times, pairs of the coupling and the path between them.

    ``times`` is their law, uniform by default.  The minimiser is the marginal velocity E[dx_t/dt |
    x_t = x] (Lipman et al. 2023, arXiv 2210.02747, theorem 2; Tong et al. 2024, arXiv 2302.00482, theorem
    3.2).  With another ``prediction`` the network is regressed on x1 ("data"), on the noise n ("noise")
    or on -n/s under the weight s^2 ("score"); wrap it in :class:`~pushforward.fields.Parameterised` to
    follow it.  ``models`` holds ``"field"``.  Each row's condition is hidden with probability
    ``drop_condition``, for guidance.  Losses are means over the elements of an event.

    Raises ValueError for an unknown prediction, one that the path has no formula for, and a
    probability outside [0, 1].

    >>> from pushforward.couplings import Rows
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
    ):
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction: expected one of {', '.join(PREDICTIONS)}, got {prediction!r}")
        if not 0 <= drop_condition <= 1:
            raise ValueError(f"drop_condition: expected a probability, got {drop_condition}")
        self.path = path or Interpolant()
        if prediction != "velocity" and not isinstance(self.path, Interpolant):
            raise ValueError(f"prediction: only velocity can be regressed along a {type(self.path).__name__}")
        self.prediction: Prediction = prediction
        self.drop_condition = drop_condition
        self.times = times or Uniform()

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        target = batch.target
        t = self.times.draw(target.x, step)
        points = (rows.x for rows in batch.marginals)
        point = self.path.sample(t, *points, generator=step.generator)
        condition = target.condition
        if condition is not None and self.drop_condition > 0:
            u = random.uniform((len(batch),), step.generator, torch.float32, target.x.device)
            condition = drop_condition(condition, u < self.drop_condition)
        output = models["field"](t, point.x, condition)
        value, errors = batch.reduce(_error(self.prediction, output, point).square())
        return Loss(value, errors, t)
