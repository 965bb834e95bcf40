"""Counts: integers of at least 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

from .base import Given
from .cells import Cells
from .integer import WholeNumbers
from .numeric import doubt, is_whole


@final
@dataclass(frozen=True, kw_only=True)
class Count(WholeNumbers):
    """Whole numbers of at least ``lowest``, which they stay.

    >>> import numpy as np
    >>> kind = Count.fit(Cells("n", np.array([0, 1, 1, 2, 3, 5, 8])), Given())
    >>> kind.decode(None, np.array([[-50.0], [0.0]])).tolist()[0]
    0
    """

    word: ClassVar[str] = "count"

    @classmethod
    def claim(cls, cells: Cells) -> str | None:
        if cells.textual or not is_whole(cells.numbers(cls.word)):
            return None
        kind = super().fit(cells, Given())
        return None if kind.lowest is None else doubt(cells, kind)

    @classmethod
    def fit(cls, cells: Cells, given: Given) -> Self:
        lowest = 0.0 if given.lowest is None else given.lowest
        return super().fit(cells, Given(**{**given.named(), "lowest": lowest}))
