"""Entropic optimal transport of many plans at once, at any regularisation."""

from __future__ import annotations

import math

from torch import Tensor

from .entropic import EntropicPlan
from .scaling import masses, scale


def sinkhorn(
    cost: Tensor,
    epsilon: float | Tensor,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    tolerance: float = 1e-3,
    max_iterations: int = 10_000,
    anneal: bool = True,
    relax: bool = True,
    init: tuple[Tensor, Tensor] | None = None,
) -> EntropicPlan:
    """min over plans P with marginals a and b of sum_ij P_ij C_ij + epsilon KL(P | a b^T).

    Arguments:
        cost: ``(*batch, n, m)``, float32 or float64, whose precision and device are used throughout.
        epsilon: a number or ``(*batch,)``, in the units of the cost.
        a, b: ``(*batch, n)`` and ``(*batch, m)`` or without batch, normalised here; None for equal masses.
        tolerance: when to stop, on the L1 error of the marginals of each plan.
        max_iterations: where to stop otherwise; rounded up to a multiple of 16.
        anneal: begin with a larger epsilon and lower it.  Not done where ``init`` is given.
        relax: over-relax the updates, as far as the observed rate of convergence suggests.
        init: potentials (f, g) to start from.

    Potentials are updated in the log domain (Peyré & Cuturi 2019, arXiv 1803.00567, section 4.4).  In
    between the updates are products with the kernel exp((f + g - C) / epsilon) taken at those potentials
    (Schmitzer 2019, arXiv 1610.06519), which costs a tenth and, since the kernel is absorbed again before
    it can under- or overflow, loses nothing.  Over-relaxation as in Lehmann et al. 2022, arXiv 2012.12562.

    No gradient flows through the plan.  Raises ValueError for a cost that is not finite or neither float32
    nor float64, an epsilon, tolerance or number of iterations that is not positive, and masses of a wrong
    shape, negative or without a sum.

    >>> import torch
    >>> plan = sinkhorn(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), epsilon=0.1)
    >>> plan.log_plan().exp()
    tensor([[4.9998e-01, 2.2699e-05],
            [2.2699e-05, 4.9998e-01]])
    """
    a, b = (normalised(mass, cost, axis, name) for mass, axis, name in ((a, -2, "a"), (b, -1, "b")))
    return scale(cost, epsilon, math.inf, a, b, tolerance, max_iterations, anneal, relax, init)


def normalised(mass: Tensor | None, cost: Tensor, axis: int, name: str) -> Tensor:
    """Masses that sum to 1, equal ones for None."""
    checked = masses(mass, cost, axis, name)
    return checked / checked.sum(-1, keepdim=True)
