"""The loop of every solver of stochastic differential equations."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from .. import random
from ..tensors import expand_time
from .base import SDE, Diffusion, Problem, Solution, StateT, Status, Velocity
from .fixed import locate
from .grid import Gridded
from .state import Evaluation, as_entries, check_interval, check_save_at, finite_rows


class StochasticSolver(Gridded):
    """Steps over a grid, each with its Brownian increment; a method says in :meth:`step` how.

    The increment of the step from t to t + h is diffusion(t + h/2) sqrt|h| xi with xi ~ N(0, I): the
    midpoint makes its variance right to third order in h, and no level is asked for at either end, where
    some are infinite.  All xi are drawn from ``generator``, one draw of the state's shape a step.

    A time of ``save_at`` inside a step is filled in from both its ends by a Brownian bridge, whose draws
    come after all others, so that asking does not change the final state.  A row whose final state is
    not finite has status NON_FINITE.

    Raises ValueError for a problem that is no :class:`SDE`, a state that is not one tensor, and a drift or
    a diffusion of the wrong shape.
    """

    @abstractmethod
    def step(self, drift: Evaluation, t: float, t_next: float, x: Tensor, increment: Tensor) -> Tensor:
        """The state at ``t_next``; ``increment`` is the noise of the step, shaped like ``x``."""

    def solve(
        self,
        problem: Problem | Velocity,
        x: StateT,
        t0: float,
        t1: float,
        save_at: Sequence[float] | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Solution[StateT]:
        if not isinstance(problem, SDE):
            raise ValueError(
                f"problem: {self!r} solves an SDE(drift, diffusion), got {type(problem).__name__}; an ODE "
                "is for solvers such as Heun or Dopri5"
            )
        if not isinstance(x, Tensor):
            raise ValueError(f"x: {self!r} carries one tensor, got {type(x).__name__}")
        as_entries(x)
        check_interval(t0, t1)
        times, tolerance = check_save_at(save_at, t0, t1, x.dtype)
        drift = Evaluation(problem.drift, x, "drift")
        nodes = self.nodes(t0, t1)
        wanted: list[list[tuple[int, float]]] = [[] for _ in nodes]  # by node: which, how far into the step
        for i, (node, theta) in enumerate(locate(times or [], nodes, tolerance)):
            wanted[node].append((i, theta))

        state: Tensor = x
        saved: dict[int, Tensor] = {}
        gaps: list[tuple[list[tuple[int, float]], Tensor, Tensor, Tensor]] = []
        for n, t in enumerate(nodes):
            saved |= {i: state for i, theta in wanted[n] if not theta}
            if n == len(nodes) - 1:
                break
            h = nodes[n + 1] - t
            scale = level(problem.diffusion, t + 0.5 * h, state) * math.sqrt(abs(h))
            noise = random.normal(state.shape, generator, state.dtype, state.device)
            before, state = state, self.step(drift, t, nodes[n + 1], state, scale * noise)
            inside = [(i, theta) for i, theta in wanted[n] if theta]
            if inside:
                gaps.append((inside, before, state, scale))
        for inside, before, after, scale in gaps:
            reached = 0.0
            for i, theta in inside:
                # the bridge from where the path is known last to the end of the step
                share = (theta - reached) / (1 - reached)
                spread = scale * math.sqrt(max(0.0, share * (1 - theta)))
                noise = random.normal(x.shape, generator, x.dtype, x.device)
                before = saved[i] = torch.lerp(before, after, share) + spread * noise
                reached = theta

        path = None
        if times is not None:
            path = torch.stack([saved[i] for i in range(len(times))]) if times else x.new_empty((0, *x.shape))
        # x is a tensor here, which type checkers do not carry over to its type variable
        return Solution(
            x=cast(StateT, state),
            nfe=torch.full((len(x),), drift.calls, dtype=torch.int64, device=x.device),
            calls=drift.calls,
            status=torch.where(finite_rows(state), int(Status.OK), int(Status.NON_FINITE)),
            times=None if times is None else torch.tensor(times, dtype=x.dtype, device=x.device),
            path=cast("StateT | None", path),
        )


def level(diffusion: Diffusion, t: Tensor | float, x: Tensor) -> Tensor:
    """The noise level at ``t`` in a shape that multiplies ``x``; ValueError where there is none.

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
    return expand_time(value, x)
