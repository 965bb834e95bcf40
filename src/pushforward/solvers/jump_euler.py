"""Euler's method for jump processes."""

from __future__ import annotations

from torch import Tensor

from .jumps import JumpSolver


class JumpEuler(JumpSolver):
    """A token jumps to y with probability h rate(y), at most once a step: weak order 1.

    Where the probabilities of a token sum to more than 1 it jumps for sure.  Campbell et al. 2024, arXiv
    2402.04997, section 3.

    >>> import torch
    >>> from pushforward.solvers import Jump
    >>> decay = Jump(lambda t, x: torch.stack([torch.ones(x.shape), torch.zeros(x.shape)], -1))
    >>> start, generator = torch.ones(20000, 1, dtype=torch.int64), torch.Generator().manual_seed(0)
    >>> x = JumpEuler(steps=10).solve(decay, start, 0.0, 1.0, generator=generator).x
    >>> round(x.double().mean().item(), 2)
    0.35
    """

    redraws = False

    def chances(self, expected: Tensor) -> Tensor:
        return expected.sum(-1).clamp(max=1.0)
