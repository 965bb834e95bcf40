"""Exact simulation of processes of redraws, one token at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import random
from ..nn.checks import check_count, check_number
from .base import Solver, Task
from .jumps import changed, draw, time_at, tokens_of
from .problems import Jump, Problem, Redraws, StateT
from .solution import Solution, Status
from .state import stack_states


class SingleJumps(Solver):
    """One redraw after the other, each at its own time: no error of a step.

    In a row of n tokens that wait, the next tick comes when the clock has gone on by an exponential number of
    mean 1 / n, to one of them at random; its prediction is made at that moment.  From a mask this takes as
    many evaluations as there are tokens, whatever the schedule.  Where tokens can be redrawn again and again,
    as with a uniform source, it ends at ``until``, and what is left is drawn from the ``finish`` of the
    problem.  Zheng et al. 2024, arXiv 2409.02908 (first-hitting sampler).

    temperature: see :class:`JumpSolver`.  until: the last time of a jump, before 1.  most: jumps of a row at
    most; rows with more have status MAX_STEPS.

    Raises ValueError for a problem that has no ``redraws``, and as :class:`JumpSolver` does.
    """

    solves: type[Problem] = Jump
    draws, adaptive = True, True
    order = stages = evaluations = 1

    def __init__(self, temperature: float = 1.0, until: float = 0.9999, most: int = 100_000):
        self.temperature = check_number("temperature", temperature, 0)
        self.until, self.most = check_number("until", until, 0, 1), check_count("most", most)

    def integrate(self, task: Task[StateT]) -> Solution[StateT]:
        x, problem = tokens_of(self, task), changed(task.problem, 0.0, self.temperature)
        if problem.redraws is None:
            raise ValueError("problem: single jumps need a path of redraws")
        stop = min(task.t1, self.until)
        t = time_at(task.t0, x).expand(len(x)).contiguous()
        wanted, saved = task.times or [], [x for _ in task.times or []]
        nfe = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        calls = 0
        while calls < self.most:
            u = random.uniform((len(x), 3), task.generator, torch.float64, x.device).unbind(1)
            after = _next(problem.redraws, t, x, u[0])
            for i, moment in enumerate(wanted):
                here = (t <= moment) & (moment < after)
                saved[i] = torch.where(_spread(here, x), x, saved[i])
            jumps = after < stop
            if not bool(jumps.any()):
                break
            # of all rows, since conditions belong to rows
            moments = torch.where(jumps, after, t.nan_to_num(posinf=0.0))
            x = torch.where(_spread(jumps, x), _redrawn(problem.redraws, moments, x, u[1], u[2]), x)
            t, nfe = torch.where(jumps, after, torch.inf), nfe + jumps
            calls += 1
        if problem.finish is not None and task.t1 >= 1:
            u1 = random.uniform(x.shape, task.generator, torch.float64, x.device)
            ends = problem.redraws.waiting(x)
            if bool(ends.any()):
                x = torch.where(ends, draw(problem.finish(time_at(stop, x), x), u1), x)
                nfe, calls = nfe + 1, calls + 1
        saved = [torch.where(_spread(task.t1 <= t.new_tensor(w), x), x, s) for w, s in zip(wanted, saved)]
        status = torch.where(nfe < self.most, int(Status.OK), int(Status.MAX_STEPS))
        return task.solution((x,), calls, stack_states([(s,) for s in saved], (x,)), nfe, status)

    def __repr__(self) -> str:
        return f"SingleJumps(until={self.until:g})"


def _next(redraws: Redraws, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
    """The time ``(B,)`` of the next tick of a row, infinite where no token waits or the row has ended."""
    waiting = redraws.waiting(x).flatten(1).sum(1)
    on = (waiting > 0) & t.isfinite()
    ticks = redraws.ticks(torch.where(on, t, 0.0)) - torch.log1p(-u) / waiting.clamp(min=1)
    return torch.where(on, redraws.time(ticks), torch.inf)


def _redrawn(redraws: Redraws, t: Tensor, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """``x`` with one of its waiting tokens, chosen by ``u``, drawn again by ``v``."""
    place = draw(redraws.waiting(x).flatten(1).double(), u)
    probs = redraws.probs(t, x).flatten(1, -2)
    chosen = probs[torch.arange(len(x), device=x.device), place]
    return x.flatten(1).scatter(1, place[:, None], draw(chosen, v)[:, None]).reshape(x.shape)


def _spread(rows: Tensor, x: Tensor) -> Tensor:
    return rows.reshape(-1, *[1] * (x.ndim - 1))
