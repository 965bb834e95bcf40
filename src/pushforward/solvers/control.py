"""Step-size control, for every row by itself."""

from __future__ import annotations

import torch
from torch import Tensor

#: Constants of the control (Gustafsson 1991, doi 10.1145/210232.210242; Hairer, Norsett & Wanner 1993):
#: safety factor, range of the factor, weight of the previous error, smallest error that counts as previous.
SAFETY, SHRINK, GROW, BETA, FLOOR = 0.9, 0.2, 10.0, 0.04, 1e-4


class Control:
    """Which trial steps are accepted, and how long the next ones are.

    h: the length of each row's next step, 0 where it is done.  active: which rows are not done.  broken:
        those whose velocity is not finite.
    order: of the method.  tiny: a row fails that needs a shorter step.  shortest, longest: limits of a step,
        None without one.
    """

    def __init__(
        self,
        order: int,
        h: Tensor,
        broken: Tensor,
        tiny: float,
        shortest: float | None = None,
        longest: float | None = None,
    ):
        self.h, self.active, self.broken, self.tiny = h, ~broken, broken, tiny
        self.exponent = -(1.0 / order - 0.75 * BETA)
        self.floor, self.longest = shortest or 0.0, longest
        # the safety factor times the previous error's power
        self.memory = torch.full_like(h, SAFETY * FLOOR**BETA)
        self.limit = torch.full_like(h, GROW)
        self.zero, self.one, self.grow, self.shrink = (h.new_full((), v) for v in (0.0, 1.0, GROW, SHRINK))

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows."""
        for name in ("h", "active", "broken", "memory", "limit"):
            setattr(self, name, getattr(self, name)[rows])

    def judge(self, error: Tensor, finite: Tensor, step: Tensor, last: Tensor) -> Tensor:
        """Which steps are accepted, by their scaled errors; ``last`` are those that arrive."""
        accept = error <= 1.0
        # the step that was asked for, because the difference of times is rounded
        shortest = torch.minimum(step, self.h) <= self.floor if self.floor else None
        if shortest is not None:
            accept |= finite & shortest
        factor = (self.memory * error.pow(self.exponent)).clamp(self.shrink, self.limit)
        self.limit = torch.where(accept, self.grow, self.one)  # no growth right after a rejection
        self.memory = torch.where(accept, SAFETY * error.clamp(min=FLOOR).pow(BETA), self.memory)
        active = self.active > (accept & last)  # and not
        h = step * factor
        lost = active & (h < self.tiny)
        if shortest is not None:
            lost |= active & ~finite & shortest
        if self.floor or self.longest:
            h = h.clamp(self.floor, self.longest)
        self.broken = self.broken | (lost > finite)
        self.active = active > lost
        self.h = torch.where(self.active, h, self.zero)
        return accept
