"""Noise levels gamma of an interpolant."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Gamma(ABC):
    """The deviation gamma(t) of noise added to an interpolant."""

    @abstractmethod
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(gamma, gamma * dgamma/dt), each shaped like ``t``; the product is finite even where
        dgamma/dt is not."""


class Constant(Gamma):
    """gamma = value at every t: the probability path of I-CFM (Tong et al. 2024, arXiv 2302.00482, eq. 14).

    The path then starts at x0 + gamma z and ends at x1 + gamma z, which :meth:`Interpolant.ends` states.
    Raises ValueError for a negative value.

    >>> Constant(0.1)(torch.tensor(0.5))
    (tensor(0.1000), tensor(0.))
    """

    def __init__(self, value: float = 0.0):
        if not value >= 0:
            raise ValueError(f"gamma: expected a number >= 0, got {value}")
        self.value = float(value)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(t, self.value), torch.zeros_like(t)
