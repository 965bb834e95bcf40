"""Solvers around solvers: the same solution, other gradients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from .base import Solver, Task
from .problems import ODE, StateT
from .pullback import inputs_of
from .solution import Solution
from .state import Evaluation


class Wrapped(Solver):
    """A solver of ODEs that computes what ``solver`` does, and implements gradients of its own.

    solver: the solver inside.  parameters: tensors that need gradients and that the velocity does not use at
        the start; all others it finds by itself, see :func:`~pushforward.solvers.pullback.inputs_of`.

    Where no gradient is recorded, it is the solver inside.
    """

    def __init__(self, solver: Solver, parameters: Iterable[Tensor] = ()):
        check_solver("solver", solver)
        self.solver, self.parameters = solver, tuple(parameters)
        self.order, self.stages, self.evaluations = solver.order, solver.stages, solver.evaluations
        self.adaptive = solver.adaptive

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.solver!r})"

    def integrate(self, task: Task[StateT]) -> Solution[StateT]:
        if not torch.is_grad_enabled():
            return self.solver.integrate(task)
        first = task.entries[0]
        evaluation = Evaluation(task.problem.velocity, task.x)
        # a time as this solver gives it: one for each row, or a scalar
        t = first.new_full((len(first),) if self.adaptive else (), task.t0)
        inputs = {id(p): p for p in (*inputs_of(evaluation, t, task.entries), *self.parameters)}
        if not inputs and not any(entry.requires_grad for entry in task.entries):
            return self.solver.integrate(task)
        return self.differentiable(task, tuple(inputs.values()))

    @abstractmethod
    def differentiable(self, task: Task[StateT], inputs: tuple[Tensor, ...]) -> Solution[StateT]:
        """The solution, with gradients by the initial state and ``inputs``."""


def check_solver(name: str, solver: Solver) -> None:
    """Raise ValueError for anything but a solver of ODEs."""
    if getattr(solver, "solves", None) is not ODE:
        raise ValueError(f"{name}: expected a solver of ODEs, got {solver!r}")


def refuse_second(name: str) -> None:
    """Raise ValueError if a gradient is to be differentiated again; for the backward of a Function."""
    if torch.is_grad_enabled():
        raise ValueError(
            f"{name} has first derivatives alone: for create_graph=True or second ones take the solver "
            "inside it"
        )
