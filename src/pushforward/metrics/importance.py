"""Importance weights: the estimate of a normaliser, and the quality of the proposal."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..tensors import takes_arrays


@dataclass(frozen=True)
class Importance:
    """log_evidence: log mean_i w_i, in nats.  error: its standard error.  share: the effective sample size
    as a share of the draws, 1 where all weights are equal."""

    log_evidence: float
    error: float
    share: float


@takes_arrays
def importance(log_weights: Tensor) -> Importance:
    """Evidence and effective sample size from log w_i = log p~(x_i) - log q(x_i) ``(n,)``, x_i drawn from q.

    The mean of w is an unbiased estimate of the normaliser of p~; the effective sample size is
    (sum w)^2 / sum w^2 (Kong 1992; see Agapiou et al. 2017, arXiv 1511.06196), and the standard error of the
    logarithm sqrt((1/share - 1)/n), to first order.  Neither shows a mode that q never visits.

    Raises ValueError for anything but one row of at least two numbers, none nan or +inf, not all -inf.

    >>> import torch
    >>> importance(torch.zeros(4))
    Importance(log_evidence=0.0, error=0.0, share=1.0)
    """
    if log_weights.ndim != 1 or len(log_weights) < 2:
        raise ValueError(f"log_weights: expected shape (n,) with n > 1, got {tuple(log_weights.shape)}")
    log_w = log_weights.detach().double()
    if bool(log_w.isnan().any()) or not bool(log_w.max().isfinite()):
        raise ValueError("log_weights: expected numbers below infinity, not all of them -inf")
    n = len(log_w)
    total, squares = float(log_w.logsumexp(0)), float((2 * log_w).logsumexp(0))
    share = min(1.0, math.exp(2 * total - squares) / n)
    return Importance(total - math.log(n), math.sqrt(max(0.0, 1 / share - 1) / n), share)
