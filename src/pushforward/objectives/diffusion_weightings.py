"""Weights of the loss that diffusion models ask for: of the likelihood, and of EDM."""

from __future__ import annotations

import math
from abc import abstractmethod

from torch import Tensor

from ..fields import Prediction, divisor
from ..paths import Coefficients, PathPoint
from .weightings import Weighting


class _OfAnyPrediction(Weighting):
    """The same loss in any prediction: its errors over their divisors are equal, see :func:`divisor`."""

    open_ends = (True, True)

    def __call__(self, point: PathPoint, prediction: Prediction) -> Tensor:
        c = point.coefficients
        if c is None:
            raise ValueError("weighting: needs an interpolant, this path has no alpha and sigma")
        return self.of_error(c) / divisor(prediction, c).square()

    @abstractmethod
    def of_error(self, c: Coefficients) -> Tensor:
        """The weight of the square of an error over its divisor, ``(B,)`` or ``(B, 1, ..., 1)``."""


class LikelihoodWeighting(_OfAnyPrediction):
    """Half the squared diffusion coefficient g^2 on the squared error of the score, in any prediction.

    The integral over [0, 1] of the summed errors then bounds the negative log-likelihood, up to a constant
    (Song et al. 2021, arXiv 2101.09258, theorem 1; see :func:`~pushforward.flows.nll_bound`).  With W = s
    alpha' - alpha s' the diffusion of which the path is the reverse has g^2 = 2 s W / alpha, so that w = W /
    (alpha s) for the noise, half the slope of log(alpha^2 / s^2).  The weight is infinite where alpha or s
    is 0; times uniform in that logarithm, :class:`UniformLogSNR`, and equal weights are the same loss
    with less variance.  Raises ValueError for points of a path that is no interpolant.

    >>> from pushforward.paths import Interpolant
    >>> import torch
    >>> point = Interpolant().sample(torch.tensor([0.5, 0.9]), torch.zeros(2, 1), torch.ones(2, 1))
    >>> LikelihoodWeighting()(point, "noise").flatten()
    tensor([ 4.0000, 11.1111])
    """

    def of_error(self, c: Coefficients) -> Tensor:
        return divisor("velocity", c) * c.alpha / c.noise_scale


class KarrasWeighting(_OfAnyPrediction):
    """(sigma^2 + sigma_data^2) / (sigma sigma_data)^2 on the squared error of the data, sigma = s / alpha.

    With it the loss is 1 at every t for a network that has learnt nothing but the variance sigma_data^2 of
    the data (Karras et al. 2022, arXiv 2206.00364, table 1).  For data of unit variance it is the loss of a
    v-prediction with equal weights.  Raises ValueError for a ``sigma_data`` that is not positive and for
    points of a path that is no interpolant.

    >>> from pushforward.paths import Interpolant
    >>> import torch
    >>> point = Interpolant().sample(torch.tensor([0.5, 0.8]), torch.zeros(2, 1), torch.ones(2, 1))
    >>> KarrasWeighting()(point, "data").flatten(), KarrasWeighting()(point, "v").flatten()
    (tensor([ 2.0000, 17.0000]), tensor([1.0000, 1.0000]))
    """

    def __init__(self, sigma_data: float = 1.0):
        if not 0 < sigma_data < math.inf:
            raise ValueError(f"sigma_data: expected a positive number, got {sigma_data}")
        self.sigma_data = float(sigma_data)

    def of_error(self, c: Coefficients) -> Tensor:
        return c.alpha.square() + (c.noise_scale / self.sigma_data).square()
