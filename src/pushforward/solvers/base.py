"""The abstract solver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, cast

import torch
from torch import Tensor

from ..tensors import takes_arrays
from .one_row import as_one_row, one_row, without_rows
from .pieces import breaks_between, in_pieces
from .problems import ODE, SDE, Denoise, Jump, Problem, StateT, Velocity
from .solution import Solution, Status
from .state import Entries, as_entries, check_interval, check_save_at, finite_rows, like
from .times import by_times, has_gradient


@dataclass(frozen=True)
class Task(Generic[StateT]):
    """One call of :meth:`Solver.solve`, checked.

    problem: of the kind that the solver says in ``solves``.
    x: the initial state as it was given.  entries: the same as a tuple.
    times: those to save, within [t0, t1], or None.  tolerance: how far apart two times may be and still be
        the same.
    """

    problem: Any
    x: StateT
    entries: Entries
    t0: float
    t1: float
    times: list[float] | None
    tolerance: float
    generator: torch.Generator | None

    def solution(
        self,
        entries: Entries,
        calls: int,
        path: Entries | None,
        nfe: Tensor | None = None,
        status: Tensor | None = None,
    ) -> Solution[StateT]:
        """The solution that ends in ``entries``; ``path`` is looked at only where times are to be saved.

        Without ``nfe`` every row needed ``calls``; without ``status`` a row failed that is not finite.
        """
        first = entries[0]
        if nfe is None:
            nfe = torch.full((len(first),), calls, dtype=torch.int64, device=first.device)
        if status is None:
            status = torch.where(finite_rows(*entries), int(Status.OK), int(Status.NON_FINITE))
        x = like(self.x, entries)
        if self.times is None or path is None:
            return Solution(x, nfe, calls, status)
        dtype = first.dtype if first.is_floating_point() else torch.float64
        times = torch.tensor(self.times, dtype=dtype, device=first.device)
        return Solution(x, nfe, calls, status, times, like(self.x, path))


#: Each kind of problem as errors name it, and who solves it.
_KINDS: dict[type[Problem], tuple[str, str]] = {
    ODE: ("an ODE", "an ODE is for solvers such as Heun or Dopri5"),
    SDE: ("an SDE(drift, diffusion)", "solve it with EulerMaruyama or StochasticHeun"),
    Denoise: ("a Denoise(data, schedule)", "solve it with DDIM or DPMSolver"),
    Jump: ("a Jump(rates)", "solve it with TauLeaping"),
}


def named_kind(problem: type[Problem]) -> str:
    """A kind of problem in words, such as "an ODE"."""
    return _KINDS[problem][0].partition("(")[0]


class Solver(ABC):
    """Integrates a problem from ``t0`` to ``t1``, forwards or backwards in time.

    A solver has its properties in attributes of its class, and its method in :meth:`integrate`.

    solves: the kind of problem that it solves: :class:`ODE`, :class:`SDE`, :class:`Denoise`, :class:`Jump`.
    draws: whether it draws noise.
    order: of convergence for fixed steps; of an SDE the weak order.
    stages: slopes of which a step is made.  evaluations: those that a step has to evaluate itself, which are
        fewer where it takes over one of the step before.
    adaptive: whether every row chooses its own steps.
    """

    solves: type[Problem] = ODE
    order: int
    stages: int
    evaluations: int
    adaptive: bool = False
    draws: bool = False

    @takes_arrays
    def solve(
        self,
        problem: Problem | Velocity,
        x: StateT,
        t0: float | Tensor,
        t1: float | Tensor,
        save_at: Sequence[float] | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Solution[StateT]:
        """Carry ``x`` from ``t0`` to ``t1``.

        ``problem`` is an :class:`ODE`, its velocity alone, an :class:`SDE`, a :class:`Denoise` or a
        :class:`Jump`.  ``x`` is a tensor or an array, or a tuple of such, also without rows.  ``save_at`` are
        times between ``t0`` and ``t1``, monotone in the direction of travel; they do not change the final
        state.  Times that are
        tensors have gradients, those of the exact solution of an ODE.  ``generator`` draws the noise of
        solvers that draw some.  Raises ValueError for a time outside, a state or a velocity of the wrong
        shape, and a problem of the kind that this solver does not solve, and TypeError for what is no problem
        at all.
        """
        if callable(problem) and self.solves is ODE:
            problem = ODE(problem)
        if not isinstance(problem, self.solves):
            kind = type(problem) if isinstance(problem, Problem) else ODE
            got = "an SDE" if kind is SDE else type(problem).__name__
            text = f"problem: {self!r} solves {_KINDS[self.solves][0]}, got {got}"
            known = callable(problem) or isinstance(problem, Problem)
            raise ValueError(f"{text}; {_KINDS[kind][1]}") if known else TypeError(text)
        if isinstance(t0, Tensor) or isinstance(t1, Tensor) or has_gradient(save_at):
            solve = partial(self.solve, generator=generator)
            return by_times(solve, problem, x, (t0, t1), save_at, self.adaptive)
        breaks = breaks_between(problem, t0, t1)
        if breaks:
            solve = partial(self.solve, generator=generator)
            return in_pieces(solve, cast(ODE, problem), x, [t0, *breaks, t1], save_at)
        if not getattr(problem, "batched", True):
            found = self.solve(as_one_row(problem), one_row(x), t0, t1, save_at, generator)
            return without_rows(found)
        whole = self.solves is Jump
        entries = as_entries(x, whole)
        check_interval(t0, t1)
        dtype = torch.float32 if whole else entries[0].dtype
        times, tolerance = check_save_at(save_at, t0, t1, dtype)
        return self.integrate(Task(problem, x, entries, t0, t1, times, tolerance, generator))

    def in_steps(self, steps: int) -> Solver:
        """This solver with another number of steps.  Raises ValueError for one that chooses its own."""
        raise ValueError(f"a {type(self).__name__} chooses its own steps; take one with a number")

    @abstractmethod
    def integrate(self, task: Task[StateT]) -> Solution[StateT]:
        """The solution of a task whose arguments have been checked; ends with :meth:`Task.solution`."""
