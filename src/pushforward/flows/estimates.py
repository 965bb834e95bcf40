"""Log-densities that are estimates, with their standard errors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..nn.checks import check_count
from ..tensors import Condition
from .base import DensityFlow


def log_prob_and_error(
    flow: DensityFlow,
    x: Tensor,
    draws: int = 8,
    condition: Condition | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The mean of ``draws`` estimates of ``flow.log_prob(x)``, and the standard error of each mean.

    Each draw has new noise and is a solve of its own.  With steps that do not depend on the noise, those of a
    solver of fixed steps, the mean is an unbiased estimate of the log-density.  Its exponential is not one of
    the density: it is too large, by a factor of about 1 + error^2 / 2.  For an exact density the error is
    zero and there is one draw; of a bound it is the mean of the bound, which :func:`multi_sample_bound` makes
    tighter.

    Raises ValueError for fewer than two draws, and for a flow without a density.

    >>> from pushforward.flows import ContinuousFlow, Hutchinson
    >>> from pushforward.sources import Normal
    >>> flow = ContinuousFlow(lambda t, x: -x, source=Normal(2), divergence=Hutchinson())
    >>> mean, error = log_prob_and_error(flow, torch.zeros(1, 2), generator=torch.Generator().manual_seed(0))
    >>> mean.round(decimals=3), error.round(decimals=3)
    (tensor([0.1620]), tensor([0.]))
    """
    check_count("draws", draws, 2)
    if flow.density == "exact":
        exact = flow.log_prob(x, condition, generator)
        return exact, torch.zeros_like(exact)
    found = torch.stack([flow.log_prob(x, condition, generator) for _ in range(draws)])
    return found.mean(0), found.std(0) / math.sqrt(draws)
