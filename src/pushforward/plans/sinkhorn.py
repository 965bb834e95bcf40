"""Entropic optimal transport of many plans at once, also at a small regularisation."""

from __future__ import annotations

import math

from torch import Tensor

from .entropic import EntropicPlan, warn_of
from .scaling import Scaling, check_sums, masses, scale


def sinkhorn(
    cost: Tensor,
    epsilon: float | Tensor,
    a: Tensor | None = None,
    b: Tensor | None = None,
    scaling: Scaling = Scaling(),  # noqa: B008 - it is frozen
) -> EntropicPlan:
    """min over plans P with marginals a and b of sum_ij P_ij C_ij + epsilon KL(P | a b^T).

    Arguments:
        cost: ``(*batch, n, m)``, float32 or float64, whose precision and device are used throughout.
        epsilon: a number or ``(*batch,)``, in the units of the cost.
        a, b: ``(*batch, n)`` and ``(*batch, m)`` or without batch, of equal sums, which they are divided
            by; None for equal masses.
        scaling: how the potentials are found, and when the search stops.

    Potentials are updated in the log domain (Peyré & Cuturi 2019, arXiv 1803.00567, section 4.4).  In
    between the updates are products with the kernel exp((f + g - C) / epsilon) taken at those potentials
    (Schmitzer 2019, arXiv 1610.06519), which costs a tenth and, since the kernel is absorbed again before
    it can under- or overflow, loses nothing.  Over-relaxation as in Lehmann et al. 2022, arXiv 2012.12562.

    The number of updates grows as epsilon falls, about as range(C) / epsilon where rows and columns differ
    in number; below 1e-5 of the range the exact plan is the better choice.

    No gradient flows through the plan.  Raises ValueError for a cost that is not finite or neither float32
    nor float64, an epsilon that is not positive, and masses of a wrong
    shape, negative, without a sum or of unequal sums.

    >>> import torch
    >>> plan = sinkhorn(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), epsilon=0.1)
    >>> plan.log_plan().exp()
    tensor([[4.9998e-01, 2.2699e-05],
            [2.2699e-05, 4.9998e-01]])
    """
    given = a is not None and b is not None
    a, b = masses(a, cost, -2, "a"), masses(b, cost, -1, "b")
    if given:
        check_sums(a, b)
    a, b = (mass / mass.sum(-1, keepdim=True) for mass in (a, b))
    plan = scale(cost, epsilon, math.inf, a, b, scaling)
    if scaling.max_iterations is None:
        warn_of(plan)
    return plan
