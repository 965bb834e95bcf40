"""Bits per dimension."""

from __future__ import annotations

import math

from torch import Tensor


def bits_per_dim(log_prob: Tensor | float, size: int, step: float = 1.0) -> Tensor | float:
    """-(log_prob + size log step) / (size log 2): bits that coding one element takes.

    ``log_prob`` in nats and data units, of events with ``size`` elements that are whole multiples of
    ``step``; from a lower bound on log_prob follows an upper bound.  Theis et al. 2016, arXiv 1511.01844.

    >>> bits_per_dim(-64 * math.log(16.0), size=64)
    4.0
    """
    if size < 1 or not step > 0:
        raise ValueError(f"size, step: expected positive numbers, got {size} and {step}")
    return -(log_prob + size * math.log(step)) / (size * math.log(2))
