"""The abstract coupling: a rule that pairs rows of the source with rows of the target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, overload

import torch
from torch import Tensor

from ..rows import Rows
from ..sources import Source
from ..tensors import to_tensor


@dataclass(frozen=True)
class Pairing:
    """The row numbers of each pair.

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
    #: whether each row is paired with a source point for its condition
    keeps_condition: bool = False
    #: whether :meth:`fit` takes so long that what it finds is kept in the run folder
    fits_long: bool = False
    #: figures of the fit
    info: Mapping[str, Any] = MappingProxyType({})
    #: the pairs of two whole data sets, for couplings that hold them from the start or once fitted
    pairing: Pairing | None = None

    @classmethod
    def along_bridge(cls, sigma: float, given: Collection[str]) -> dict[str, Any]:
        """Options, beside those ``given``, for pairs of the Schroedinger bridge of ``sigma`` dW."""
        return {}

    @classmethod
    def of_tokens(cls) -> dict[str, Any] | None:
        """Options for pairs of tokens; None for a coupling that compares numbers."""
        return None

    @abstractmethod
    def pair(
        self, source: Rows | Tensor, target: Rows | Tensor, generator: torch.Generator | None = None
    ) -> Pairing:
        """Pair the rows; the number of pairs may differ from the number of rows.

        Raises ValueError for a side without rows, and events that differ.
        """

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

    def check_source(self, source: Source | Rows | Tensor, targets: int) -> None:
        """Raise ValueError for a source that :meth:`fit` cannot pair with ``targets`` rows."""
        return

    def state_dict(self) -> dict[str, Tensor]:
        """The results of a fit that are stored with a run."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the fitted coupling of :meth:`state_dict`.  Raises ValueError for missing entries."""
        return

    @overload
    def __call__(
        self, source: Tensor, target: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]: ...
    @overload
    def __call__(
        self, source: Rows, target: Rows, generator: torch.Generator | None = None
    ) -> tuple[Rows, Rows]: ...

    def __call__(self, source, target, generator=None):
        """The paired rows: ``x0, x1 = coupling(x0, x1)``."""
        columns = self.pair(source, target, generator).indices.unbind(1)
        take = [
            rows.take(index) if isinstance(rows, Rows) else to_tensor(rows)[index]
            for rows, index in zip((source, target), columns)
        ]
        return take[0], take[1]
