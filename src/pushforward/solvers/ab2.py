"""The two-step Adams-Bashforth method."""

from __future__ import annotations

from .fixed import FixedStep
from .heun import Heun
from .runge_kutta import advance
from .state import Entries, Evaluation


class AB2(FixedStep):
    """Adams-Bashforth with two steps: second order, one evaluation per step.

    x' = x + h ((1 + r/2) f_n - r/2 f_{n-1}),  r = h / h_before   (Bashforth & Adams 1883; for unequal
    steps Hairer, Norsett & Wanner 1993, section III.5).  The first step is one of Heun's method, so that n
    steps cost n + 1 evaluations.  Raises ValueError for fewer than two steps, which have nothing behind them.

    >>> import torch
    >>> AB2(steps=10).solve(lambda t, x: -x, torch.ones(1, 1), 0.0, 1.0).nfe
    tensor([11])
    """

    order, stages, evaluations, least = 2, 2, 1, 2

    def step(
        self,
        velocity: Evaluation,
        t: float,
        t_next: float,
        x: Entries,
        slope: Entries,
        memory: tuple[float, Entries] | None,
    ) -> tuple[Entries, tuple[float, Entries]]:
        h = t_next - t
        if memory is None:
            ahead = velocity(t_next, advance(x, h, (1.0,), [slope]))
            return advance(x, h, Heun.tableau.b, [slope, ahead]), (h, slope)
        before, slope_before = memory
        half = 0.5 * h / before
        return advance(x, h, (1.0 + half, -half), [slope, slope_before]), (h, slope)
