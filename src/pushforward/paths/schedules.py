"""Schedules (alpha, sigma) of an interpolant, value and derivative together."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Schedule(ABC):
    """The weights of target and source: x_t = alpha(t) x1 + sigma(t) x0."""

    @abstractmethod
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(alpha, sigma, dalpha/dt, dsigma/dt), each shaped like ``t``."""


class Linear(Schedule):
    """alpha = t, sigma = 1 - t: straight lines at constant speed (CondOT).

    Lipman et al. 2023, arXiv 2210.02747, eq. 20 with sigma_min = 0; Liu et al. 2023, arXiv 2209.03003.

    >>> Linear()(torch.tensor(0.25))
    (tensor(0.2500), tensor(0.7500), tensor(1.), tensor(-1.))
    """

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        one = torch.ones_like(t)
        return t, 1 - t, one, -one
