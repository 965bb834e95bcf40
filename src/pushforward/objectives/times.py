"""Distributions of training times on [0, 1], sampled in strata."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .. import random
from ..paths import Path
from .base import Step


def check_kinds(path: Path | None, times: Times | None) -> None:
    """Raise ValueError for anything but a path and a distribution of times; None stands for a default."""
    if path is not None and not isinstance(path, Path):
        raise ValueError(f"path: expected a Path such as Interpolant(), got {path!r}")
    if times is not None and not isinstance(times, Times):
        raise ValueError(f"times: expected Times such as Uniform(), got {times!r}")


class Times(ABC):
    """A distribution of training times, which weighs errors by time but does not change the best field."""

    #: whether times may be drawn at t = 0 and at t = 1; where not, an open end there needs no distance
    reaches: tuple[bool, bool] = (True, True)

    def along(self, path: Path) -> Times:
        """The distribution for training along ``path``; itself, unless it is told by what the path is."""
        return self

    @abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """The times at which the distribution function is ``u``."""

    def draw(
        self, like: Tensor, step: Step, margin: float = 0.0, open_ends: tuple[bool, bool] = (True, True)
    ) -> Tensor:
        """Times ``(B,)``, one in each of the global batch's equal strata: quantile((i + U_i) / B).

        Each is a draw of the distribution, since rows come in random order, and the mean loss varies less
        from batch to batch than with independent times.  They are squeezed from [0, 1] into an interval that
        keeps ``margin`` away from the ends that are open.
        """
        count = len(like)
        start, total = step.rows or (0, count)
        u = random.uniform((count,), step.generator, like.dtype, like.device)
        strata = torch.arange(start, start + count, dtype=like.dtype, device=like.device)
        return self.inside(self.quantile((strata + u) / total), margin, open_ends)

    def inside(self, t: Tensor, margin: float = 0.0, open_ends: tuple[bool, bool] = (True, True)) -> Tensor:
        """Times of [0, 1] squeezed into an interval that keeps ``margin`` away from open ends."""
        if margin == 0 or open_ends == (False, False):
            return t
        open_ends = (open_ends[0] and self.reaches[0], open_ends[1] and self.reaches[1])
        # in half precision 1 - margin would round to 1
        gap = max(margin, torch.finfo(t.dtype).eps)
        low, high = gap * open_ends[0], 1 - gap * open_ends[1]
        return low + (high - low) * t


class Uniform(Times):
    """t ~ U[0, 1].

    >>> Uniform().quantile(torch.tensor(0.25))
    tensor(0.2500)
    """

    def quantile(self, u: Tensor) -> Tensor:
        return u


class Late(Times):
    """1 - t = w^power with w ~ U[0, 1]: more times near t = 1, where fine detail is decided.

    The density of s = 1 - t is s^(1/power - 1) / power; power 1 is uniform.  It serves sharp densities in
    few dimensions: with power 2 a tenth of the times, instead of a hundredth, are within .01 of the data.
    In simulation-based inference power laws of time have the same effect (Wildberger et al. 2023, arXiv
    2305.17161, section 3.3).  Raises ValueError for a power that is not positive.

    >>> Late(2.0).quantile(torch.tensor([0.0, 0.5, 1.0]))
    tensor([0.0000, 0.7500, 1.0000])
    """

    def __init__(self, power: float = 2.0):
        if not 0 < power < math.inf:
            raise ValueError(f"power: expected a positive number, got {power}")
        self.power = float(power)

    def quantile(self, u: Tensor) -> Tensor:
        return 1 - (1 - u) ** self.power


class LogitNormal(Times):
    """logit(t) ~ N(mean, std^2): most times in the middle, where the velocity is hardest to learn.

    Esser et al. 2024, arXiv 2403.03206, section 3.1; times there run from data to noise, so that a
    ``mean`` of theirs is -mean here.  Raises ValueError for a ``std`` that is not positive.

    >>> LogitNormal().quantile(torch.tensor([0.0, 0.5, 1.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0):
        if not math.isfinite(mean):
            raise ValueError(f"mean: expected a finite number, got {mean}")
        if not 0 < std < math.inf:
            raise ValueError(f"std: expected a positive number, got {std}")
        self.mean, self.std = float(mean), float(std)

    def quantile(self, u: Tensor) -> Tensor:
        return (self.mean + self.std * torch.special.ndtri(u)).sigmoid()


class UShaped(Times):
    """Density in proportion to cosh(a (t - 1/2)): more times at both ends, for reflow.

    Lee et al. 2024, arXiv 2405.20320, as in the authors' code, which is symmetric.  Raises ValueError for
    an ``a`` outside (0, 100].

    >>> UShaped().quantile(torch.tensor([0.0, 0.1, 0.5]))
    tensor([0.0000, 0.0533, 0.5000])
    """

    def __init__(self, a: float = 4.0):
        if not 0 < a <= 100:  # cosh of more leaves the range of single precision
            raise ValueError(f"a: expected a number in (0, 100], got {a}")
        self.a = float(a)

    def quantile(self, u: Tensor) -> Tensor:
        t = 0.5 + ((2 * u - 1) * math.sinh(0.5 * self.a)).asinh() / self.a
        return t.clamp(0, 1)  # rounding
