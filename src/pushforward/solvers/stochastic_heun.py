"""Heun's method for additive noise."""

from __future__ import annotations

import torch
from torch import Tensor

from .sde import StochasticSolver
from .state import Evaluation


class StochasticHeun(StochasticSolver):
    """Heun's method with the same noise in both stages: weak order 2, two evaluations per step.

    y = x + h f(t, x) + w,   x' = x + h/2 (f(t, x) + f(t + h, y)) + w,   w = g(t + h/2) sqrt(h) xi

    For additive noise this is Platen's simplified scheme of weak order 2 (Kloeden & Platen 1992, doi
    10.1007/978-3-662-12616-5, section 15.1); its strong order is 1.  The second evaluation of the last step
    is at ``t1``: for a drift that is not defined there use :class:`EulerMaruyama`.

    >>> from pushforward.solvers import SDE
    >>> decay = SDE(lambda t, x: -x, diffusion=0.0)
    >>> StochasticHeun(steps=10).solve(decay, torch.ones(1, 1), 0.0, 1.0).x
    tensor([[0.3685]])
    """

    order = stages = evaluations = 2

    def step(self, drift: Evaluation, t: float, t_next: float, x: Tensor, increment: Tensor) -> Tensor:
        h = t_next - t
        (first,) = drift(t, (x,))
        (second,) = drift(t_next, (torch.add(x, first, alpha=h) + increment,))
        return torch.add(x, first + second, alpha=0.5 * h) + increment
