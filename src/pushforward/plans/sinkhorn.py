"""Entropic optimal transport of many plans at once, also at a small regularisation."""

from __future__ import annotations

import math

from torch import Tensor

from .entropic import EntropicPlan, warn_of
from .scaling import check_sums, masses, scale


def sinkhorn(
    cost: Tensor,
    epsilon: float | Tensor,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    anneal: bool = True,
    relax: bool = True,
    init: tuple[Tensor, Tensor] | None = None,
) -> EntropicPlan:
    """min over plans P with marginals a and b of sum_ij P_ij C_ij + epsilon KL(P | a b^T).

    Arguments:
        cost: ``(*batch, n, m)``, float32 or float64, whose precision and device are used throughout.
        epsilon: a number or ``(*batch,)``, in the units of the cost.
        a, b: ``(*batch, n)`` and ``(*batch, m)`` or without batch, of equal sums, which they are divided
            by; None for equal masses.
        tolerance: when to stop, on the L1 error of the marginals of each plan.  The mean cost may then be
            off by this share of the range of the costs.  None: 1e-3, and 1e-4 for an epsilon below a
            thousandth of the range, where the mean cost is a small part of it.
        max_iterations: where to stop otherwise; rounded up to a multiple of 16.  None: after 10,000, with a
            UserWarning; a given limit is left to the caller, who sees ``converged``.
        anneal: begin with a larger epsilon and lower it.  Not done where ``init`` is given.
        relax: over-relax the updates, as far as the observed rate of convergence suggests.
        init: potentials (f, g) to start from.

    Potentials are updated in the log domain (Peyré & Cuturi 2019, arXiv 1803.00567, section 4.4).  In
    between the updates are products with the kernel exp((f + g - C) / epsilon) taken at those potentials
    (Schmitzer 2019, arXiv 1610.06519), which costs a tenth and, since the kernel is absorbed again before
    it can under- or overflow, loses nothing.  Over-relaxation as in Lehmann et al. 2022, arXiv 2012.12562.

    The number of updates grows as epsilon falls, about as range(C) / epsilon where rows and columns differ
    in number; below 1e-5 of the range the exact plan is the better choice.

    No gradient flows through the plan.  Raises ValueError for a cost that is not finite or neither float32
    nor float64, an epsilon, tolerance or number of iterations that is not positive, and masses of a wrong
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
    plan = scale(cost, epsilon, math.inf, a, b, tolerance, max_iterations, anneal, relax, init)
    if max_iterations is None:
        warn_of(plan)
    return plan
