"""Stochastic flows, which follow a drift with noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..fields import AnyField, DenoisingStep, as_field
from ..solvers import SDE, Diffusion, EulerMaruyama, Solver
from ..sources import Source
from ..tensors import Condition
from .one_way import OneWayFlow
from .shapes import ConditionShape


class DiffusionFlow(OneWayFlow):
    """The flow of dX = drift(t, X, condition) dt + diffusion(t) dW from ``source`` at t = 0 to the data.

    A source point does not determine its data point, so there is no inverse and no density of data points:
    :meth:`log_prob` raises ValueError.  If a velocity with the same marginals is known (see
    :class:`~pushforward.fields.Drift`), :class:`ContinuousFlow` gives the density.

    drift: a field.  diffusion: a number, a tensor or a function of t, see
    :class:`~pushforward.solvers.SDE`.  solver: :class:`~pushforward.solvers.EulerMaruyama` with 100 steps
    if none is given.  interval: the part of [0, 1] that is integrated.  finish: the last step, without noise.
    :meth:`ContinuousFlow.stochastic` makes one from a velocity field.

    Raises ValueError without a source; :meth:`push` raises SolverFailure if the end of a row is not finite.

    >>> from pushforward.sources import Normal
    >>> flow = DiffusionFlow(lambda t, x, condition: torch.ones_like(x), 0.0, source=Normal(2))
    >>> flow.push(torch.zeros(1, 2)).round(decimals=4)
    tensor([[1., 1.]])
    """

    equation = SDE
    no_path = "it follows a drift, not a velocity field"
    #: attributes that flows in files of older versions lack
    later: ClassVar[Mapping[str, Any]] = {"interval": (0.0, 1.0), "finish": None}

    def __init__(
        self,
        drift: AnyField,
        diffusion: Diffusion = 1.0,
        solver: Solver | None = None,
        source: Source | None = None,
        *,
        condition_shape: ConditionShape = (),
        interval: tuple[float, float] = (0.0, 1.0),
        finish: DenoisingStep | None = None,
    ):
        super().__init__()
        if source is None:
            raise ValueError("source: expected the distribution at t = 0, for example Normal(event_shape)")
        self.drift, self.diffusion = as_field(drift, "drift"), diffusion
        self.solver, self.source = solver or EulerMaruyama(), source
        self.condition_shape, self.interval, self.finish = condition_shape, interval, finish

    def problem(self, condition: Condition | None = None) -> SDE:
        """The SDE under ``condition``."""
        finish = self.finish
        last = None if finish is None else lambda t, t_next, x: finish(t, t_next, x, condition)
        return SDE(lambda t, x: self.drift(t, x, condition), self.diffusion, last)

    def log_prob(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Raises ValueError: a stochastic flow has no inverse and so no density."""
        raise ValueError(
            "a DiffusionFlow has no density: it has no inverse, because of its noise; use the ContinuousFlow "
            "of the velocity with the same marginals"
        )
