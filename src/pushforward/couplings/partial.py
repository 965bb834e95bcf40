"""Minibatch optimal transport of a part of the rows."""

from __future__ import annotations

import torch
from torch import Tensor

from ..plans.partial import partial
from ..rows import Rows, both_sides, masses_of
from .base import Coupling, Pairing
from .sinkhorn import costs


class PartialOT(Coupling):
    """The exact plan that transports the share ``mass`` of the batch at the least cost |x0 - x1|^2.

    min over P >= 0 of sum ``mass`` with P 1 <= a, P^T 1 <= b (Chapel et al. 2020, arXiv 2002.08276).  Only
    the matched rows are paired: round(mass n) of them for n rows on the smaller side, none twice.  Rows far
    from all others, such as outliers, are left out, so by design the pairs have *other marginals* than the
    data.  With weights, normalised on each side, as many pairs are drawn from the plan.  ``info`` holds the
    ``cost`` per unit of transported mass and the ``mass``.

    Raises ValueError for a mass outside (0, 1], weights that cannot be used and rows that are not finite.

    >>> source, target = torch.tensor([[0.0], [1.0]]), torch.tensor([[50.0], [1.1]])
    >>> PartialOT(0.5).pair(source, target).indices
    tensor([[1, 1]])
    """

    def __init__(self, mass: float = 0.9):
        if not 0 < mass <= 1:
            raise ValueError(f"mass: expected a share above 0 and at most 1, got {mass}")
        self.mass = float(mass)

    def pair(
        self, source: Rows | Tensor, target: Rows | Tensor, generator: torch.Generator | None = None
    ) -> Pairing:
        source, target = both_sides(source, target)
        cost = costs(source, target)
        a, b = masses_of(source, target)
        plan = partial(cost, self.mass, a, b)
        info = {"cost": plan.cost, "mass": self.mass}
        if a is None and b is None:
            return Pairing(torch.stack([plan.rows, plan.columns], 1), info=info)
        count = max(1, round(self.mass * min(cost.shape)))
        return Pairing(plan.pairs(count, generator), info=info)
