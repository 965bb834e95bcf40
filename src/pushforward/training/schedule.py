"""The progress of a training: by its steps, or by the share of its time if that is larger."""

from __future__ import annotations

import math


class Schedule:
    """The learning rate and the end of a training planned for ``total`` steps, or for so many ``seconds``.

    Its place is counted in planned steps: place = max(step, total elapsed / seconds).  The learning rate
    warms up linearly over ``warmup`` of them (a tenth at most) and falls to 0 along half a cosine, so that it
    is 0 at the end whichever comes first.  Without ``seconds`` the place is the step, and no clock is used.

    >>> schedule = Schedule(total=100, peak=1.0, warmup=10, seconds=60.0)
    >>> schedule.place(20, elapsed=6.0), schedule.place(20, elapsed=30.0)
    (20, 50.0)
    >>> round(schedule.rate(55), 6)
    0.5
    """

    def __init__(self, total: int, peak: float, warmup: int, seconds: float | None = None):
        self.total, self.peak, self.seconds = total, peak, seconds
        self.warmup = min(warmup, total // 10)
        #: seconds to keep for what comes after the last step: the longest validation so far and a step
        self.reserve = 0.0

    def place(self, step: int, elapsed: float) -> float:
        """The place after ``step`` steps and ``elapsed`` seconds."""
        if self.seconds is None:
            return step
        return max(step, self.total * elapsed / max(self.seconds - self.reserve, 1e-9))

    def rate(self, place: float) -> float:
        """The learning rate of the step that begins at ``place``; it falls no further than to 0."""
        if place < self.warmup:
            return self.peak * (place + 1) / self.warmup
        angle = math.pi * (place - self.warmup) / (self.total - self.warmup)
        return self.peak * 0.5 * (1 + math.cos(min(angle, math.pi)))
