"""Normalizing flows: a bijection applied to a source with a density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor

from ..bijections import Bijection, Chain, Inverse
from ..inputs import check_rows
from ..nn import ConditionSpec
from ..sources import Normal, Source
from ..tensors import Condition, ConditionLike
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

    def states(self, x0: Any, condition: ConditionLike | None = None) -> Tensor | None:
        """As :meth:`Flow.states`.

        What only rearranges the numbers of an event is no layer: earlier states are rearranged likewise, so
        that a number stays at its place.

        >>> from pushforward.bijections import Affine, Chain, Reverse
        >>> from pushforward.sources import Normal
        >>> flow = BijectiveFlow(Chain(Affine(1.0, 1.0), Reverse(), Affine(0.0, 2.0)), Normal(2))
        >>> flow.states([[0.0, 10.0]])
        tensor([[[10.,  0.]],
        <BLANKLINE>
                [[11.,  1.]],
        <BLANKLINE>
                [[22.,  2.]]])
        """
        given, start = self.conditions(condition), self.rows(x0, "source")
        found = [check_rows(start, self.source.event_shape, "x0")]

        def carry(part: Bijection, x: Tensor, inverse: bool) -> Tensor:
            image = part.through_parts(x, inverse, carry)
            if image is not None:
                return image
            move = part.inverse if inverse else part.forward
            if part.rearranges and all(state.shape == x.shape for state in found):
                found[:] = [move(state) for state in found]
                return found[-1]
            found.append(move(x, given))
            return found[-1]

        last = carry(self.bijection, found[0], False)
        alike = last is found[-1] and all(state.shape == last.shape for state in found)
        return torch.stack(found) if alike else None

    def push_and_log_det(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.bijection.forward_and_log_det(x0, condition, generator)

    def pull_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.bijection.inverse_and_log_det(x, condition, generator)
