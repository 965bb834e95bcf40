"""The time grid of solvers whose steps do not depend on the state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from torch import Tensor

from ..nn.checks import check_count
from .base import Solver, Task
from .grids import named

#: A time grid as it may be given: fractions from 0 to 1, or the text of one of :data:`GRIDS`.
Grid = Sequence[float] | Tensor | str


class Gridded(Solver):
    """A solver on a grid of times chosen beforehand.

    steps: how many, equally long unless there is a grid.
    grid: the name of one of :mod:`~pushforward.solvers.grids`, such as "karras" or "shifted:3"; or fractions
        of the interval from 0 to 1, strictly increasing, whose length then decides the number of steps.
    least: how few steps a method may have.

    Raises ValueError for fewer steps, for a grid that does not run from 0 to 1, and for an unknown name.
    """

    least: ClassVar[int] = 1

    def __init__(self, steps: int = 100, grid: Grid | None = None):
        self.name = grid if isinstance(grid, str) else "" if grid is not None else "uniform"
        if self.name:
            check_count("steps", steps, self.least)
            self.grid = named(self.name)(steps)
        elif grid is not None:
            self.grid = [float(g) for g in (grid.tolist() if isinstance(grid, Tensor) else grid)]
        rising = all(later > earlier for earlier, later in zip(self.grid, self.grid[1:]))
        if len(self.grid) < 2 or self.grid[0] != 0.0 or self.grid[-1] != 1.0 or not rising:
            raise ValueError(f"grid: expected increasing fractions from 0 to 1, got {self.grid}")
        self.steps = check_count("steps of the grid", len(self.grid) - 1, self.least)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that make this solver, as plain data."""
        return {"steps": self.steps, "grid": self.name or self.grid}

    def in_steps(self, steps: int) -> Self:
        """This solver with another number of steps; a grid of its own, which has no name, becomes uniform."""
        return type(self)(**{**self.options, "steps": steps, "grid": self.name or None})

    def nodes(self, t0: float, t1: float) -> list[float]:
        """The times of the grid from ``t0`` to ``t1``, one alone where these are equal."""
        return [t0 + (t1 - t0) * g for g in self.grid[:-1]] + [t1] if t0 != t1 else [t0]

    def places(self, task: Task[Any], nodes: Sequence[float]) -> list[list[tuple[int, float]]]:
        """By node: which times of the task lie there or in the step from there, and how far into it."""
        places: list[list[tuple[int, float]]] = [[] for _ in nodes]
        for i, (node, theta) in enumerate(locate(task.times or [], nodes, task.tolerance)):
            places[node].append((i, theta))
        return places

    def __repr__(self) -> str:
        inside = {"": f"grid={self.grid}", "uniform": f"steps={self.steps}"}
        return f"{type(self).__name__}({inside.get(self.name, f'steps={self.steps}, grid={self.name!r}')})"


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
