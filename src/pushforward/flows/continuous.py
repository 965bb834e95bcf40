"""Continuous flows, which follow a velocity field with an ODE solver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor

from ..fields import AnyField, Guided, Masked, as_field
from ..solvers import ODE, Dopri5, Solution, Solver
from ..sources import Source
from ..tensors import Condition, valid_elements
from .base import InvertibleFlow
from .divergences import Divergence, Exact
from .shapes import ConditionShape


class ContinuousFlow(InvertibleFlow):
    """The flow of dx/dt = field(t, x, condition) from ``source`` at t = 0 to the data at t = 1.

    log p_1(x_1) = log p_0(x_0) - int_0^1 div field(t, x_t) dt (Chen et al. 2018, arXiv 1806.07366,
    eq. 8).  ``divergence`` computes it, exactly unless told: with
    :class:`~pushforward.flows.Hutchinson` log-densities are estimates, right on average over the noise, which
    is drawn for each row and stays the same along a solve.  ``guidance`` is the weight of classifier-free
    guidance used by :meth:`push`, :meth:`pull` and :meth:`trajectory`; densities ignore it.  ``interval`` is
    the part of [0, 1] that is integrated: fields from a data, noise or score prediction are not defined at
    one end, and it is common to leave out the last thousandth.

    Raises SolverFailure if the solver fails on a row.

    >>> from pushforward.sources import Normal
    >>> flow = ContinuousFlow(lambda t, x, condition: torch.ones_like(x), source=Normal(2))
    >>> flow.push(torch.zeros(1, 2)).round(decimals=4), flow.log_prob(torch.ones(1, 2))
    (tensor([[1., 1.]]), tensor([-1.8379]))
    """

    equation, guided = ODE, True
    #: that of flows from files of older versions
    divergence: Divergence = Exact()

    def __init__(
        self,
        field: AnyField,
        solver: Solver | None = None,
        source: Source | None = None,
        *,
        condition_shape: ConditionShape = (),
        guidance: float = 1.0,
        interval: tuple[float, float] = (0.0, 1.0),
        divergence: Divergence | None = None,
    ):
        super().__init__()
        if source is None:
            raise ValueError("source: expected the distribution at t = 0, for example Normal(event_shape)")
        self.field, self.solver, self.source = as_field(field), solver or Dopri5(), source
        if not 0 <= interval[0] < interval[1] <= 1:
            raise ValueError(f"interval: expected 0 <= start < stop <= 1, got {interval}")
        self.condition_shape, self.guidance, self.interval = condition_shape, guidance, interval
        self.divergence = divergence or Exact()

    @property
    def density(self) -> Literal["exact", "bound", "estimate", "none"]:
        return "exact" if self.divergence.exact else "estimate"

    def masked(self, mask: Tensor) -> Self:
        valid = valid_elements(mask, mask.new_empty((len(mask), *self.event_shape)))
        return self.replace(field=Masked(self.field, mask), source=self.source.masked(valid))

    def problem(self, condition: Condition | None = None) -> ODE:
        """The guided ODE under ``condition``."""
        field = self.field if self.guidance == 1.0 else Guided(self.field, self.guidance)
        return ODE(lambda t, x: field(t, x, condition))

    @property
    def _backwards(self) -> tuple[float, float]:
        start, stop = self.interval
        return stop, start

    def _solve(self, x: Tensor, t0: float, t1: float, condition: Condition | None) -> Tensor:
        return self.solver.solve(self.problem(condition), x, t0, t1).check().x

    def forward(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.pulled_log_prob(x, condition, generator)

    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self._solve(x0, *self.interval, condition)

    def pull(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self._solve(x, *self._backwards, condition)

    def trajectory(
        self, x: Tensor, times: Sequence[float] | Tensor, condition: Condition | None = None
    ) -> Solution[Tensor]:
        """States at ``times``, ``path`` of shape ``(len(times), B, *event)``.

        Increasing times start from source points at t = 0, decreasing ones from data points at t = 1.
        """
        x, t, forwards = self.start(x, times)
        ends = self.interval if forwards else self._backwards
        problem = self.problem(self.conditions(condition))
        return self.solver.solve(problem, x, *ends, save_at=t.clamp(*self.interval)).check()

    def augmented(self, condition: Condition | None = None, noise: Tensor | None = None) -> ODE:
        """The ODE of (x, log_det), d log_det/dt = div field(t, x, condition), without guidance.

        ``noise`` is what ``self.divergence.draw`` gives for the rows.
        """

        def velocity(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return self.divergence(self.field, t, state[0], condition, noise)

        # the steps heed the log-determinant too, without which a density would not integrate to 1
        return ODE(velocity, controlled=2)

    def _solve_and_log_det(
        self,
        x: Tensor,
        ends: tuple[float, float],
        condition: Condition | None,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        problem = self.augmented(condition, self.divergence.draw(x, generator))
        x_end, log_det = self.solver.solve(problem, (x, x.new_zeros(x.shape[0])), *ends).check().x
        return x_end, log_det

    def push_and_log_det(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self._solve_and_log_det(x0, self.interval, condition, generator)

    def pull_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self._solve_and_log_det(x, self._backwards, condition, generator)
