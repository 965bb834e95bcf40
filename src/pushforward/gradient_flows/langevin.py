"""Langevin dynamics."""

from __future__ import annotations

import math

from ..solvers import SDE
from .energies import Energy


def langevin(energy: Energy) -> SDE:
    """dX = force(X) dt + sqrt(2 D) dW: the gradient flow of ``energy`` seen from particles ``(n, d)``.

    D is its diffusion.  With an interaction each particle feels all others of the batch.

    >>> import torch
    >>> from pushforward import Normal
    >>> from pushforward.gradient_flows import kullback_leibler
    >>> from pushforward.solvers import EulerMaruyama
    >>> problem, start = langevin(kullback_leibler(Normal(1).log_prob)), torch.full((4000, 1), 3.0)
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = EulerMaruyama(steps=200).solve(problem, start, 0.0, 4.0, generator=generator).x
    >>> abs(x.mean().item() - 3 * 2.718 ** -4) < 0.06, abs(x.var().item() - 1) < 0.1
    (True, True)
    """
    return SDE(lambda t, x: energy.force(x), math.sqrt(2 * energy.diffusion))
