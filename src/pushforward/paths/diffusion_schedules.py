"""Further schedules of continuous diffusions, reversed in time: sub-VP, cosine, and that of EDM."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .schedules import Schedule, VariancePreserving, constant_variance

#: The largest ratio of noise levels of :class:`Karras`, and its largest rho.
MOST_APART, MOST_RHO = 1e10, 100


class SubVariancePreserving(Schedule):
    """alpha = exp(-T(1 - t) / 2), sigma = 1 - alpha^2: less noise than the variance preserving path.

    T(s) is the integral of beta(s) = beta_min + (beta_max - beta_min) s from 0 to s.  The variance sigma^2
    is at most that of :class:`VariancePreserving` at every t, and sigma falls linearly to 0 at t = 1 (Song et
    al. 2021, arXiv 2011.13456, eq. 29 and 31).  Raises ValueError unless 0 <= beta_min <= beta_max and
    beta_max > 0.

    >>> alpha, sigma, *_ = SubVariancePreserving()(torch.tensor([0.0, 0.9, 1.0]))
    >>> alpha, sigma
    (tensor([0.0066, 0.9467, 1.0000]), tensor([1.0000, 0.1037, 0.0000]))
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        self.preserving = VariancePreserving(beta_min, beta_max)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        alpha, sigma, d_alpha, _ = self.preserving(t)
        return alpha, sigma.square(), d_alpha, -2 * alpha * d_alpha


class Cosine(Schedule):
    """alpha = sin(a t) / sin a, sigma = sqrt(1 - alpha^2), with a = (pi / 2) / (1 + offset).

    The squared cosine of Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17, in continuous time: alpha^2 falls
    slowly near both ends.  The ``offset``, their s, keeps the noise near t = 1 from being too small; there
    the slope of sigma is infinite.  Without it the schedule is :class:`Trigonometric`.  Raises ValueError for
    an offset that is not positive.

    >>> Cosine()(torch.tensor([0.0, 0.5, 1.0]))[0]
    tensor([0.0000, 0.7027, 1.0000])
    """

    def __init__(self, offset: float = 0.008):
        if not 0 < offset < math.inf:
            raise ValueError(f"offset: expected a positive number (trig is without), got {offset}")
        self.offset = float(offset)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        a = 0.5 * math.pi / (1 + self.offset)
        top = math.sin(a)
        alpha, d_alpha = (a * t).sin() / top, a * (a * t).cos() / top
        # sin^2 a - sin^2 (a t) as a product, which keeps the digits of a small sigma
        sigma = ((a * (1 + t)).sin() * (a * (1 - t)).sin()).sqrt() / top
        return alpha, sigma, d_alpha, -alpha * d_alpha / sigma

    def sigma_d_sigma(self, values: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        return constant_variance(values)


class Karras(Schedule):
    """alpha = 1, sigma = ((1 - t) sigma_max^(1/rho) + t sigma_min^(1/rho))^rho: data plus noise, as in EDM.

    Equal steps in t are the noise levels of Karras et al. 2022, arXiv 2206.00364, eq. 5; a rho above 1
    shortens those near the data.  Raises ValueError unless 0 < sigma_min < sigma_max, up to 1e10 times as
    large, and 1 <= rho <= 100: beyond, single precision does not tell the noise levels apart.

    >>> Karras()(torch.tensor([0.0, 0.5, 1.0]))[1]
    tensor([8.0000e+01, 2.5152e+00, 2.0000e-03])
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0):
        if not 0 < sigma_min < sigma_max < math.inf:
            raise ValueError(
                f"sigma_min, sigma_max: expected 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}"
            )
        if sigma_max / sigma_min > MOST_APART:
            raise ValueError(
                f"sigma_min, sigma_max: expected a sigma_max of at most {MOST_APART:g} times sigma_min, got "
                f"{sigma_min} and {sigma_max}"
            )
        if not 1 <= rho <= MOST_RHO:
            raise ValueError(f"rho: expected a number from 1 to {MOST_RHO}, got {rho}")
        self.sigma_min, self.sigma_max, self.rho = float(sigma_min), float(sigma_max), float(rho)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first, last = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        root = (1 - t) * first + t * last
        slope = self.rho * (last - first) * root ** (self.rho - 1)
        return torch.ones_like(t), root**self.rho, torch.zeros_like(t), slope

    def time_of(self, sigma: Tensor) -> Tensor:
        """The t at which the noise has the deviation ``sigma``."""
        first, last = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        return (first - sigma ** (1 / self.rho)) / (first - last)
