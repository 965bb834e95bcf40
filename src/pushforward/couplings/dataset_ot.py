"""One plan between two whole data sets."""

from __future__ import annotations

import torch
from torch import Tensor

from ..rows import Rows, as_rows
from ..sources import Source
from .atoms import fingerprint
from .base import Coupling, Pairing
from .minibatch_ot import MinibatchOT


class DatasetOT(Coupling):
    """The plan of ``inner`` (exact transport by default) between two whole data sets, made once.

    :meth:`fit` pairs all source rows with all target rows, without the bias of plans between batches.  The
    fitted coupling has the pairs in :attr:`pairing`, whose indices are rows of the two data sets.  Trainers
    take pairs from it in random orders, and :meth:`pair` returns it for the data sets of the fit.

    Raises ValueError if it is not fitted, is fitted to a distribution instead of rows, or is given other
    data.

    >>> x0, x1 = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.1], [0.1]])
    >>> DatasetOT().fit(x0, x1).pairing.indices
    tensor([[0, 1],
            [1, 0]])
    """

    def __init__(self, inner: Coupling | None = None):
        self.inner = inner or MinibatchOT()
        self.pairing: Pairing | None = None
        self._fingerprints: tuple[Tensor, Tensor] | None = None

    def check_source(self, source: Source | Rows | Tensor, targets: int) -> None:
        if isinstance(source, Source) and source.atoms is None:
            raise ValueError("source: expected the rows of a data set as --source")

    def fit(
        self,
        source: Source | Rows | Tensor,
        target: Rows | Tensor,
        generator: torch.Generator | None = None,
    ) -> DatasetOT:
        if isinstance(source, Source):
            raise ValueError(
                f"source: expected the rows of a data set, got the distribution {type(source).__name__}"
            )
        fitted = DatasetOT(self.inner)
        fitted.pairing = self.inner.pair(source, target, generator)
        fitted._fingerprints = fingerprint(as_rows(source)), fingerprint(as_rows(target))
        return fitted

    def pair(
        self, source: Rows | Tensor, target: Rows | Tensor, generator: torch.Generator | None = None
    ) -> Pairing:
        if self.pairing is None or self._fingerprints is None:
            raise ValueError("the coupling holds no pairs yet: call fit with both data sets first")
        for name, rows, known in zip(("source", "target"), (source, target), self._fingerprints):
            if not torch.equal(fingerprint(as_rows(rows)), known):
                raise ValueError(f"{name}: expected the rows the coupling was fitted to, in their order")
        return self.pairing
