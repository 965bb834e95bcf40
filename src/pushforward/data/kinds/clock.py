"""Times of day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .maps import Logit, between

#: Microseconds of a day.
DAY = 86_400 * 10**6


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A time of day by the logit of what has passed of the day, in steps of ``step`` microseconds."""

    step: int
    map: Logit

    def forward(self, times: np.ndarray, generator: np.random.Generator | None) -> np.ndarray:
        """Coordinates of times: of the middle of the step that begins there, or drawn evenly in it."""
        inside = 0.5 if generator is None else 0.5 + (generator.random(len(times)) - 0.5) * (1 - 1e-6)
        return self.map.forward(times // self.step + inside)

    def inverse(self, z: np.ndarray) -> np.ndarray:
        """Times of coordinates, in microseconds."""
        last = DAY // self.step - 1
        return (np.clip(np.floor(self.map.inverse(z)), 0, last) * self.step).astype(np.int64)


def clock_of(times: np.ndarray, step: int) -> Clock:
    """The clock for times in microseconds."""
    return Clock(step=step, map=between(times // step + 0.5, 0.0, DAY / step))
