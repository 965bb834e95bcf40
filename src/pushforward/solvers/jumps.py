"""The loop of all solvers of jump processes, and draws of tokens."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from .. import random
from ..nn.checks import check_number
from .base import Task
from .grid import Grid, Gridded
from .problems import Jump, Problem, StateT
from .solution import Solution
from .state import stack_states


class JumpSolver(Gridded):
    """Steps over a grid of times, in each of which a token jumps at most once.

    The chance of a jump in a step is :meth:`chances`.  A problem with a ``finish`` ends with that draw
    instead, where rates are infinite.  A time of ``save_at`` inside a step has the state at its beginning.

    corrector: how many more jumps a token makes, about, back and forth, which mends what earlier steps have
        spoilt.  temperature: below 1 predictions are sharper, and samples less varied.

    Raises ValueError for a problem that is no :class:`Jump`, a state that is not one tensor of int64, an
    interval that runs backwards, and rates of another shape than ``(B, *event, A)``.
    """

    solves: type[Problem] = Jump
    draws = True
    order = stages = evaluations = 1

    def __init__(
        self,
        steps: int = 100,
        grid: Grid | None = None,
        corrector: float = 0.0,
        temperature: float = 1.0,
    ):
        super().__init__(steps, grid)
        if not 0 <= corrector < math.inf:
            raise ValueError(f"corrector: expected a number of at least 0, got {corrector}")
        self.corrector = float(corrector)
        self.temperature = check_number("temperature", temperature, 0)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that make this solver, as plain data."""
        return {
            "steps": self.steps,
            "grid": self.name or self.grid,
            "corrector": self.corrector,
            "temperature": self.temperature,
        }

    @abstractmethod
    def chances(self, expected: Tensor) -> Tensor:
        """The chance of a jump ``(B, *event)``, from the ``expected`` numbers ``(B, *event, A)`` of jumps."""

    #: whether the value that a token has is among those that it may jump to
    redraws: bool = True

    def __repr__(self) -> str:
        told = "".join(
            f", {name}={value:g}"
            for name, value, default in (
                ("corrector", self.corrector, 0.0),
                ("temperature", self.temperature, 1.0),
            )
            if value != default
        )
        return f"{super().__repr__()[:-1]}{told})"

    def integrate(self, task: Task[StateT]) -> Solution[StateT]:
        x, problem = tokens_of(self, task), changed(task.problem, self.corrector, self.temperature)
        nodes = self.nodes(task.t0, task.t1)
        wanted = self.places(task, nodes)
        saved: dict[int, Tensor] = {}
        calls = 0
        for n, t in enumerate(nodes):
            saved |= {i: x for i, _ in wanted[n]}
            if n == len(nodes) - 1:
                break
            calls += 1
            u = random.uniform(x.shape, task.generator, torch.float64, x.device)
            time = time_at(t, x)
            if n == len(nodes) - 2 and problem.finish is not None:
                x = draw(check_rates(problem.finish(time, x), x), u)
                continue
            expected = check_rates(leaps(problem, time, time_at(nodes[n + 1], x), x), x)
            if not self.redraws:
                expected = expected.scatter(-1, x[..., None], 0.0)
            chance = self.chances(expected)
            # what is left of the number that decided on a jump decides where to
            jumps = u < chance
            to = draw(expected, u / torch.where(jumps, chance, 1.0))
            x = torch.where(jumps, to, x)
        path = stack_states([(saved[i],) for i in sorted(saved)], (x,))
        return task.solution((x,), calls, path)


def changed(problem: Jump, corrector: float, temperature: float) -> Jump:
    """``problem`` with these, or a ValueError where it knows none."""
    if corrector == 0 and temperature == 1:
        return problem
    if problem.changed is None:
        told = f"corrector {corrector:g} and temperature {temperature:g}"
        raise ValueError(f"problem: expected one of a path of tokens for {told}, got rates alone")
    return problem.changed(corrector, temperature)


def leaps(problem: Jump, t: Tensor, t_next: Tensor, x: Tensor) -> Tensor:
    """The expected numbers of jumps from ``t`` to ``t_next``, ``(B, *event, A)``."""
    if problem.expected is not None:
        return problem.expected(t, t_next, x)
    rates = problem.rates(t, x)
    return rates * (t_next - t).to(rates)


def tokens_of(solver: Gridded | object, task: Task[StateT]) -> Tensor:
    """The state of a task as one tensor.  Raises ValueError for several, and for times that fall."""
    x = task.entries[0]
    if task.x is not x:
        raise ValueError(f"x: {solver!r} carries one tensor, got {type(task.x).__name__}")
    if task.t1 < task.t0:
        raise ValueError(f"t0, t1: jumps run forwards in time, got {task.t0} and {task.t1}")
    return x


def time_at(t: float, x: Tensor) -> Tensor:
    """A scalar time in double precision, beside tokens that have none of their own."""
    return torch.full((), t, dtype=torch.float64, device=x.device)


def check_rates(rates: Tensor, x: Tensor) -> Tensor:
    """``rates``, with a ValueError unless they are ``(B, *event, A)``."""
    if rates.shape[:-1] != x.shape or rates.ndim != x.ndim + 1:
        raise ValueError(f"rates: expected shape {(*x.shape, 'A')}, got {tuple(rates.shape)}")
    return rates


def draw(weights: Tensor, u: Tensor) -> Tensor:
    """Values ``(...)`` drawn in proportion to ``weights`` ``(..., A)`` by uniform numbers ``u`` ``(...)``.

    A value of weight 0 is never drawn, unless all are 0.

    >>> draw(torch.tensor([[0.0, 1.0, 3.0, 0.0]]), torch.tensor([0.5]))
    tensor([2])
    """
    sums = weights.cumsum(-1)
    share = u.to(weights).clamp(max=1 - torch.finfo(weights.dtype).eps)
    place = (sums <= (share * sums[..., -1])[..., None]).sum(-1)
    return place.clamp(max=weights.shape[-1] - 1)
