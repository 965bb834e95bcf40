"""Tau-leaping, with one jump of a token a step."""

from __future__ import annotations

from torch import Tensor

from .jumps import JumpSolver


class TauLeaping(JumpSolver):
    r"""A token jumps in a step of length h with probability 1 - exp(-\Lambda), \Lambda the expected number of
    its jumps.

    Jumps of a token are a Poisson process whose rates are those at the beginning of the step, and the token
    goes where the first one leads.  For processes of redraws a step is exact where the prediction stays as
    it is (Gillespie 2001, doi 10.1063/1.1378322; Campbell et al. 2022, arXiv 2205.14987;
    Gat et al. 2024, arXiv 2407.15595).

    >>> import torch
    >>> from pushforward.solvers import Jump
    >>> decay = Jump(lambda t, x: torch.stack([torch.ones(x.shape), torch.zeros(x.shape)], -1))
    >>> start, generator = torch.ones(20000, 1, dtype=torch.int64), torch.Generator().manual_seed(0)
    >>> x = TauLeaping(steps=10).solve(decay, start, 0.0, 1.0, generator=generator).x
    >>> round(x.double().mean().item(), 2)
    0.37
    """

    def chances(self, expected: Tensor) -> Tensor:
        return -(-expected.sum(-1)).expm1()
