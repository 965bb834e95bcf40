"""The loop of all solvers of stochastic differential equations."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from .. import random
from ..tensors import every, expand_time
from .base import Task
from .grid import Gridded
from .problems import SDE, Diffusion, Problem, StateT
from .solution import Solution
from .state import Evaluation, stack_states


class StochasticSolver(Gridded):
    """Steps over a grid, each with a Brownian increment; a method implements one in :meth:`step`.

    The increment of the step from t to t + h is diffusion(t + h/2) sqrt|h| xi with xi ~ N(0, I): with the
    midpoint its variance is right to third order in h, and the level is not evaluated at the ends, where it
    may be infinite.  All xi are drawn from ``generator``, one draw of the shape of the state per step.

    A time of ``save_at`` inside a step is interpolated by a Brownian bridge, whose draws come after all
    others, so that the final state does not change.  A row whose final state is not finite has status
    NON_FINITE.

    A problem with a ``finish`` ends with that step, which has no noise and is one evaluation.

    Raises ValueError for a problem that is no :class:`SDE`, a state that is not one tensor, a drift or a
    diffusion of the wrong shape, and a diffusion that is negative or not finite where it is evaluated.
    """

    solves: type[Problem] = SDE
    draws: bool = True

    @abstractmethod
    def step(self, drift: Evaluation, t: float, t_next: float, x: Tensor, increment: Tensor) -> Tensor:
        """The state at ``t_next``; ``increment`` is the noise of the step, shaped like ``x``."""

    def integrate(self, task: Task[StateT]) -> Solution[StateT]:
        x = task.entries[0]
        if task.x is not x:
            raise ValueError(f"x: {self!r} carries one tensor, got {type(task.x).__name__}")
        drift = Evaluation(task.problem.drift, x, "drift")
        nodes = self.nodes(task.t0, task.t1)
        wanted = self.places(task, nodes)
        finish = _finish(task.problem, x, nodes[-1])
        state = x
        saved: dict[int, Tensor] = {}
        gaps: list[tuple[list[tuple[int, float]], Tensor, Tensor, Tensor]] = []
        for n, t in enumerate(nodes):
            saved |= {i: state for i, theta in wanted[n] if not theta}
            if n == len(nodes) - 1:
                break
            before, h = state, nodes[n + 1] - t
            if finish is not None and n == len(nodes) - 2:
                scale = state.new_zeros(())
                (state,) = finish(t, (state,))
            else:
                scale = level(task.problem.diffusion, t + 0.5 * h, state) * math.sqrt(abs(h))
                noise = random.normal(state.shape, task.generator, state.dtype, state.device)
                state = self.step(drift, t, nodes[n + 1], state, scale * noise)
            inside = [(i, theta) for i, theta in wanted[n] if theta]
            if inside:
                gaps.append((inside, before, state, scale))
        for inside, before, after, scale in gaps:
            reached = 0.0
            for i, theta in inside:
                # the bridge from where the path is known last to the end of the step
                share = (theta - reached) / (1 - reached)
                spread = scale * math.sqrt(max(0.0, share * (1 - theta)))
                noise = random.normal(x.shape, task.generator, x.dtype, x.device)
                before = saved[i] = torch.lerp(before, after, share) + spread * noise
                reached = theta
        path = stack_states([(saved[i],) for i in sorted(saved)], (x,))
        return task.solution((state,), drift.calls + (finish.calls if finish else 0), path)


def _finish(problem: SDE, x: Tensor, t1: float) -> Evaluation | None:
    """The step without noise that ends at ``t1``, as a function of t and the state."""
    step = problem.finish
    if step is None:
        return None
    return Evaluation(lambda t, state: step(t, x.new_full((), t1), state), x, "finish")


def level(diffusion: Diffusion, t: Tensor | float, x: Tensor) -> Tensor:
    """The noise level at ``t`` in a shape that multiplies ``x``, or a ValueError.

    On a GPU and under ``torch.compile`` its values are not checked, which would cost a wait or a graph.

    >>> level(lambda t: 2 * t, 0.25, torch.zeros(3, 2))
    tensor(0.5000)
    """
    value = diffusion
    if not isinstance(value, Tensor) and callable(value):
        value = value(t if isinstance(t, Tensor) else x.new_full((), t))
    value = value.to(x) if isinstance(value, Tensor) else x.new_full((), value)
    if value.ndim not in (0, 1, x.ndim) or any(v not in (1, n) for v, n in zip(value.shape, x.shape)):
        raise ValueError(
            f"diffusion: expected a number, one for each of {len(x)} rows, or a tensor that broadcasts "
            f"against {tuple(x.shape)}, got shape {tuple(value.shape)}"
        )
    if value.device.type == "cpu" and not torch.compiler.is_compiling():
        fine = value.isfinite() & (value >= 0)
        if not every(fine):
            got = float(value[~fine].flatten()[0])
            raise ValueError(f"diffusion: expected finite numbers of at least 0, got {got:.6g}{_at(t)}")
    return expand_time(value, x)


def _at(t: Tensor | float) -> str:
    return f" at t = {float(t):.6g}" if not isinstance(t, Tensor) or t.ndim == 0 else ""
