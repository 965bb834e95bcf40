"""Figures about transport plans."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tensors import takes_arrays


@takes_arrays
def plan_entropy(plan: Tensor, log: bool = False) -> Tensor:
    """H(j | i) / H(j) of plans P ``(*batch, n, m)``: 0 for a permutation, 1 for independent rows.

    Of shape ``(*batch,)``, float64.  For n = m and equal masses this is H(P) / log n - 1, where
    H(P) = -sum_ij P_ij log P_ij.  ``log`` says that log P is given.  Plans are divided by their sums; plans
    of a single column give 0.

    Raises ValueError for plans that are not matrices, are negative, not finite or all zero.

    >>> plan_entropy(torch.eye(3)), plan_entropy(torch.ones(3, 3))
    (tensor(0., dtype=torch.float64), tensor(1., dtype=torch.float64))
    """
    if plan.ndim < 2 or 0 in plan.shape[-2:]:
        raise ValueError(f"plan: expected (..., n, m), got shape {tuple(plan.shape)}")
    mass = plan.detach().double()
    if log:
        # the largest entry is taken off first: what the plan is divided by later may well underflow
        mass = (mass - mass.amax((-2, -1), keepdim=True)).exp()
    total = mass.sum((-2, -1), keepdim=True)
    if not bool((mass >= 0).all() & total.isfinite().all() & (total > 0).all()):
        raise ValueError("plan: expected finite non-negative masses with a positive sum")
    mass = mass / total
    rows, columns = torch.special.entr(mass.sum(-1)).sum(-1), torch.special.entr(mass.sum(-2)).sum(-1)
    within = torch.special.entr(mass).sum((-2, -1)) - rows
    return torch.where(columns > 0, within / columns, 0.0).clamp(0.0, 1.0)
