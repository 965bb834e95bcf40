"""Diffusion coefficients g(t) of processes with the marginals of a path."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .base import Coefficients, Path

#: The largest constant g, whose square float32 and Python can hold.
LARGEST = 1e6

__all__ = ["Along", "ConstantDiffusion", "DiffusionCoefficient", "Memoryless", "Proportional"]


class DiffusionCoefficient(ABC):
    """g(t) >= 0 of dX = (u + g^2/2 score) dt + g dW, from the coefficients of a path.

    Every g keeps the distributions along the path (Song et al. 2021, arXiv 2011.13456; Albergo et al. 2023,
    arXiv 2303.08797).  With the noise scale s of the path the score is -noise / s, so g^2 should vanish with
    s, or steps of a solver would have to be as short as s^2 / g^2.
    """

    @abstractmethod
    def __call__(self, t: Tensor, c: Coefficients) -> Tensor:
        """g at ``t``, shaped like ``t``; ``c`` are the coefficients of the path there."""


class ConstantDiffusion(DiffusionCoefficient):
    """g(t) = ``g``, which falls off where little noise is left: 1 / g(t)^2 = 1 / g^2 + 1 / (2 taper s W).

    W = s alpha' - alpha s', so that 2 s W is the square of :class:`Proportional`.  ``taper`` infinite leaves
    g constant up to the end.  Raises ValueError unless 0 <= g <= 1e6, and taper > 0.

    >>> from pushforward.paths import Interpolant
    >>> t = torch.tensor([0.0, 0.5, 1.0])
    >>> ConstantDiffusion(0.5)(t, Interpolant().coefficients(t))
    tensor([0.4851, 0.4714, 0.0000])
    """

    def __init__(self, g: float = 1.0, taper: float = 2.0):
        if not 0 <= g <= LARGEST:
            raise ValueError(f"g: expected a finite number of at least 0, at most {LARGEST:,.0f}, got {g}")
        if not taper > 0:
            raise ValueError(f"taper: expected a positive number, got {taper}")
        self.g, self.taper = float(g), float(taper)

    def __call__(self, t: Tensor, c: Coefficients) -> Tensor:
        if self.g == 0 or self.taper == math.inf:
            return torch.full_like(t, self.g)
        most = self.taper * _natural(c)
        return self.g * (most / (self.g**2 + most)).sqrt()


class Proportional(DiffusionCoefficient):
    """g^2 = 2 ``scale`` s W with W = s alpha' - alpha s', which is finite at t = 0 and falls off with s.

    Along the linear path W = 1, and a scale of 1/2 is g^2 = sigma (Ma et al. 2024, arXiv 2401.08740); along
    variance exploding paths a scale of 1 is :class:`Memoryless`.  Raises ValueError for a negative scale.

    >>> from pushforward.paths import Interpolant
    >>> t = torch.tensor([0.0, 0.5, 1.0])
    >>> Proportional(0.5)(t, Interpolant().coefficients(t)).square()
    tensor([1.0000, 0.5000, 0.0000])
    """

    def __init__(self, scale: float = 1.0):
        if not 0 <= scale < math.inf:
            raise ValueError(f"scale: expected a finite number of at least 0, got {scale}")
        self.scale = float(scale)

    def __call__(self, t: Tensor, c: Coefficients) -> Tensor:
        return (self.scale * _natural(c)).sqrt()


class Memoryless(DiffusionCoefficient):
    """g^2 = 2 s W / alpha: the process whose end does not depend on its start.

    Domingo-Enrich et al. 2024, arXiv 2409.08861.  Along variance preserving and exploding paths it is the
    reversed diffusion of Song et al. 2021, arXiv 2011.13456, with g^2 = beta and g^2 = -d sigma^2/dt.  It is
    infinite where alpha = 0, so alpha counts as at least ``floor``; with a floor of 0 start later than at
    t = 0.  Raises ValueError for a negative floor.

    >>> from pushforward.paths import Interpolant, VariancePreserving
    >>> t = torch.tensor([0.0, 0.5])
    >>> Memoryless(floor=0)(t, Interpolant(VariancePreserving(1.0, 5.0)).coefficients(t)).square()
    tensor([5., 3.])
    """

    def __init__(self, floor: float = 0.005):
        if not 0 <= floor < math.inf:
            raise ValueError(f"floor: expected a finite number of at least 0, got {floor}")
        self.floor = float(floor)

    def __call__(self, t: Tensor, c: Coefficients) -> Tensor:
        return (_natural(c) / c.alpha.clamp(min=self.floor)).sqrt()


def _natural(c: Coefficients) -> Tensor:
    """2 s W = 2 s^2 alpha' - 2 alpha s s', from products that are finite where the slopes alone are not."""
    slope = c.sigma * c.d_sigma + c.gamma_d_gamma
    return 2 * (c.noise_scale.square() * c.d_alpha - c.alpha * slope)


class Along:
    """g as a function of t alone: a diffusion coefficient along ``path``.

    >>> from pushforward.paths import Interpolant
    >>> Along(Proportional(0.5), Interpolant())(torch.tensor(0.75))
    tensor(0.5000)
    """

    def __init__(self, coefficient: DiffusionCoefficient, path: Path):
        self.coefficient, self.path = coefficient, path

    def __call__(self, t: Tensor) -> Tensor:
        return self.coefficient(t, self.path.coefficients(t))
