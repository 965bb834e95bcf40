"""Normalizing flows: a bijection applied to a source with a density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor

from ..bijections import Bijection, Chain, Inverse
from ..nn import ConditionSpec
from ..sources import Normal, Source
from ..tensors import Condition
from .invertible import InvertibleFlow
from .shapes import ConditionShape, condition_shape


class BijectiveFlow(InvertibleFlow):
    """The distribution of f(x0), x0 drawn from ``source`` and f a learnt ``bijection``: a normalizing flow.

    log p(x) = log p_source(f^-1(x)) + log|det df^-1/dx| (Rezende & Mohamed 2015, arXiv 1505.05770).  The
    source may have parameters, which are also learnt.

    Raises ValueError for a chain of coupling layers whose masks all leave the same entry unchanged: its
    distribution would stay that of the source, unless the source is learnt.

    >>> from pushforward.bijections import Elementwise
    >>> from pushforward.sources import Normal
    >>> BijectiveFlow(Elementwise(2), Normal(2)).log_prob(torch.zeros(1, 2))
    tensor([-1.8379], grad_fn=...)
    """

    free_source = True

    def __init__(self, bijection: Bijection, source: Source, *, condition_shape: ConditionShape = ()):
        super().__init__()
        self.bijection, self.source, self.condition_shape = bijection, source, condition_shape
        left = bijection.untouched(torch.ones(source.event_shape[:1], dtype=torch.bool))
        learnt_source = next(source.parameters(), None) is not None
        if left is not None and not learnt_source and bool(left.any()) and not bool(left.all()):
            raise ValueError(
                "bijection: expected couplings whose masks together move every entry of an event, "
                f"got none that moves {left.nonzero()[:, 0].tolist()}"
            )

    @classmethod
    def of_links(
        cls,
        links: Sequence[Bijection],
        event_shape: int | Sequence[int],
        condition: ConditionSpec,
        source: Source | None,
        inverse: bool = True,
    ) -> Self:
        """The flow of ``links``, which run from the data to the source, or with ``inverse=False`` the other
        way.

        ``source``: None for the standard normal distribution on events of ``event_shape``.
        """
        chain = Chain(*links)
        bijection = Inverse(chain) if inverse else chain
        return cls(bijection, source or Normal(event_shape), condition_shape=condition_shape(condition))

    @property
    def density(self) -> Literal["exact", "bound", "estimate", "none"]:
        return self.bijection.density

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.bijection.event_shape(self.source.event_shape)

    @torch.no_grad()
    def initialise(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> None:
        self.source.initialise(self.bijection.initialise(x, condition, generator))

    def forward(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.pulled_log_prob(x, condition, generator)

    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.bijection.forward_and_log_det(x0, condition, generator)[0]

    def pull(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.bijection.inverse_and_log_det(x, condition, generator)[0]

    def push_and_log_det(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.bijection.forward_and_log_det(x0, condition, generator)

    def pull_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.bijection.inverse_and_log_det(x, condition, generator)
