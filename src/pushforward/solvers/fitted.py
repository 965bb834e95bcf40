"""A solver whose coefficients are fitted to one field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..nn.checks import check_number
from .fixed import FixedStep
from .grid import Grid
from .state import Entries, Evaluation

#: What a step leaves for the next: the initial state and the slopes so far.
Memory = tuple[Entries, list[Entries]]
#: The largest factor: what is fitted to a field stays far below.
LARGEST = 1e12


class Fitted(FixedStep):
    """A non-stationary linear solver (Shaul et al. 2024, arXiv 2403.01329): one evaluation a step.

    x_{n+1} = a_n x_0 + T sum_{j <= n} b_nj f(t_j, x_j)

    over an interval of length T, so that every explicit method with fixed steps is a case of it, those of
    :class:`Denoise` included.  The coefficients are fitted to one field by
    :func:`~pushforward.flows.tune_sampler`; for another field they mean nothing, and they run forwards only.
    Without any it is Euler's method.

    steps, grid: the times t_n, see :class:`Gridded`.
    start: the factors a_n, one for each step.
    weights: the factors b_nj, those of one step after those of the one before: 1 + 2 + ... + steps numbers.

    Raises ValueError for factors of the wrong number or beyond 1e12, for one kind without the other, and
    backwards in time.

    >>> halves = Fitted(2, start=[1.0, 1.0], weights=[0.5, 0.0, 1.0])
    >>> halves.solve(lambda t, x: t + 0 * x, torch.zeros(1), 0.0, 1.0).x  # the midpoint rule in two steps
    tensor([0.5000])
    """

    order = stages = evaluations = 1
    hermite = False

    def __init__(
        self,
        steps: int = 100,
        grid: Grid | None = None,
        start: Sequence[float] | None = None,
        weights: Sequence[float] | None = None,
    ):
        super().__init__(steps, grid)
        self.start, self.weights = (
            None if values is None else [check_number(name, n, -LARGEST, LARGEST) for n in values]
            for name, values in (("start", start), ("weights", weights))
        )
        if (start is None) != (weights is None):
            raise ValueError("start, weights: expected both or none")
        for name, values, count in [
            ("start", self.start, self.steps),
            ("weights", self.weights, self.steps * (self.steps + 1) // 2),
        ]:
            if values is not None and len(values) != count:
                raise ValueError(
                    f"{name}: expected {count} numbers for {self.steps} steps, got {len(values)}"
                )

    @property
    def options(self) -> dict[str, Any]:
        return {**super().options, "start": self.start, "weights": self.weights}

    def step(
        self, velocity: Evaluation, t: float, t_next: float, x: Entries, slope: Entries, memory: Memory | None
    ) -> tuple[Entries, Memory]:
        first, slopes = memory or (x, [])
        slopes, n = [*slopes, slope], len(slopes)
        if self.start is None or self.weights is None:
            return tuple(torch.add(a, k, alpha=t_next - t) for a, k in zip(x, slope)), (first, slopes)
        if t_next < t:
            raise ValueError(f"t0, t1: {self!r} was fitted forwards in time, got a step from {t} to {t_next}")
        length = (t_next - t) / (self.grid[n + 1] - self.grid[n])
        row = self.weights[n * (n + 1) // 2 :][: n + 1]
        ends: list[Tensor] = []
        for i, x0 in enumerate(first):
            end = self.start[n] * x0
            for weight, each in zip(row, slopes):
                end = torch.add(end, each[i], alpha=length * weight)
            ends.append(end)
        return tuple(ends), (first, slopes)
