"""Pairs that are given."""

from __future__ import annotations

import torch
from torch import Tensor

from ..rows import Rows, both_sides
from .base import Coupling, Pairing


class GivenPairs(Coupling):
    """Row i of the source goes with row i of the target, over two whole data sets of ``count`` rows.

    For data that come in pairs, and for the starts and ends of a flow in reflow (Liu et al. 2023, arXiv
    2209.03003, algorithm 1).  Trainers take pairs from its :attr:`pairing` in random orders.  Raises
    ValueError for a count below 1 and data sets of other lengths.

    >>> GivenPairs(2).pair(torch.zeros(2, 3), torch.ones(2, 3)).indices
    tensor([[0, 0],
            [1, 1]])
    """

    def __init__(self, count: int):
        if count < 1:
            raise ValueError(f"count: expected at least one pair, got {count}")
        index = torch.arange(count)
        self.pairs = Pairing(torch.stack([index, index], 1))
        self.pairing: Pairing | None = self.pairs

    def pair(
        self, source: Rows | Tensor, target: Rows | Tensor, generator: torch.Generator | None = None
    ) -> Pairing:
        count = len(self.pairs.indices)
        source, target = both_sides(source, target)
        if len(source) != count or len(target) != count:
            raise ValueError(
                f"source, target: expected the {count} given rows, got {len(source)} and {len(target)}"
            )
        return self.pairs
