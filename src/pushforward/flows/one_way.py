"""Flows that a solver carries from the source to the data, and not back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ..solvers import Problem, Solution, Solver
from ..tensors import Condition
from .base import Flow
from .carrying import moments_of


class OneWayFlow(Flow):
    """A flow whose ``solver`` carries points from the source to the data: with noise, by jumps, in steps.

    There is no inverse.
    """

    solver: Solver
    #: the times within [0, 1] between which it is solved
    interval: tuple[float, float]

    @abstractmethod
    def problem(self, condition: Condition | None = None) -> Problem:
        """What the solver solves, under ``condition``."""

    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.solver.solve(self.problem(condition), x0, *self.interval, generator=generator).check().x

    def trajectory(
        self,
        x0: Tensor,
        times: Sequence[float] | Tensor,
        condition: Condition | None = None,
        generator: torch.Generator | None = None,
    ) -> Solution[Tensor]:
        """States at increasing ``times``, ``path`` of shape ``(len(times), B, *event)``.

        With an equal generator its final state is that of :meth:`push`.  Raises ValueError for times that
        fall, and SolverFailure if the solver fails on a row.
        """
        # first, for a start of other times would be a point of the data
        if not moments_of(times)[1]:
            raise ValueError(f"times: expected increasing times, a {type(self).__name__} runs one way")
        x0, times, _ = self.start(x0, times)
        problem, times = self.problem(self.conditions(condition)), times.clamp(*self.interval)
        return self.solver.solve(problem, x0, *self.interval, save_at=times, generator=generator).check()
