"""Minibatch optimal transport with the exact plan."""

from __future__ import annotations

import torch
from torch import Tensor

from ..plans import exact
from ..rows import Rows, both_sides, masses_of
from .base import Coupling, Pairing


class MinibatchOT(Coupling):
    """The exact optimal-transport plan of the batch for the cost |x0 - x1|^2.

    min over plans pi of sum_ij pi_ij |x0_i - x1_j|^2 (Tong et al. 2024, arXiv 2302.00482, section 3.2.3;
    Pooladian et al. 2023, arXiv 2304.14772).  With as many rows on both sides and no weights the plan is
    a permutation and is used as one: every row once, none twice.  Otherwise as many pairs as the larger
    side has rows are drawn from the plan.  Where rows have masks the cost counts the elements that both
    have.  Weights are relative: each side's are divided by their sum.  ``info["cost"]`` is the mean cost of
    the plan.

    Raises ValueError for weights that are negative, not finite or all zero, and rows that are not finite.

    >>> x0, x1 = MinibatchOT()(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.1], [0.1]]))
    >>> x1.squeeze()
    tensor([0.1000, 1.1000])
    """

    def pair(
        self, source: Rows | Tensor, target: Rows | Tensor, generator: torch.Generator | None = None
    ) -> Pairing:
        source, target = both_sides(source, target)
        plan = exact(source.x, target.x, *masses_of(source, target), source.mask, target.mask)
        count = max(len(source), len(target))
        return Pairing(plan.pairs(count, generator), info={"cost": plan.cost})
