"""The ratio of signal and noise along a path, and the times at which it has a value."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Path

#: Halvings of an interval of times, after which double precision has no more digits.
HALVINGS = 60


def log_snr(path: Path, t: Tensor) -> Tensor:
    """log(alpha^2 / s^2) at ``t``, shaped like it; infinite at an end without signal or without noise.

    >>> from pushforward.paths import Interpolant
    >>> log_snr(Interpolant(), torch.tensor([0.0, 0.5, 1.0]))
    tensor([-inf, 0., inf])
    """
    c = path.coefficients(t)
    return 2 * (c.alpha.log() - c.noise_scale.log())


def time_of_log_snr(path: Path, level: Tensor, interval: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """The times in ``interval`` at which log(alpha^2 / s^2), which rises with t, has the values ``level``.

    By bisection, in double precision; a level outside gives the nearer end.

    >>> from pushforward.paths import Interpolant
    >>> time_of_log_snr(Interpolant(), torch.tensor([0.0]))
    tensor([0.5000], dtype=torch.float64)
    """
    level = level.double()
    low, high = torch.full_like(level, interval[0]), torch.full_like(level, interval[1])
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        below = log_snr(path, middle) < level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)
