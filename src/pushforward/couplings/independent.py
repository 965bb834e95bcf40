"""The independent coupling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..rows import Rows, both_sides
from .base import Coupling, Pairing


class Independent(Coupling):
    """Pairs row i with row i: the product distribution q0 x q1, as the rows were drawn independently.

    Lipman et al. 2023, arXiv 2210.02747; Tong et al. 2024, arXiv 2302.00482, section 3.2.1.  Raises
    ValueError where the two batches differ in length or event.

    >>> x0, x1 = Independent()(torch.zeros(4, 2), torch.ones(4, 2))
    """

    looks = False

    @classmethod
    def of_tokens(cls) -> dict[str, Any] | None:
        return {}

    def pair(
        self, source: Rows | Tensor, target: Rows | Tensor, generator: torch.Generator | None = None
    ) -> Pairing:
        source, target = both_sides(source, target)
        if len(source) != len(target):
            raise ValueError(f"source, target: expected equal lengths, got {len(source)} and {len(target)}")
        index = torch.arange(len(source), device=source.x.device)
        return Pairing(torch.stack([index, index], 1))
