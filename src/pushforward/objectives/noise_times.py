"""Distributions of training times that diffusion models ask for: steps of a chain, and noise levels."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor

from ..paths import Interpolant, Karras, Path, log_snr, time_of_log_snr
from .times import Times

#: Share of log-normal noise levels that a path has to have.
LEAST_SHARE = 0.01


class Discrete(Times):
    """t = 1 - k / steps with k uniform on 1, ..., steps: the times of a chain in discrete time.

    Ho et al. 2020, arXiv 2006.11239, algorithm 1; the clean data, k = 0, are not among them.  Raises
    ValueError for fewer than one step.

    >>> Discrete(4).quantile(torch.tensor([0.0, 0.3, 0.99]))
    tensor([0.0000, 0.2500, 0.7500])
    """

    reaches = (True, False)

    def __init__(self, steps: int = 1000):
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}")
        self.steps = steps

    def quantile(self, u: Tensor) -> Tensor:
        return (u * self.steps).floor().clamp(max=self.steps - 1) / self.steps


class LogNormalNoise(Times):
    """log sigma ~ N(mean, std^2) within the noise levels of the path :class:`~pushforward.paths.Karras`.

    Karras et al. 2022, arXiv 2206.00364, table 1, have mean -1.2 for data of deviation 0.5.  The default is
    that for data of unit variance, -1.2 + log 2.  Noise levels are those of the path that is trained along,
    and until that is known of ``Karras()``.  Raises ValueError for a mean that is not finite and a ``std``
    that is not positive, and along a path of other noise or with less than a hundredth of the levels.

    >>> times = LogNormalNoise().quantile(torch.tensor([0.0, 0.5, 1.0]))
    >>> Karras()(times)[1]
    tensor([8.0000e+01, 6.0651e-01, 2.0000e-03])
    """

    def __init__(self, mean: float = -0.5, std: float = 1.2):
        if not math.isfinite(mean):
            raise ValueError(f"mean: expected a finite number, got {mean}")
        if not 0 < std < math.inf:
            raise ValueError(f"std: expected a positive number, got {std}")
        self.mean, self.std = float(mean), float(std)
        self._follow(Karras())

    def along(self, path: Path) -> Self:
        schedule: Any = getattr(path, "schedule", None)
        if not hasattr(schedule, "time_of") or getattr(path, "noisy", False):
            raise ValueError("log-normal noise levels are those of the path edm alone; take other times")
        found = type(self)(self.mean, self.std)
        share = found._follow(schedule)
        if share < LEAST_SHARE:
            low, high = schedule.sigma_min, schedule.sigma_max
            raise ValueError(
                f"mean, std: expected {LEAST_SHARE:.0%} of the levels at least between {low:g} and {high:g}, "
                f"those of the path, got {share:.2g} with {self.mean} and {self.std}"
            )
        return found

    def _follow(self, schedule: Any) -> float:
        """Take the noise levels of ``schedule``; the share of the log-normal distribution that they have."""
        ends = torch.tensor([schedule.sigma_max, schedule.sigma_min], dtype=torch.float64).log()
        self._first, self._last = torch.special.ndtr((ends - self.mean) / self.std).tolist()
        self._time_of = schedule.time_of
        return self._first - self._last

    def quantile(self, u: Tensor) -> Tensor:
        level = self._first + (self._last - self._first) * u
        sigma = (self.mean + self.std * torch.special.ndtri(level)).exp()
        return self._time_of(sigma).clamp(0, 1)


class UniformLogSNR(Times):
    """log(alpha^2 / s^2) uniform between its values at t = ``margin`` and t = 1 - ``margin``.

    The loss of a noise prediction then is the bound of the likelihood, with its weight in the density of the
    times instead of a factor, of far smaller variance (Song et al. 2021, arXiv 2101.09258, section 5; Kingma
    et al. 2021, arXiv 2107.00630, eq. 16).  It is the ratio of the path that is trained along, and until
    that is known of the linear one.  Raises ValueError for a margin outside [1e-6, 1/2): in float32 a smaller
    one is none.

    >>> UniformLogSNR(0.01).quantile(torch.tensor([0.0, 0.5, 1.0]))
    tensor([0.0100, 0.5000, 0.9900])
    """

    #: levels at which the quantile is found by bisection; between them logit(t) is linear
    nodes = 2049

    def __init__(self, margin: float = 1e-3):
        if not 1e-6 <= margin < 0.5:
            raise ValueError(f"margin: expected a number from 1e-6 to below 1/2, got {margin}")
        self.margin = float(margin)
        self._logits = self._table(Interpolant())

    def along(self, path: Path) -> Self:
        found = type(self)(self.margin)
        found._logits = self._table(path)
        return found

    def _table(self, path: Path) -> Tensor:
        """logit(t) at equal steps of the level."""
        ends = torch.tensor([self.margin, 1 - self.margin], dtype=torch.float64)
        first, last = log_snr(path, ends).tolist()
        levels = torch.linspace(first, last, self.nodes, dtype=torch.float64)
        return time_of_log_snr(path, levels, (self.margin, 1 - self.margin)).logit()

    def quantile(self, u: Tensor) -> Tensor:
        logits = self._logits.to(u)
        place = u * (self.nodes - 1)
        below = place.floor().clamp(0, self.nodes - 2)
        start, stop = logits[below.long()], logits[below.long() + 1]
        return torch.lerp(start, stop, place - below).sigmoid()
