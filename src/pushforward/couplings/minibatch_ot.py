"""Minibatch optimal transport with the exact plan."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..plans import exact
from ..plans.cost import check_table, hamming_distances
from ..plans.exact import FEWER, exact_of_costs
from ..rows import Rows, both_sides, masses_of
from .base import Coupling, Pairing

#: What a pair costs.
Cost = Literal["squared", "hamming"]


class MinibatchOT(Coupling):
    """The exact optimal-transport plan of the batch for the cost |x0 - x1|^2, or another.

    min over plans pi of sum_ij pi_ij |x0_i - x1_j|^2 (Tong et al. 2024, arXiv 2302.00482, section 3.2.3;
    Pooladian et al. 2023, arXiv 2304.14772).  With as many rows on both sides and no weights the plan is
    a permutation and is used as one: every row once, none twice.  Otherwise as many pairs as the larger
    side has rows are drawn from the plan.  Where rows have masks the cost counts the elements that both
    have.  Weights are relative: each side's are divided by their sum.  ``info["cost"]`` is the mean cost of
    the plan.

    cost: "squared", or "hamming", the number of elements that differ, for tokens.

    Raises ValueError for another cost, weights that are negative, not finite or all zero, and rows that are
    not finite.

    >>> x0, x1 = MinibatchOT()(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.1], [0.1]]))
    >>> x1.squeeze()
    tensor([0.1000, 1.1000])
    """

    def __init__(self, cost: Cost = "squared"):
        if cost not in get_args(Cost):
            raise ValueError(f"cost: expected one of {', '.join(get_args(Cost))}, got {cost!r}")
        self.cost: Cost = cost

    @classmethod
    def of_tokens(cls) -> dict[str, Any] | None:
        return {"cost": "hamming"}

    def pair(
        self, source: Rows | Tensor, target: Rows | Tensor, generator: torch.Generator | None = None
    ) -> Pairing:
        source, target = both_sides(source, target)
        masses, masks = masses_of(source, target), (source.mask, target.mask)
        if self.cost == "squared":
            plan = exact(source.x, target.x, *masses, *masks)
        else:
            check_table("source, target", len(source), len(target), FEWER)
            plan = exact_of_costs(hamming_distances(source.x, target.x, *masks), *masses)
        count = max(len(source), len(target))
        return Pairing(plan.pairs(count, generator), info={"cost": plan.cost})
