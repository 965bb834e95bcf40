"""The Haar wavelet as a squeeze: means and differences of blocks of four pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...tensors import Condition
from ..base import Bijection
from .squeeze import Squeeze, squeezed, unsqueezed


class Haar(Bijection):
    """Forward ``(C, H, W)`` to ``(4 C, H / 2, W / 2)``: sum and differences of each block of 2 x 2, halved.

    Channels 4 c to 4 c + 3 hold, of channel c, (a + b + c + d) / 2, the difference of the columns, of the
    rows, and of the diagonals.  The map is orthonormal, so that log|det| is 0 (Haar 1910; in flows
    Ardizzone et al. 2019, arXiv 1907.02392, section 3.2).  Raises ValueError for odd sizes.

    >>> Haar().forward(torch.ones(1, 1, 2, 2)).flatten()
    tensor([2., 0., 0., 0.])
    """

    matrix: Tensor

    def __init__(self):
        super().__init__()
        rows = [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
        self.register_buffer("matrix", torch.tensor(rows) / 2, persistent=False)
        self.blocks = Squeeze(2)

    def event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return squeezed(shape, 2)

    def inverse_event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return unsqueezed(shape, 2)

    def _turn(self, x: Tensor) -> Tensor:
        """The matrix, its own inverse, on each four channels."""
        four = x.unflatten(1, (-1, 4)).flatten(3)
        return (self.matrix.to(x.dtype) @ four).reshape(x.shape)

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        blocks, log_det = self.blocks.forward_and_log_det(x)
        return self._turn(blocks), log_det

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        self.inverse_event_shape(y.shape[1:])
        return self.blocks.inverse_and_log_det(self._turn(y))
