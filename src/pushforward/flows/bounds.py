"""Tighter bounds on the log-probability of discrete data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..tensors import Condition
from .base import DensityFlow


def multi_sample_bound(
    flow: DensityFlow,
    x: Tensor,
    samples: int,
    condition: Condition | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """log 1/k sum_j exp(l_j) over k = ``samples`` draws l_j of ``flow.log_prob(x)``, shaped like one of them.

    Where ``flow.density`` is a bound because it dequantises, each l_j is the log-density at a random point of
    the cell that x stands for; the mean of densities over k points is in expectation a lower bound on the
    log-probability of the cell; it rises with k and converges to it (Burda et al. 2016, arXiv 1509.00519,
    theorem 1; Ho et al. 2019, arXiv 1902.00275, eq. 7).  For an exact density it is the density.

    The densities of a :class:`LatentFlow` are importance weights, which may be averaged too.

    Raises ValueError for fewer than one sample, and for more of a model whose log_prob is a bound for other
    reasons, such as a variational autoencoder, which has importance weights of its own, or is an estimate:
    the mean of exponentials of estimates is too large, and no bound.

    >>> from pushforward.bijections import Chain
    >>> from pushforward.sources import Normal
    >>> from pushforward.flows import BijectiveFlow
    >>> multi_sample_bound(BijectiveFlow(Chain(), Normal(2)), torch.zeros(1, 2), 5)
    tensor([-1.8379])
    """
    if samples < 1:
        raise ValueError(f"samples: expected at least 1, got {samples}")
    if samples > 1 and not (flow.core.invertible or flow.core.unbiased):
        kind = type(flow.core).__name__
        raise ValueError(f"samples: expected 1 for a {kind}, which only bounds its density, got {samples}")
    if samples > 1 and flow.core.density == "estimate":
        raise ValueError(
            f"samples: expected 1 with a divergence that is an estimate, got {samples}; take an exact one"
        )
    count = samples if flow.density == "bound" else 1
    draws = torch.stack([flow.log_prob(x, condition, generator) for _ in range(count)])
    return draws.logsumexp(0) - math.log(count)
