"""A coupled system without rows as a batch of one row, and its solution without rows again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from torch import Tensor

from .problems import ODE, State, StateT, Velocity
from .solution import Solution


def each(function: Callable[[Tensor], Tensor], x: StateT) -> StateT:
    """``function`` of every tensor of a state."""
    return cast(StateT, function(x) if isinstance(x, Tensor) else tuple(map(function, x)))


def one_row(x: StateT) -> StateT:
    """The state with one row."""
    return each(lambda part: part[None], x)


class OneRow:
    """The velocity of a coupled system, as that of a batch of one row."""

    #: says to adaptive solvers that one time and one step will do
    coupled = True

    def __init__(self, velocity: Velocity):
        self.velocity = velocity

    def __call__(self, t: Tensor, x: State) -> Any:
        return self._of(self.velocity, t, x)

    def leading(self, t: Tensor, x: State) -> Any:
        """As :class:`~pushforward.solvers.WithIntegrals` has it; all of the velocity where it has none."""
        return self._of(getattr(self.velocity, "leading", self.velocity), t, x)

    def _of(self, velocity: Velocity, t: Tensor, x: State) -> Any:
        return one_row(velocity(t.reshape(()), each(lambda part: part[0], x)))


def as_one_row(problem: Any) -> ODE:
    """The problem of a state that has one row."""
    retract = problem.retract
    back = None if retract is None else lambda x: one_row(retract(each(lambda part: part[0], x)))
    return replace(problem, velocity=OneRow(problem.velocity), batched=True, retract=back)


def without_rows(solution: Solution[StateT]) -> Solution[StateT]:
    """The solution of the only row."""
    path = solution.path
    return replace(
        solution,
        x=each(lambda part: part[0], solution.x),
        nfe=solution.nfe[0],
        status=solution.status[0],
        path=None if path is None else each(lambda part: part[:, 0], path),
    )
