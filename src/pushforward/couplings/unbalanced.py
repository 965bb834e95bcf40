"""Minibatch optimal transport that may leave rows out, with a penalty."""

from __future__ import annotations

import torch
from torch import Tensor

from ..plans import Scaling, unbalanced
from ..plans.entropic import warn_of
from ..rows import Rows, both_sides, masses_of
from .base import Coupling, Pairing
from .sinkhorn import costs, figures, positive, spread


class UnbalancedOT(Coupling):
    """The entropic plan of the batch whose marginals may differ from the rows' masses, with penalty ``rho``.

    min over P >= 0 of sum P_ij |x0_i - x1_j|^2 + epsilon KL(P | a b^T) + rho KL(P 1 | a) + rho KL(P^T 1 | b)
    (Chizat et al. 2018, arXiv 1607.05816; for flows Eyring et al. 2024, arXiv 2311.15100).  Rows far from all
    others get less weight, so by design the pairs have *other marginals* than the data; a large rho gives the
    balanced plan.  As many pairs as the larger side has rows are drawn from the plan divided by its mass.

    With ``relative``, ``rho`` is in units of the mean cost of all pairs, and ``epsilon`` in units of the
    deviation of the costs as in :class:`SinkhornOT`; an offset of one side, which makes all costs large and
    nearly equal, then neither excludes rows nor blurs the plan.  Otherwise both are in the units of the cost.
    A row has the mass 1 / (number of rows), times its weight where it has one; weights of mean one keep the
    mass.  The plan is made in double precision.  ``info`` of a pairing holds the plan's ``mass`` and the
    figures of :class:`SinkhornOT`, whose warning it also gives.

    Raises ValueError for an epsilon, rho, tolerance or number of iterations that is not positive.

    >>> far = torch.tensor([[0.1], [100.0]])
    >>> UnbalancedOT(0.01, 0.1, relative=False).pair(torch.zeros(2, 1), far).indices[:, 1]
    tensor([0, 0])
    """

    def __init__(
        self,
        epsilon: float = 0.05,
        rho: float = 1.0,
        relative: bool = True,
        tolerance: float = 1e-3,
        max_iterations: int = 10_000,
    ):
        positive(epsilon=epsilon, rho=rho, tolerance=tolerance, max_iterations=max_iterations)
        self.epsilon, self.rho, self.relative = float(epsilon), float(rho), relative
        self.tolerance, self.max_iterations = float(tolerance), max_iterations
        self._warned = False

    def pair(
        self, source: Rows | Tensor, target: Rows | Tensor, generator: torch.Generator | None = None
    ) -> Pairing:
        source, target = both_sides(source, target)
        cost = costs(source, target)
        epsilon, rho = self.epsilon, self.rho
        if self.relative:
            a, b = (w if w is None else w.to(cost) for w in masses_of(source, target))
            mean = cost.mean(0) if a is None else a @ cost
            epsilon *= spread(source, target)
            rho *= float(mean.mean() if b is None else mean @ b) or 1.0
        a, b = (
            None if rows.weight is None else rows.weight.to(cost) / len(rows) for rows in (source, target)
        )
        plan = unbalanced(
            cost,
            epsilon,
            rho,
            a,
            b,
            scaling=Scaling(tolerance=self.tolerance, max_iterations=self.max_iterations),
        )
        self._warned = self._warned or warn_of(plan)
        info = {"mass": float(plan.mass()), **figures(plan[None])[0]}
        return Pairing(plan.pairs(max(cost.shape), generator), info=info)
