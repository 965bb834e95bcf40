"""Entropic transport with a penalty for wrong marginals."""

from __future__ import annotations

import math

from torch import Tensor

from .entropic import EntropicPlan, warn_of
from .scaling import Scaling, masses, scale


def unbalanced(
    cost: Tensor,
    epsilon: float | Tensor,
    rho: float,
    a: Tensor | None = None,
    b: Tensor | None = None,
    scaling: Scaling = Scaling(),  # noqa: B008 - it is frozen
) -> EntropicPlan:
    """min over P >= 0 of sum P_ij C_ij + epsilon KL(P | a b^T) + rho KL(P 1 | a) + rho KL(P^T 1 | b).

    Chizat et al. 2018, arXiv 1607.05816, table 1: each update of a potential is multiplied by rho / (rho +
    epsilon).  ``a`` and ``b`` are used as they are, with whatever sums they have; None means equal masses
    of sum 1.  Two points of masses a and b at the cost C keep (a b)^((rho + epsilon) / (2 rho + epsilon))
    exp(-C / (2 rho + epsilon)) of it.  The remaining arguments, shapes and errors are those of
    :func:`sinkhorn`; raises ValueError for a rho that is not positive and finite.

    >>> import torch
    >>> plan = unbalanced(torch.tensor([[0.0, 9.0], [9.0, 0.0]]), epsilon=0.1, rho=1.0)
    >>> plan.mass()
    tensor(0.9675)
    """
    if not 0 < rho < math.inf:
        raise ValueError(f"rho: expected a positive finite number, got {rho}")
    a, b = masses(a, cost, -2, "a"), masses(b, cost, -1, "b")
    plan = scale(cost, epsilon, rho, a, b, scaling)
    if scaling.max_iterations is None:
        warn_of(plan)
    return plan
