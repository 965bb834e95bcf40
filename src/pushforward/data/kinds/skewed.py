"""Numbers whose shape is brought nearer to normal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from .base import Given
from .cells import Cells
from .maps import AnyMap, logarithm, nearest_normal, quantiles
from .numeric import Numeric, Parts, doubt, is_whole, parts_of


@final
@dataclass(frozen=True, kw_only=True)
class Skewed(Numeric):
    """Numbers by their logarithm where that makes them much nearer to normal, else by quantiles.

    >>> import numpy as np
    >>> kind = Skewed.fit(Cells("x", np.exp(np.linspace(-3, 3, 99))), Given())
    >>> kind.treatment
    'logarithm'
    """

    word: ClassVar[str] = "skewed"

    @classmethod
    def claim(cls, cells: Cells) -> str | None:
        if cells.textual or is_whole(cells.numbers(cls.word)):
            return None
        parts = parts_of(cells, Given(), cls.word)
        if nearest_normal(parts.values, parts.low) is None:
            return None
        return doubt(cells, cls.fit(cells, Given()))

    @classmethod
    def shape(cls, parts: Parts) -> AnyMap:
        found = nearest_normal(parts.values, parts.low)
        if found is not None:
            return found
        return quantiles(parts.values, None) if parts.low is None else logarithm(parts.values, parts.low)
