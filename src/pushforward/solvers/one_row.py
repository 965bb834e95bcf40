"""A coupled system without rows as a batch of one row, and its solution without rows again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from torch import Tensor

from .integrals import WithIntegrals
from .problems import ODE, State, StateT, Velocity
from .solution import Solution


def each(function: Callable[[Tensor], Tensor], x: StateT) -> StateT:
    """``function`` of every tensor of a state."""
    return cast(StateT, function(x) if isinstance(x, Tensor) else tuple(map(function, x)))


def one_row(x: StateT) -> StateT:
    """The state with one row."""
    return each(lambda part: part[None], x)


def as_one_row(problem: Any) -> ODE:
    """The problem of a state that has one row."""

    def inside(velocity: Velocity, t: Tensor, x: State) -> Any:
        return one_row(velocity(t.reshape(()), each(lambda part: part[0], x)))

    whole = problem.velocity
    leading = getattr(whole, "leading", whole)
    velocity = WithIntegrals(partial(inside, whole), partial(inside, leading))
    return replace(problem, velocity=velocity, batched=True)


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
