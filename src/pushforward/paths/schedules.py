"""Schedules (alpha, sigma) of an interpolant, value and derivative together.

Every schedule follows its formula up to both ends.  If a slope is infinite at an end,
:class:`~pushforward.paths.Interpolant` treats that end as open.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class Schedule(ABC):
    """The weights of target and source: x_t = alpha(t) x1 + sigma(t) x0."""

    #: whether this is a path already, without noise to be added along it
    complete: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(alpha, sigma, dalpha/dt, dsigma/dt), each shaped like ``t``."""

    def sigma_d_sigma(self, values: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """sigma dsigma/dt from the ``values`` of a call; schedules with an infinite slope give its limit."""
        return values[1] * values[3]


def constant_variance(values: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """sigma dsigma/dt where alpha^2 + sigma^2 is 1 at every t: -alpha dalpha/dt."""
    return -values[0] * values[2]


class Linear(Schedule):
    """alpha = t, sigma = 1 - t: straight lines at constant speed (CondOT).

    Lipman et al. 2023, arXiv 2210.02747, eq. 20 with sigma_min = 0; Liu et al. 2023, arXiv 2209.03003.

    >>> Linear()(torch.tensor(0.25))
    (tensor(0.2500), tensor(0.7500), tensor(1.), tensor(-1.))
    """

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        one = torch.ones_like(t)
        return t, 1 - t, one, -one


class LipmanOT(Schedule):
    """alpha = t, sigma = 1 - (1 - sigma_min) t: straight lines that keep a little noise at their end.

    The path ends at x1 + sigma_min x0 (Lipman et al. 2023, arXiv 2210.02747, eq. 20); with ``sigma_min`` 1
    the noise is constant, above 1 it grows.  Raises ValueError for a ``sigma_min`` that is negative.

    >>> LipmanOT(0.1)(torch.tensor(1.0))[:2]
    (tensor(1.), tensor(0.1000))
    """

    def __init__(self, sigma_min: float = 1e-4):
        if not 0 <= sigma_min < math.inf:
            raise ValueError(f"sigma_min: expected a number of at least 0, got {sigma_min}")
        self.sigma_min = float(sigma_min)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        one = torch.ones_like(t)
        # (1 - t) + sigma_min t, which keeps every digit of a small sigma near t = 1
        return t, (1 - t) + self.sigma_min * t, one, (self.sigma_min - 1) * one


class VariancePreserving(Schedule):
    """alpha = exp(-T(1 - t) / 2), sigma = sqrt(1 - alpha^2), with T(s) the integral of beta from 0 to s.

    beta(s) = beta_min + (beta_max - beta_min) s: the diffusion that turns data into noise, reversed in time
    (Lipman et al. 2023, arXiv 2210.02747, eq. 18 and 19; Song et al. 2021, arXiv 2011.13456).  At t = 0 a
    little of the data is left, alpha = exp(-(beta_min + beta_max) / 4).  Near t = 1, sigma is of the order of
    the square root of 1 - t, with infinite slope, unless beta_min = 0.  Raises ValueError unless 0 <=
    beta_min <= beta_max and beta_max > 0.

    >>> alpha, sigma, *_ = VariancePreserving()(torch.tensor([0.0, 1.0]))
    >>> alpha, sigma
    (tensor([0.0066, 1.0000]), tensor([1.0000, 0.0000]))
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        if not (0 <= beta_min <= beta_max and 0 < beta_max < math.inf):
            raise ValueError(
                f"beta_min, beta_max: expected 0 <= beta_min <= beta_max, beta_max > 0, "
                f"got {beta_min} and {beta_max}"
            )
        self.beta_min, self.beta_max = float(beta_min), float(beta_max)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        s = 1 - t
        beta = self.beta_min + (self.beta_max - self.beta_min) * s
        integral = 0.5 * s * (self.beta_min + beta)
        alpha, sigma = (-0.5 * integral).exp(), (-torch.expm1(-integral)).sqrt()
        # beta / sigma at sigma = 0 has a limit for beta_min = 0, where sigma falls off like 1 - t
        limit = math.inf if self.beta_min > 0 else math.sqrt(2 * self.beta_max)
        ratio = torch.where(sigma > 0, beta / torch.where(sigma > 0, sigma, 1.0), limit)
        return alpha, sigma, 0.5 * alpha * beta, -0.5 * alpha.square() * ratio

    def sigma_d_sigma(self, values: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        return constant_variance(values)


class VarianceExploding(Schedule):
    """alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^(1 - t): data plus noise that decreases.

    The path starts at x1 + sigma_max x0, which is nearly noise, and ends at x1 + sigma_min x0 (Lipman et al.
    2023, arXiv 2210.02747, eq. 16 and 17; the distribution of sigma is that of Song & Ermon 2019, arXiv
    1907.05600).  With ``clean``, sigma_min^2 is subtracted from sigma^2, as in the diffusion that starts at
    the data themselves (Song et al. 2021, arXiv 2011.13456): the path ends at x1, with infinite slope.
    Raises ValueError unless 0 < sigma_min < sigma_max.

    >>> VarianceExploding(0.01, 100.0)(torch.tensor([0.0, 0.5, 1.0]))[1]
    tensor([1.0000e+02, 1.0000e+00, 1.0000e-02])
    """

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0, clean: bool = False):
        if not 0 < sigma_min < sigma_max < math.inf:
            raise ValueError(
                f"sigma_min, sigma_max: expected 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}"
            )
        self.sigma_min, self.sigma_max, self.clean = float(sigma_min), float(sigma_max), clean

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rate = math.log(self.sigma_max / self.sigma_min)
        whole = self.sigma_min * (rate * (1 - t)).exp()
        if self.clean:
            sigma = self.sigma_min * torch.expm1(2 * rate * (1 - t)).sqrt()
            slope = -rate * whole.square() / sigma
        else:
            sigma, slope = whole, -rate * whole
        return torch.ones_like(t), sigma, torch.zeros_like(t), slope

    def sigma_d_sigma(self, values: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        # -rate (whole noise)^2, finite where sigma is 0
        rest = self.sigma_min**2 if self.clean else 0.0
        return -math.log(self.sigma_max / self.sigma_min) * (values[1].square() + rest)


class Trigonometric(Schedule):
    """alpha = sin(pi t / 2), sigma = cos(pi t / 2): a quarter circle, of constant variance.

    Albergo & Vanden-Eijnden 2023, arXiv 2209.15571.

    >>> Trigonometric()(torch.tensor(1.0))[:2]
    (tensor(1.), tensor(0.))
    """

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        quarter = math.pi / 2
        # the sine of the other angle is 0 at t = 1, where the cosine of a rounded pi / 2 is not
        alpha, sigma = (quarter * t).sin(), (quarter * (1 - t)).sin()
        return alpha, sigma, quarter * sigma, -quarter * alpha


class Polynomial(Schedule):
    """alpha = t^power, sigma = 1 - t^power: straight lines, with slow motion near t = 0 for a power above 1.

    For a power below 1 the slope at t = 0 is infinite.  Lipman et al. 2024, arXiv 2412.06264.  Raises
    ValueError for a power that is not positive.

    >>> Polynomial(2.0)(torch.tensor(0.5))
    (tensor(0.2500), tensor(0.7500), tensor(1.), tensor(-1.))
    """

    def __init__(self, power: float = 2.0):
        if not 0 < power < math.inf:
            raise ValueError(f"power: expected a positive number, got {power}")
        self.power = float(power)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        alpha, slope = t**self.power, self.power * t ** (self.power - 1)
        return alpha, 1 - alpha, slope, -slope


class Follmer(Schedule):
    """alpha = t, sigma = sqrt(1 - t^2): the Föllmer flow, of constant variance.

    At t = 1 the slope of sigma is infinite.  Dai et al. 2023, arXiv 2309.03490.

    >>> Follmer()(torch.tensor(0.6))[:2]
    (tensor(0.6000), tensor(0.8000))
    """

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sigma = ((1 - t) * (1 + t)).sqrt()
        return t, sigma, torch.ones_like(t), -t / sigma

    def sigma_d_sigma(self, values: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        return constant_variance(values)
