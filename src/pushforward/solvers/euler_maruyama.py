"""The Euler-Maruyama method."""

from __future__ import annotations

import torch
from torch import Tensor

from .sde import StochasticSolver
from .state import Evaluation


class EulerMaruyama(StochasticSolver):
    """The Euler-Maruyama method: one evaluation per step, never at the end of the interval.

    x' = x + h f(t, x) + g(t + h/2) sqrt(h) xi,  xi ~ N(0, I)

    Maruyama 1955, doi 10.1007/BF02846028.  For additive noise both its strong and its weak order are 1
    (Kloeden & Platen 1992, doi 10.1007/978-3-662-12616-5, sections 10.2 and 14.1).

    >>> from pushforward.solvers import SDE
    >>> decay = SDE(lambda t, x: -x, diffusion=0.0)
    >>> EulerMaruyama(steps=10).solve(decay, torch.ones(1, 1), 0.0, 1.0).x
    tensor([[0.3487]])
    """

    order = stages = evaluations = 1

    def step(self, drift: Evaluation, t: float, t_next: float, x: Tensor, increment: Tensor) -> Tensor:
        (slope,) = drift(t, (x,))
        return torch.add(x, slope, alpha=t_next - t) + increment
