"""What a solver is, the problems it solves and the solution it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

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
        return bool((self.status == Status.OK).all())

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
    """Integrates a problem from ``t0`` to ``t1``, forwards or backwards in time."""

    @abstractmethod
    def solve(
        self,
        problem: ODE | Velocity,
        x: StateT,
        t0: float,
        t1: float,
        save_at: Sequence[float] | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Solution[StateT]:
        """Carry ``x`` from ``t0`` to ``t1``.

        ``problem`` is an :class:`ODE`, or its velocity alone.  ``save_at`` are times between ``t0`` and
        ``t1``, monotone in the direction of travel; asking for them does not change the final state.
        Raises ValueError for a time outside, a state or a velocity of the wrong shape, and TypeError for
        a problem that this solver cannot treat.
        """


def as_ode(problem: ODE | Velocity, solver: Solver) -> ODE:
    """``problem`` as an :class:`ODE`; raises TypeError for what is neither one nor a velocity."""
    if isinstance(problem, ODE):
        return problem
    if callable(problem):
        return ODE(problem)
    raise TypeError(f"problem: {solver!r} solves an ODE, got {type(problem).__name__}")
