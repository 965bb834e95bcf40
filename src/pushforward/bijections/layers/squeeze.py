"""Space to depth: blocks of pixels become channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ...nn.checks import check_count
from ...tensors import Condition
from ..base import Bijection


def squeezed(shape: Sequence[int], factor: int) -> tuple[int, int, int]:
    """``(C, H, W)`` to ``(C factor^2, H / factor, W / factor)``.

    Raises ValueError, with the factors that would do, where the sizes do not divide.

    >>> squeezed((1, 28, 28), 7)
    (49, 4, 4)
    """
    if len(shape) != 3:
        raise ValueError(f"event_shape: expected (C, H, W), got {tuple(shape)}")
    channels, height, width = shape
    if height % factor or width % factor:
        fits = [f for f in range(2, min(height, width) + 1) if height % f == width % f == 0]
        raise ValueError(
            f"event_shape: images of {height} x {width} do not divide into blocks of {factor} x {factor}; "
            + (f"of these they do: {', '.join(map(str, fits))}" if fits else "into no others either")
        )
    return channels * factor * factor, height // factor, width // factor


def unsqueezed(shape: Sequence[int], factor: int) -> tuple[int, int, int]:
    """The inverse of :func:`squeezed`.

    >>> unsqueezed((49, 4, 4), 7)
    (1, 28, 28)
    """
    if len(shape) != 3 or shape[0] % (factor * factor):
        raise ValueError(
            f"event_shape: expected (C, H, W) with C a multiple of {factor * factor}, got {tuple(shape)}"
        )
    return shape[0] // (factor * factor), shape[1] * factor, shape[2] * factor


class Squeeze(Bijection):
    """Forward ``(C, H, W)`` to ``(C factor^2, H / factor, W / factor)``: pixels of a block become channels.

    Channel c, row i and column j of a block become channel (c factor + i) factor + j; log|det| is 0
    (Dinh et al. 2017, arXiv 1605.08803, section 3.6).  Raises ValueError for a factor below 1 and images
    that do not divide.

    >>> Squeeze(2).forward(torch.arange(4.0).reshape(1, 1, 2, 2)).flatten()
    tensor([0., 1., 2., 3.])
    """

    rearranges = True

    def __init__(self, factor: int = 2):
        super().__init__()
        check_count("factor", factor)
        self.factor = factor

    def event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return squeezed(shape, self.factor)

    def inverse_event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return unsqueezed(shape, self.factor)

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        shape = self.event_shape(x.shape[1:])
        # torch leaves the shape of no images as it is
        y = F.pixel_unshuffle(x, self.factor) if len(x) else x.reshape(0, *shape)
        return y, x.new_zeros(x.shape[0])

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        shape = self.inverse_event_shape(y.shape[1:])
        x = F.pixel_shuffle(y, self.factor) if len(y) else y.reshape(0, *shape)
        return x, y.new_zeros(y.shape[0])
