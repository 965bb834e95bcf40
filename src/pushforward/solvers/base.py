"""What a solver is, the problems it solves and the solution it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ..tensors import arrays_in, every

#: What is integrated: a tensor ``(B, *event)`` or a tuple of tensors that share B.
State = Tensor | tuple[Tensor, ...]
#: The kind of state that goes into a solver and comes out again.
StateT = TypeVar("StateT", bound=State)
#: Right-hand side ``velocity(t, x)``; ``t`` is a scalar tensor or ``(B,)``, the result is a state like ``x``.
Velocity = Callable[[Tensor, Any], Any]


@dataclass(frozen=True)
class ODE:
    """dx/dt = velocity(t, x), closed over its condition.

    ``controlled`` is how many leading entries of a tuple state the adaptive error norm looks at.
    """

    velocity: Velocity
    controlled: int = 1


#: The noise level of an SDE: a number, a tensor, or a function of the time; see :class:`SDE`.
Diffusion = float | Tensor | Callable[[Tensor], Tensor | float]


@dataclass(frozen=True)
class SDE:
    """dX = drift(t, X) dt + diffusion(t) dW, closed over its condition, X one tensor ``(B, *event)``.

    The noise is additive: ``diffusion`` depends on time alone, so that the calculi of Ito and Stratonovich
    agree.  It is a number, a tensor that broadcasts against X (a deviation for every element, or for
    every row), or a function of the scalar time that returns one of these.  Solved from a later time to
    an earlier one, ``drift`` is that of the process reversed in time.
    """

    drift: Velocity
    diffusion: Diffusion = 1.0


#: What solvers solve.
Problem = ODE | SDE


class SolverFailure(RuntimeError):
    """Some rows did not arrive."""


class Status(IntEnum):
    """How the integration of one row ended."""

    OK = 0
    MAX_STEPS = 1
    STEP_TOO_SMALL = 2
    NON_FINITE = 3


@dataclass(frozen=True)
class Solution(Generic[StateT]):
    """What a solver returns.

    x: final state, shaped like the initial one.  A row that an adaptive solver gave up keeps its last
        accepted state, that of the time it had reached.
    nfe: ``(B,)`` int64, evaluations of the velocity that each row needed.
    calls: batched evaluations made.
    status: ``(B,)`` int64, values of :class:`Status`.
    times: ``(S,)`` the times asked for with ``save_at`` (None without).
    path: the state at ``times``, stacked in front: ``(S, B, *event)``, or a tuple of such.  NaN where an
        adaptive solver gave a row up before that time.
    """

    x: StateT
    nfe: Tensor
    calls: int
    status: Tensor
    times: Tensor | None = None
    path: StateT | None = None

    @property
    def ok(self) -> bool:
        """Whether every row arrived."""
        return every(self.status == Status.OK)

    def check(self) -> Solution[StateT]:
        """Return self, or raise SolverFailure that says how many rows failed and why."""
        if not self.ok:
            worst = Status(int(self.status.max()))
            failed = int((self.status != Status.OK).sum())
            raise SolverFailure(
                f"the solver failed on {failed} of {len(self.status)} rows: {worst.name.lower()}; "
                "loosen the tolerance, allow more steps, or look at the field"
            )
        return self


class Solver(ABC):
    """Integrates a problem from ``t0`` to ``t1``, forwards or backwards in time.

    States are tensors or arrays; no rows in give no rows out.
    """

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        arrays_in(cls, "solve")

    @abstractmethod
    def solve(
        self,
        problem: Problem | Velocity,
        x: StateT,
        t0: float,
        t1: float,
        save_at: Sequence[float] | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Solution[StateT]:
        """Carry ``x`` from ``t0`` to ``t1``.

        ``problem`` is an :class:`ODE`, its velocity alone, or an :class:`SDE`.  ``save_at`` are times
        between ``t0`` and ``t1``, monotone in the direction of travel; asking for them does not change
        the final state.  ``generator`` serves the noise of an SDE.  Raises ValueError for a time outside,
        a state or a velocity of the wrong shape, and a problem of the kind that this solver does not
        treat, and TypeError for what is no problem at all.
        """


def as_ode(problem: Problem | Velocity, solver: Solver) -> ODE:
    """``problem`` as an :class:`ODE`.

    Raises ValueError for an SDE and TypeError for what is neither an ODE nor a velocity.
    """
    if isinstance(problem, ODE):
        return problem
    if isinstance(problem, SDE):
        raise ValueError(
            f"problem: {solver!r} solves an ODE, got an SDE; solve it with EulerMaruyama or StochasticHeun"
        )
    if callable(problem):
        return ODE(problem)
    raise TypeError(f"problem: {solver!r} solves an ODE, got {type(problem).__name__}")
