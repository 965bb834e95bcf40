"""What a coupling is: a rule that pairs rows of the source with rows of the target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import torch
from torch import Tensor

from ..random import uniform
from ..sources import Source
from ..tensors import Condition, map_condition


@dataclass(frozen=True)
class Rows:
    """Rows of one marginal: points ``(B, *event)`` and what belongs to them.

    ``condition`` rides along whenever rows are re-paired; ``mask`` ``(B, ...)`` is True on valid
    elements of ``x``; ``weight`` ``(B,)`` is a non-negative mass per row.
    """

    x: Tensor
    condition: Condition | None = None
    mask: Tensor | None = None
    weight: Tensor | None = None

    def __len__(self) -> int:
        return self.x.shape[0]

    def take(self, index: Tensor) -> Rows:
        """The rows at ``index``, gathered once."""
        return Rows(
            self.x[index],
            map_condition(lambda c: c[index], self.condition),
            None if self.mask is None else self.mask[index],
            None if self.weight is None else self.weight[index],
        )

    def thinned(self, generator: torch.Generator | None = None) -> Rows:
        """Rows drawn from the weighted law: each stays with a chance in proportion to its weight.

        Without weights all stay.
        """
        if self.weight is None:
            return self
        chance = self.weight / self.weight.max()
        drawn = uniform((len(self),), generator, chance.dtype, chance.device) < chance
        kept = self.take(drawn.nonzero()[:, 0])
        return Rows(kept.x, kept.condition, kept.mask)

    def to(self, device: torch.device | str) -> Rows:
        """The same rows on ``device``."""
        return Rows(
            self.x.to(device),
            map_condition(lambda c: c.to(device), self.condition),
            None if self.mask is None else self.mask.to(device),
            None if self.weight is None else self.weight.to(device),
        )


def as_rows(x: Tensor | Rows) -> Rows:
    """A plain tensor will do wherever rows are asked for."""
    return x if isinstance(x, Rows) else Rows(x)


@dataclass(frozen=True)
class Pairing:
    """Which rows go together.

    indices: ``(P, marginals)`` int64; column 0 indexes the source, column 1 the target.
    weight: ``(P,)`` or None for equal weights.
    info: figures about the plan, such as its mean cost.
    """

    indices: Tensor
    weight: Tensor | None = None
    info: Mapping[str, Any] = field(default_factory=dict)


class Coupling(ABC):
    """Pairs rows of a source batch with rows of a target batch."""

    #: whether :meth:`pair` looks at the points (False: any pairing by position will do)
    looks: bool = True
    #: whether :meth:`pair` wants the whole data set as its target and finds a row of it for each source row
    whole: bool = False
    #: the pairs of two whole data sets, for couplings that hold them from the start or once fitted
    pairing: Pairing | None = None

    @abstractmethod
    def pair(
        self, source: Rows | Tensor, target: Rows | Tensor, generator: torch.Generator | None = None
    ) -> Pairing:
        """Pair the rows; the number of pairs may differ from the number of rows."""

    def pair_many(
        self,
        sources: Sequence[Rows | Tensor],
        targets: Sequence[Rows | Tensor],
        generators: Sequence[torch.Generator | None],
    ) -> list[Pairing]:
        """One pairing for each of several batches."""
        return [self.pair(*batch) for batch in zip(sources, targets, generators, strict=True)]

    def fit(
        self,
        source: Source | Rows | Tensor,
        target: Rows | Tensor,
        generator: torch.Generator | None = None,
    ) -> Coupling:
        """A coupling fitted to whole data sets; those that need none return themselves."""
        return self

    @overload
    def __call__(
        self, source: Tensor, target: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]: ...
    @overload
    def __call__(
        self, source: Rows, target: Rows, generator: torch.Generator | None = None
    ) -> tuple[Rows, Rows]: ...

    def __call__(self, source, target, generator=None):
        """The paired rows themselves: ``x0, x1 = coupling(x0, x1)``."""
        columns = self.pair(source, target, generator).indices.unbind(1)
        take = [
            rows.take(index) if isinstance(rows, Rows) else rows[index]
            for rows, index in zip((source, target), columns)
        ]
        return take[0], take[1]
