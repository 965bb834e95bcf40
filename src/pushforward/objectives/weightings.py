"""Weights of the loss by time.  All positive weights have the same best field."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..fields import Prediction
from ..paths import PathPoint


class Weighting(ABC):
    """The weight of the squared error of a prediction at each time."""

    #: whether the weight is infinite at t = 0 and at t = 1; objectives keep their times away from there
    open_ends: tuple[bool, bool] = (False, False)

    @abstractmethod
    def __call__(self, point: PathPoint, prediction: Prediction) -> Tensor:
        """Weights ``(B,)``, or broadcastable to ``(B, *event)``, of the errors at ``point``."""


class Equal(Weighting):
    """w = 1.

    >>> point = PathPoint(torch.tensor([0.1, 0.9]), torch.zeros(2, 1), (), None)
    >>> Equal()(point, "velocity")
    tensor([1., 1.])
    """

    def __call__(self, point: PathPoint, prediction: Prediction) -> Tensor:
        return torch.ones_like(point.t)


class Power(Weighting):
    """w = t^early (1 - t)^late; with a negative exponent the weight is infinite at that end.

    ``late=-2`` gives a data prediction on the linear path the loss of a velocity; ``early=1`` is the
    weight of Lee et al. 2024, arXiv 2405.20320, whose t runs the other way.  Raises ValueError for an
    exponent that is not finite.

    >>> point = PathPoint(torch.tensor([0.25, 0.5]), torch.zeros(2, 1), (), None)
    >>> Power(late=-1)(point, "velocity")
    tensor([1.3333, 2.0000])
    """

    def __init__(self, early: float = 0.0, late: float = 0.0):
        if not (math.isfinite(early) and math.isfinite(late)):
            raise ValueError(f"early, late: expected finite numbers, got {early} and {late}")
        self.early, self.late = float(early), float(late)
        self.open_ends = (early < 0, late < 0)

    def __call__(self, point: PathPoint, prediction: Prediction) -> Tensor:
        return point.t**self.early * (1 - point.t) ** self.late


class MinSNR(Weighting):
    """The weight min(SNR, gamma) of the squared error of the data, SNR = (alpha / s)^2, in any prediction.

    An error of the velocity is W / s times that of the data and an error of the noise is alpha / s times
    it, with W = s alpha' - alpha s', so that w = min(alpha^2, gamma s^2) / W^2 for the velocity,
    min(1, gamma / SNR) for noise and score and min(SNR, gamma) / (SNR + 1) for the v-prediction (Hang et
    al. 2023, arXiv 2303.09556, section 3.4).  Raises ValueError for
    a ``gamma`` that is not positive and for points of a path that is no interpolant.

    >>> from pushforward.paths import Interpolant
    >>> point = Interpolant().sample(torch.tensor([0.5, 0.9]), torch.zeros(2, 1), torch.ones(2, 1))
    >>> MinSNR()(point, "data").flatten()
    tensor([1., 5.])
    """

    def __init__(self, gamma: float = 5.0):
        if not 0 < gamma < math.inf:
            raise ValueError(f"gamma: expected a positive number, got {gamma}")
        self.gamma = float(gamma)

    def __call__(self, point: PathPoint, prediction: Prediction) -> Tensor:
        c = point.coefficients
        if c is None:
            raise ValueError("weighting: min-snr needs an interpolant, this path has no alpha and sigma")
        signal, noise = c.alpha.square(), c.noise_scale.square()
        if prediction == "velocity":
            wronskian = c.noise_scale * c.d_alpha - c.alpha * c.d_noise_scale
            return torch.minimum(signal, self.gamma * noise) / wronskian.square()
        if prediction == "data":
            return (signal / noise).clamp(max=self.gamma)
        if prediction == "v":
            return torch.minimum(signal, self.gamma * noise) / (signal + noise)
        return (self.gamma * noise / signal).clamp(max=1.0)
