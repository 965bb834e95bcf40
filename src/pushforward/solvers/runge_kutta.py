"""The step of every explicit Runge-Kutta method with a fixed grid."""

from __future__ import annotations

from typing import Any

import torch

from .fixed import FixedStep
from .state import Entries, Evaluation
from .tableau import TableauSolver, combine


class RungeKutta(FixedStep, TableauSolver):
    """An explicit Runge-Kutta method on a fixed grid; a method is a :class:`Tableau`."""

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        cls.passes_first = cls.tableau.passed_over[0]

    def step(
        self, velocity: Evaluation, t: float, t_next: float, x: Entries, slope: Entries, memory: None
    ) -> tuple[Entries, None]:
        h = t_next - t
        stages = [slope]
        for c, row, over in zip(self.tableau.c[1:], self.tableau.a[1:], self.tableau.passed_over[1:]):
            stages.append(velocity(t + c * h, advance(x, h, row, stages), leading=over))
        return advance(x, h, self.tableau.b, stages), None


def advance(x: Entries, h: float, weights: tuple[float, ...], stages: list[Entries]) -> Entries:
    """x + h sum_i weights_i stages_i, entry by entry."""
    result = []
    for i, entry in enumerate(x):
        factor, total = combine(weights, [stage[i] for stage in stages])
        result.append(torch.add(entry, total, alpha=h * factor))
    return tuple(result)
