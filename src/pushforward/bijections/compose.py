"""Bijections made of bijections: a chain, an inverse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..nn.checks import check_kind
from ..tensors import Condition
from .base import REAL_LINE, Bijection, Carry


class Chain(Bijection):
    """f = f_n o ... o f_1: the first argument is nearest the source, the last nearest the data.

    An empty chain is the identity.  Raises ValueError for a link that is no bijection.

    >>> from pushforward.bijections import Affine
    >>> Chain(Affine(1.0, 1.0), Affine(0.0, 3.0)).forward(torch.zeros(1, 2))
    tensor([[3., 3.]])
    """

    def __init__(self, *links: Bijection):
        super().__init__()
        for link in links:
            check_kind("links", link, Bijection)
        self._links = nn.ModuleList(links)
        self.domain = links[0].domain if links else REAL_LINE
        self.codomain = links[-1].codomain if links else REAL_LINE

    @property
    def links(self) -> list[Bijection]:
        """The bijections, from the source's side to the data's."""
        return cast(list[Bijection], list(self._links))

    def event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        for link in self.links:
            shape = link.event_shape(shape)
        return tuple(shape)

    def inverse_event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        for link in reversed(self.links):
            shape = link.inverse_event_shape(shape)
        return tuple(shape)

    def untouched(self, entries: Tensor, inverse: bool = False) -> Tensor | None:
        left: Tensor | None = entries
        for link in reversed(self.links) if inverse else self.links:
            left = None if left is None else link.untouched(left, inverse)
        return left

    def through_parts(self, x: Tensor, inverse: bool, carry: Carry) -> Tensor | None:
        for link in reversed(self.links) if inverse else self.links:
            x = carry(link, x, inverse)
        return x

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(x.shape[0])
        for link in self.links:
            x, log_det = link.forward_and_log_det(x, condition, generator)
            total = total + log_det
        return x, total

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        total = y.new_zeros(y.shape[0])
        for link in reversed(self.links):
            y, log_det = link.inverse_and_log_det(y, condition, generator)
            total = total + log_det
        return y, total


class Inverse(Bijection):
    """The inverse of ``bijection`` as a bijection: forward and inverse change places.

    >>> from pushforward.bijections import Affine
    >>> Inverse(Affine(0.0, 2.0)).forward(torch.ones(1, 1))
    tensor([[0.5000]])
    """

    def __init__(self, bijection: Bijection):
        super().__init__()
        check_kind("bijection", bijection, Bijection)
        self.bijection = bijection
        self.domain, self.codomain = bijection.codomain, bijection.domain

    def event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.bijection.inverse_event_shape(shape)

    def inverse_event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.bijection.event_shape(shape)

    def untouched(self, entries: Tensor, inverse: bool = False) -> Tensor | None:
        return self.bijection.untouched(entries, not inverse)

    def through_parts(self, x: Tensor, inverse: bool, carry: Carry) -> Tensor | None:
        return carry(self.bijection, x, not inverse)

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.bijection.inverse_and_log_det(x, condition, generator)

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.bijection.forward_and_log_det(y, condition, generator)
