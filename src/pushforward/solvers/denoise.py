"""The loop of all solvers of :class:`Denoise`: levels of noise, points inside steps, counts."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import random
from .base import Task
from .grid import Gridded
from .problems import Denoise, NoiseSchedule, Problem, StateT
from .solution import Solution
from .state import Evaluation, stack_states


@dataclass(frozen=True)
class Level:
    """The noise level of one time: x_t = alpha data + sigma noise."""

    t: float
    alpha: float
    sigma: float

    @property
    def log_snr(self) -> float:
        """lambda = log(alpha / sigma), infinite where one of them is 0."""
        return (math.log(self.alpha) if self.alpha else -math.inf) - (
            math.log(self.sigma) if self.sigma else -math.inf
        )

    @property
    def ratio(self) -> float:
        """sigma / alpha, the deviation of the noise on data that are not scaled."""
        return self.sigma / self.alpha if self.alpha else math.inf


#: The state at a level inside a step that has been made, given what draws noise shaped like a tensor.
Inside = Callable[[Level, Callable[[Tensor], Tensor]], Tensor]


@dataclass(frozen=True)
class Work:
    """What the steps of one solution share: the prediction of the data, counted, and where noise is from.

    first: the level at which the solution starts.
    """

    data: Evaluation
    schedule: NoiseSchedule
    first: Level
    generator: torch.Generator | None

    def noise(self, x: Tensor) -> Tensor:
        """Standard normal noise, shaped like ``x``."""
        return random.normal(x.shape, self.generator, x.dtype, x.device)


@dataclass(frozen=True)
class Step:
    """A step that has been made: the state ``x`` at its end, the ``memory`` for the next, what is inside."""

    x: Tensor
    memory: Any
    inside: Inside


class Denoiser(Gridded):
    """Steps over the noise levels of a grid; a method implements one in :meth:`step`.

    All coefficients are those of exact exponential integrators, so that an end without noise (sigma = 0) or
    without data (alpha = 0), where log(alpha / sigma) is infinite, needs no margin.  The grid is that of
    :class:`Gridded`.  ``save_at`` costs no evaluation: inside a step the state of a deterministic method is
    interpolated with the prediction that leads from its start to its end, that of a stochastic one by the
    bridge between both.  A row whose final state is not finite has status NON_FINITE.

    Raises ValueError for a state that is not one tensor, a prediction of the wrong shape, a schedule whose
    alpha / sigma does not rise, a start without noise, and a stochastic method that is to run backwards.
    """

    solves: type[Problem] = Denoise

    @abstractmethod
    def step(self, work: Work, here: Level, there: Level, x: Tensor, memory: Any) -> Step:
        """One step from the level ``here`` to ``there``; ``memory`` is what the step before left."""

    def integrate(self, task: Task[StateT]) -> Solution[StateT]:
        x = task.entries[0]
        if task.x is not x:
            raise ValueError(f"x: {self!r} carries one tensor, got {type(task.x).__name__}")
        if self.draws and task.t1 < task.t0:
            raise ValueError(f"t0, t1: {self!r} draws noise and runs forwards only, got {task.t0}, {task.t1}")
        schedule = task.problem.schedule
        nodes = self.nodes(task.t0, task.t1)
        levels = [level_at(schedule, t) for t in nodes]
        _check_levels(levels)
        work = Work(Evaluation(task.problem.data, x, "data"), schedule, levels[0], task.generator)
        wanted = self.places(task, nodes)
        saved: dict[int, Tensor] = {}
        gaps: list[tuple[int, float, Inside]] = []
        memory = None
        for n, here in enumerate(levels):
            saved |= {i: x for i, theta in wanted[n] if not theta}
            if n == len(levels) - 1:
                break
            there = levels[n + 1]
            step = self.step(work, here, there, x, memory)
            x, memory = step.x, step.memory
            gaps += [(i, here.t + theta * (there.t - here.t), step.inside) for i, theta in wanted[n] if theta]
        for i, t, inside in gaps:  # after all steps, so that their noise does not depend on save_at
            saved[i] = inside(level_at(schedule, t), work.noise)
        return task.solution((x,), work.data.calls, stack_states([(saved[i],) for i in sorted(saved)], (x,)))


def level_at(schedule: NoiseSchedule, t: float) -> Level:
    """The level of the time ``t``."""
    alpha, sigma, *_ = schedule(torch.tensor(t, dtype=torch.float64))
    return Level(t, float(alpha), float(sigma))


def time_of(schedule: NoiseSchedule, ratio: float, low: float, high: float) -> float:
    """The time between ``low`` and ``high`` at which sigma / alpha, which falls, is ``ratio``; by bisection.

    >>> from pushforward.paths import Linear
    >>> round(time_of(Linear(), 3.0, 0.0, 1.0), 6)
    0.25
    """
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if level_at(schedule, middle).ratio > ratio else (low, middle)
    return 0.5 * (low + high)


def towards(x: Tensor, data: Tensor, here: Level, there: Level) -> Tensor:
    """x' = (sigma' / sigma) x + (alpha' - alpha sigma' / sigma) D, exact for a constant prediction D."""
    shrink = there.sigma / here.sigma
    return torch.add(shrink * x, data, alpha=there.alpha - shrink * here.alpha)


def line(x: Tensor, end: Tensor, here: Level, there: Level) -> Inside:
    """Points of a deterministic step: those of the constant prediction that leads from ``x`` to ``end``."""

    def inside(level: Level, noise: Callable[[Tensor], Tensor]) -> Tensor:
        shrink = there.sigma / here.sigma
        data = (end - shrink * x) / (there.alpha - shrink * here.alpha)
        return towards(x, data, here, level)

    return inside


def _check_levels(levels: list[Level]) -> None:
    """Raise ValueError for levels that a solver cannot step over."""
    if len(levels) < 2:
        return
    if levels[0].sigma == 0:
        raise ValueError(f"t0: expected a time with noise, got {levels[0].t}, where sigma is 0")
    ratios = [level.ratio for level in levels]
    falls = ratios if levels[-1].t > levels[0].t else ratios[::-1]
    if not all(later < earlier for earlier, later in itertools.pairwise(falls)):
        raise ValueError(
            f"schedule: expected alpha / sigma to rise with the time, got sigma / alpha {ratios}"
        )
