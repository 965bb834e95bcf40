"""Fixed rearrangements of the elements of an event."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...tensors import Condition, to_tensor
from ..base import Bijection
from ..numerics.shapes import check_entries, take_entries


class Permutation(Bijection):
    """y_i = x_order(i) along the first dimension of an event: features of a vector, channels of an image.

    Raises ValueError where ``order`` is no permutation of 0, 1, ..., n - 1, and for other numbers of
    entries than n.

    >>> Permutation([2, 0, 1]).forward(torch.tensor([[10.0, 11.0, 12.0]]))
    tensor([[12., 10., 11.]])
    """

    rearranges = True
    order: Tensor

    def __init__(self, order: Tensor | Sequence[int]):
        super().__init__()
        ranks = to_tensor(order, "order")
        whole = ranks.dtype != torch.bool and not ranks.is_floating_point() and ranks.ndim == 1
        if not whole or len(ranks) == 0 or sorted(ranks.tolist()) != list(range(len(ranks))):
            raise ValueError(f"order: expected a permutation of 0, 1, 2, ..., got {ranks.tolist()}")
        self.register_buffer("order", ranks.long())

    def untouched(self, entries: Tensor, inverse: bool = False) -> Tensor | None:
        check_entries(entries[None], len(self.order))
        order = self.order.argsort() if inverse else self.order
        return entries[order.to(entries.device)]

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        check_entries(x, len(self.order))
        return take_entries(x, self.order), x.new_zeros(len(x))

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        check_entries(y, len(self.order))
        return take_entries(y, self.order.argsort()), y.new_zeros(len(y))


class Reverse(Bijection):
    """The entries along the first dimension of an event, last to first.

    >>> Reverse().forward(torch.tensor([[10.0, 11.0, 12.0]]))
    tensor([[12., 11., 10.]])
    """

    rearranges = True

    def untouched(self, entries: Tensor, inverse: bool = False) -> Tensor | None:
        return entries.flip(0)

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return x.flip(1), x.new_zeros(len(x))

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return y.flip(1), y.new_zeros(len(y))
