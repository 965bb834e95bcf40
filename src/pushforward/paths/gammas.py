"""Noise levels gamma of an interpolant, value and derivative together."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a positive number, got {value}")
    return float(value)


class Gamma(ABC):
    """The deviation gamma(t) of noise added to an interpolant."""

    #: the diffusion, of a Brownian bridge
    bridge: float | None = None

    @abstractmethod
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(gamma, dgamma/dt, gamma * dgamma/dt), each shaped like ``t``; the product is finite even where
        dgamma/dt is not."""


class Constant(Gamma):
    """gamma = value at every t: the probability path of I-CFM (Tong et al. 2024, arXiv 2302.00482, eq. 14).

    The path then starts at x0 + gamma z and ends at x1 + gamma z, which :meth:`Interpolant.ends` states.
    Raises ValueError for a negative value.

    >>> Constant(0.1)(torch.tensor(0.5))
    (tensor(0.1000), tensor(0.), tensor(0.))
    """

    def __init__(self, value: float = 0.0):
        if not 0 <= value < math.inf:
            raise ValueError(f"gamma: expected a number >= 0, got {value}")
        self.value = float(value)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        zero = torch.zeros_like(t)
        return torch.full_like(t, self.value), zero, zero


class Brownian(Gamma):
    """gamma = sigma sqrt(t (1 - t)): a Brownian bridge of diffusion ``sigma`` between the points of a pair.

    Its slope is infinite at both ends, gamma * dgamma/dt = sigma^2 (1 - 2t) / 2 is not (Albergo et al. 2023,
    arXiv 2303.08797, where sigma^2 is called a; Tong et al. 2024, arXiv 2307.03672).  Raises ValueError for
    a ``sigma`` that is not positive.

    >>> Brownian(2.0)(torch.tensor(0.0))
    (tensor(0.), tensor(inf), tensor(2.))
    """

    def __init__(self, sigma: float = 1.0):
        self.sigma = self.bridge = _positive("sigma", sigma)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gamma = self.sigma * (t * (1 - t)).sqrt()
        product = 0.5 * self.sigma**2 * (1 - 2 * t)
        return gamma, product / gamma, product


class Quadratic(Gamma):
    """gamma = scale t (1 - t), of finite slope everywhere (Albergo et al. 2023, arXiv 2303.08797).

    Raises ValueError for a ``scale`` that is not positive.

    >>> Quadratic(4.0)(torch.tensor(0.5))
    (tensor(1.), tensor(0.), tensor(0.))
    """

    def __init__(self, scale: float = 1.0):
        self.scale = _positive("scale", scale)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gamma, slope = self.scale * t * (1 - t), self.scale * (1 - 2 * t)
        return gamma, slope, gamma * slope


class SineSquared(Gamma):
    """gamma = scale sin^2(pi t), of slope 0 at both ends (Albergo et al. 2023, arXiv 2303.08797).

    Raises ValueError for a ``scale`` that is not positive.

    >>> SineSquared()(torch.tensor([0.5, 1.0]))[0]
    tensor([1., 0.])
    """

    def __init__(self, scale: float = 1.0):
        self.scale = _positive("scale", scale)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # measured from the nearer end, so that the sine is 0 at t = 1 too in spite of a rounded pi
        sine = (math.pi * torch.minimum(t, 1 - t)).sin()
        gamma = self.scale * sine.square()
        slope = 2 * math.pi * self.scale * sine * (math.pi * t).cos()
        return gamma, slope, gamma * slope
