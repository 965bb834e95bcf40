"""Several scales: after each level a part of the channels goes to the output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ...nn.checks import check_kind, check_sizes
from ...tensors import Condition, event_size
from ..base import Bijection, Carry


class MultiScale(Bijection):
    """Forward an image of ``event_shape`` through ``levels`` to a flat vector of its size.

    After each level but the last, the first half of the channels goes to the output, and the rest to the next
    level; the vector holds these parts in the order of the levels (Dinh et al. 2017, arXiv 1605.08803,
    section 3.6).  Each level is a bijection of images to images, mostly a
    :class:`~pushforward.bijections.Chain` that begins with a :class:`~pushforward.bijections.Squeeze`.

    Raises ValueError without levels, and where a level leaves fewer than two channels to divide.

    >>> from pushforward.bijections import Squeeze
    >>> scales = MultiScale([Squeeze(2), Squeeze(2)], (1, 4, 4))
    >>> scales.event_shape((1, 4, 4)), scales.forward(torch.zeros(3, 1, 4, 4)).shape
    ((16,), torch.Size([3, 16]))
    """

    def __init__(self, levels: Sequence[Bijection], event_shape: Sequence[int]):
        super().__init__()
        if not isinstance(levels, Sequence) or not levels:
            raise ValueError(f"levels: expected at least one bijection in a list, got {levels!r}")
        for level in levels:
            check_kind("levels", level, Bijection)
        self._levels = nn.ModuleList(levels)
        self.shape = check_sizes("event_shape", event_shape)
        #: shapes of what leaves after each level
        self.parts: list[tuple[int, ...]] = []
        shape = self.shape
        for number, level in enumerate(levels):
            shape = level.event_shape(shape)
            if number < len(levels) - 1:
                if shape[0] < 2:
                    raise ValueError(
                        f"levels: level {number + 1} leaves {shape[0]} channel, nothing to divide"
                    )
                half = shape[0] // 2
                self.parts.append((half, *shape[1:]))
                shape = (shape[0] - half, *shape[1:])
        self.parts.append(shape)

    @property
    def levels(self) -> list[Bijection]:
        """The levels, from the image on."""
        return cast(list[Bijection], list(self._levels))

    def event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        if tuple(shape) != self.shape:
            raise ValueError(f"event_shape: expected {self.shape}, got {tuple(shape)}")
        return (event_size(self.shape),)

    def inverse_event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        if tuple(shape) != (event_size(self.shape),):
            raise ValueError(f"event_shape: expected ({event_size(self.shape)},), got {tuple(shape)}")
        return self.shape

    def through_parts(self, x: Tensor, inverse: bool, carry: Carry) -> Tensor:
        return self._up(x, carry) if inverse else self._down(x, carry)

    def _down(self, x: Tensor, carry: Carry) -> Tensor:
        """Image to vector, through each level by ``carry``."""
        left = []
        for level, part in zip(self.levels, self.parts):
            x = carry(level, x, False)
            left.append(x[:, : part[0]].flatten(1))
            x = x[:, part[0] :]
        return torch.cat(left, 1)

    def _up(self, y: Tensor, carry: Carry) -> Tensor:
        """Vector to image, back through each level by ``carry``."""
        sizes = [event_size(part) for part in self.parts]
        x: Tensor | None = None
        for level, part, piece in reversed(list(zip(self.levels, self.parts, y.split(sizes, 1)))):
            piece = piece.unflatten(1, part)
            x = carry(level, piece if x is None else torch.cat([piece, x], 1), True)
        assert x is not None
        return x

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        self.event_shape(x.shape[1:])
        return self._with_log_det(x, condition, generator, False)

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        self.inverse_event_shape(y.shape[1:])
        return self._with_log_det(y, condition, generator, True)

    def _with_log_det(
        self, x: Tensor, condition: Condition | None, generator: torch.Generator | None, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        log_dets = []

        def carry(level: Bijection, x: Tensor, inverse: bool) -> Tensor:
            way = level.inverse_and_log_det if inverse else level.forward_and_log_det
            x, log_det = way(x, condition, generator)
            log_dets.append(log_det)
            return x

        return self.through_parts(x, inverse, carry), torch.stack(log_dets).sum(0)
