"""Stein variational gradient descent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..nn.checks import check_number
from ..solvers import ODE
from .energies import Energy


def stein(energy: Energy, bandwidth: float | None = None) -> ODE:
    r"""The ODE of particles ``(n, d)`` that moves them to exp(-V) without noise, as one coupled system.

    .. math:: \dot x_i = \frac1n \sum_j k(x_j, x_i) f(x_j) + D \nabla_{x_j} k(x_j, x_i)

    with f the force and D the diffusion of ``energy``, and k(x, y) = exp(-\|x - y\|^2 / (2 b^2)) (Liu & Wang
    2016, arXiv 1608.04471).  It is the gradient flow of the energy under another metric; particles spread out
    by repelling each other.  Any solver of ODEs solves it.

    bandwidth: b; by default at each time median distance / sqrt(2 log(n + 1)).

    >>> from pushforward import Normal
    >>> from pushforward.gradient_flows import kullback_leibler
    >>> from pushforward.solvers import Heun
    >>> start = 3 + torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    >>> x = Heun(steps=400).solve(stein(kullback_leibler(Normal(1).log_prob)), start, 0.0, 80.0).x
    >>> abs(x.mean().item()) < 0.05, abs(x.var().item() - 1) < 0.2
    (True, True)
    """
    if bandwidth is not None:
        check_number("bandwidth", bandwidth, 0)

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        n = len(x)
        differences = x[:, None] - x  # (i, j, d)
        squares = differences.square().sum(2)
        if bandwidth is None:
            width = squares.flatten().median() / (2 * math.log(n + 1)) if n > 1 else squares.new_ones(())
            width = torch.where(width > 0, width, 1.0)
        else:
            width = squares.new_full((), bandwidth**2)
        kernel = (-squares / (2 * width)).exp()
        apart = (kernel[:, :, None] * differences).sum(1) / width
        return (kernel @ energy.force(x) + energy.diffusion * apart) / n

    return ODE(velocity, batched=False)
