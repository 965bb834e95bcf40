"""States as rows of numbers, each with a time of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .problems import State, Velocity
from .state import Entries, Evaluation
from .tableau import Tableau, combine


class Rows:
    """The velocity on rows ``(B, D)`` with a time each.  Time always rises: backwards it is negated.

    The negation is exact, and is undone where the velocity is called and in the sign of the step.
    """

    def __init__(self, velocity: Velocity, x: State, entries: Entries, backwards: bool):
        self.evaluation = Evaluation(velocity, x)
        self.sign = -1.0 if backwards else 1.0
        self.events = [entry.shape[1:] for entry in entries]
        self.sizes = [math.prod(event) for event in self.events]

    def join(self, entries: Entries) -> Tensor:
        """``(B, *event)`` each -> ``(B, D)``."""
        if len(entries) == 1 and entries[0].ndim == 2:
            return entries[0]
        rows = [entry.reshape(entry.shape[0], size) for entry, size in zip(entries, self.sizes)]
        return rows[0] if len(rows) == 1 else torch.cat(rows, 1)

    def split(self, y: Tensor) -> Entries:
        """``(..., B, D)`` -> ``(..., B, *event)`` each."""
        if len(self.events) == 1 and len(self.events[0]) == 1:
            return (y,)
        parts = y.split(self.sizes, -1) if len(self.sizes) > 1 else (y,)
        return tuple(part.reshape(*y.shape[:-1], *event) for part, event in zip(parts, self.events))

    def __call__(self, t: Tensor, y: Tensor, leading: bool = False) -> Tensor:
        return self.join(self.evaluation(t if self.sign > 0 else -t, self.split(y), leading))

    def step(
        self, tableau: Tableau, t: Tensor, t_next: Tensor, step: Tensor, y: Tensor, k: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """One trial step of length ``step`` ``(B,)`` from velocity ``k``: the new rows and all stages."""
        h = step[:, None] if self.sign > 0 else -step[:, None]
        stages = [k]
        y_next = y
        for c, row, over in zip(tableau.c[1:], tableau.a[1:], tableau.passed_over[1:]):
            factor, total = combine(row, stages)
            y_next = torch.addcmul(y, h, total, value=factor)
            stages.append(self(t_next if c == 1.0 else torch.add(t, step, alpha=c), y_next, over))
        # the last stage of a first-same-as-last pair stands at the new state
        return y_next, stages
