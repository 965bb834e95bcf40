"""The interpolant x_t = alpha x1 + sigma x0 + gamma z, which covers most of the literature."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import random
from ..tensors import expand_time
from .base import Coefficients, End, Path, PathPoint
from .gammas import Constant, Gamma
from .schedules import Linear, Schedule


class Interpolant(Path):
    """x_t = alpha(t) x1 + sigma(t) x0 + gamma(t) z with z ~ N(0, I).

    Its velocity is dx_t/dt = alpha' x1 + sigma' x0 + gamma' z (Albergo et al. 2023, arXiv 2303.08797,
    definition 1).  ``gamma`` may be a number, meaning a constant.

    >>> point = Interpolant().sample(torch.tensor([0.0, 0.5]), torch.zeros(2, 3), torch.ones(2, 3))
    >>> point.x[:, 0], point.velocity[:, 0]
    (tensor([0.0000, 0.5000]), tensor([1., 1.]))
    """

    def __init__(self, schedule: Schedule | None = None, gamma: Gamma | float = 0.0):
        super().__init__()
        self.schedule = schedule or Linear()
        self.gamma = gamma if isinstance(gamma, Gamma) else Constant(gamma)
        self.noisy = not (isinstance(self.gamma, Constant) and self.gamma.value == 0)

    def coefficients(self, t: Tensor) -> Coefficients:
        """All coefficients at ``t``, shaped like ``t``."""
        return Coefficients(*self.schedule(t), *self.gamma(t))

    def sample(self, t: Tensor, *points: Tensor, generator: torch.Generator | None = None) -> PathPoint:
        x0, x1 = points
        c = self.coefficients(expand_time(t, x1))
        x = torch.addcmul(c.alpha * x1, c.sigma, x0)
        velocity = torch.addcmul(c.d_alpha * x1, c.d_sigma, x0)
        z = None
        if self.noisy:
            z = random.normal(x1.shape, generator, x1.dtype, x1.device)
            x = x + c.gamma * z
            d_gamma = torch.where(c.gamma_d_gamma == 0, 0.0, c.gamma_d_gamma / c.gamma)
            velocity = velocity + d_gamma * z
        return PathPoint(t, x, (x0, x1), velocity, z, c)

    def ends(self) -> tuple[End, End]:
        t = torch.tensor([0.0, 1.0], dtype=torch.float64)
        c = self.coefficients(t)
        start, stop = (End(*(float(value[i]) for value in (c.sigma, c.alpha, c.gamma))) for i in range(2))
        return start, stop
