"""The loop of all fixed-step solvers: the grid, the dense output, the counts."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch

from .base import Task
from .grid import Gridded
from .problems import StateT
from .solution import Solution
from .state import Entries, Evaluation, as_entries, like, stack_states


class FixedStep(Gridded):
    """Steps over a grid that does not depend on the state.

    The grid is that of :class:`Gridded`.

    Dense output is the cubic Hermite polynomial of each step, or a straight line where ``hermite`` is
    false; a time that is a node gives the state of the node.  It costs at most one evaluation, at the
    end.  A row whose final state is not finite has status NON_FINITE.

    The loop reads no tensor from the device and unrolls under ``torch.compile(fullgraph=True)``, where
    ``save_at`` must be a sequence of floats.  A method implements one step in :meth:`step`.
    """

    hermite: ClassVar[bool] = True
    #: whether a step has no weight for the slope at its start, see :class:`WithIntegrals`
    passes_first: ClassVar[bool] = False

    @abstractmethod
    def step(
        self, velocity: Evaluation, t: float, t_next: float, x: Entries, slope: Entries, memory: Any
    ) -> tuple[Entries, Any]:
        """The state at ``t_next``, and the memory for the next step.

        ``slope`` is velocity(t, x), already evaluated; ``memory`` is what the step before returned, None
        at first.
        """

    def integrate(self, task: Task[StateT]) -> Solution[StateT]:
        velocity, entries = Evaluation(task.problem.velocity, task.x), task.entries
        nodes = self.nodes(task.t0, task.t1)
        wanted = self.places(task, nodes)
        saved: list[Entries] = [entries] * len(task.times or [])
        retract = task.problem.retract
        memory, behind = None, None
        reached = entries  # the end of a step before it is put back, to which interpolation leads
        for n, t in enumerate(nodes):
            last = n == len(nodes) - 1
            waiting = [(i, theta) for i, theta in wanted[n - 1] if theta] if n else []
            # interpolation wants the whole slope at both ends of a step
            between_nodes = bool(waiting) or any(theta for _, theta in wanted[n])
            slope = None
            if not last or (waiting and self.hermite):
                slope = velocity(t, entries, leading=self.passes_first and not between_nodes)
            for i, theta in waiting:
                assert behind is not None
                saved[i] = between(theta, t - nodes[n - 1], *behind, reached, slope if self.hermite else None)
            for i, theta in wanted[n]:
                if not theta:
                    saved[i] = entries
            if not last:
                assert slope is not None
                behind = entries, slope
                reached, memory = self.step(velocity, t, nodes[n + 1], entries, slope, memory)
                entries = reached if retract is None else as_entries(retract(like(task.x, reached)))

        return task.solution(entries, velocity.calls, stack_states(saved, entries))


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
