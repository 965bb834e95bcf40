"""The loop of every fixed-step solver: the grid, the dense output, the counting."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from .base import Problem, Solution, StateT, Status, Velocity, as_ode
from .grid import Gridded
from .state import (
    Entries,
    Evaluation,
    as_entries,
    check_interval,
    check_save_at,
    finite_rows,
    like,
    stack_states,
)


class FixedStep(Gridded):
    """Steps over a grid that does not depend on the state.

    The grid is that of :class:`Gridded`.

    Dense output is the cubic Hermite polynomial of each step, or a straight line where ``hermite`` is
    false; a time that is a node gives the state of the node.  It costs at most one evaluation, at the
    end.  A row whose final state is not finite has status NON_FINITE.

    The loop reads no tensor from the device and unrolls under ``torch.compile(fullgraph=True)``, where
    ``save_at`` must be a sequence of floats.  A method says in :meth:`step` how one step is made.
    """

    hermite: ClassVar[bool] = True

    @abstractmethod
    def step(
        self, velocity: Evaluation, t: float, t_next: float, x: Entries, slope: Entries, memory: Any
    ) -> tuple[Entries, Any]:
        """The state at ``t_next``, and what the next step is to remember.

        ``slope`` is velocity(t, x), already evaluated; ``memory`` is what the step before returned, None
        at first.
        """

    def solve(
        self,
        problem: Problem | Velocity,
        x: StateT,
        t0: float,
        t1: float,
        save_at: Sequence[float] | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Solution[StateT]:
        velocity = Evaluation(as_ode(problem, self).velocity, x)
        entries = as_entries(x)
        check_interval(t0, t1)
        times, tolerance = check_save_at(save_at, t0, t1, entries[0].dtype)
        nodes = self.nodes(t0, t1)
        saved: list[Entries] = [entries] * len(times or [])
        wanted: list[list[tuple[int, float]]] = [[] for _ in nodes]  # by node: which, how far into the step
        for i, (node, theta) in enumerate(locate(times or [], nodes, tolerance)):
            wanted[node].append((i, theta))

        memory, behind = None, None
        for n, t in enumerate(nodes):
            last = n == len(nodes) - 1
            waiting = [(i, theta) for i, theta in wanted[n - 1] if theta] if n else []
            slope = velocity(t, entries) if not last or (waiting and self.hermite) else None
            for i, theta in waiting:
                assert behind is not None
                saved[i] = between(theta, t - nodes[n - 1], *behind, entries, slope if self.hermite else None)
            for i, theta in wanted[n]:
                if not theta:
                    saved[i] = entries
            if not last:
                assert slope is not None
                behind = entries, slope
                entries, memory = self.step(velocity, t, nodes[n + 1], entries, slope, memory)

        first = entries[0]
        rows = first.shape[0]
        finite = finite_rows(*entries)
        return Solution(
            x=like(x, entries),
            nfe=torch.full((rows,), velocity.calls, dtype=torch.int64, device=first.device),
            calls=velocity.calls,
            status=torch.where(finite, int(Status.OK), int(Status.NON_FINITE)),
            times=None if times is None else torch.tensor(times, dtype=first.dtype, device=first.device),
            path=None if times is None else like(x, stack_states(saved, entries)),
        )


def locate(times: Sequence[float], nodes: Sequence[float], tolerance: float) -> list[tuple[int, float]]:
    """For each time the node at or before it and the fraction of the step from there (0: the node itself).

    >>> locate([0.0, 0.6, 1.0], [0.0, 0.5, 1.0], 1e-9)
    [(0, 0.0), (1, 0.19999999999999996), (2, 0.0)]
    """
    sign = 1.0 if nodes[-1] >= nodes[0] else -1.0
    places = []
    n = 0
    for s in times:
        while n + 1 < len(nodes) and (nodes[n + 1] - s) * sign <= tolerance:
            n += 1
        theta = 0.0 if abs(s - nodes[n]) <= tolerance else (s - nodes[n]) / (nodes[n + 1] - nodes[n])
        places.append((n, theta))
    return places


def between(
    theta: float, h: float, left: Entries, left_slope: Entries, right: Entries, right_slope: Entries | None
) -> Entries:
    """The state a fraction ``theta`` into a step of length ``h``.

    Cubic Hermite (Hairer, Norsett & Wanner 1993, equation II.6.7), a straight line without ``right_slope``.
    """
    line = tuple(torch.lerp(a, b, theta) for a, b in zip(left, right))
    if right_slope is None:
        return line
    return tuple(
        p + theta * (theta - 1) * ((1 - 2 * theta) * (b - a) + h * ((theta - 1) * ka + theta * kb))
        for p, a, b, ka, kb in zip(line, left, right, left_slope, right_slope)
    )
