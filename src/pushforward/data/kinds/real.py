"""Numbers of a shape that is left as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from .base import Given
from .cells import Cells
from .maps import AnyMap, straight
from .numeric import Numeric, Parts, doubt


@final
@dataclass(frozen=True, kw_only=True)
class Real(Numeric):
    """Numbers, standardised; those that are never below 0 stay above it.

    >>> import numpy as np
    >>> kind = Real.fit(Cells("x", np.array([1.5, 2.25, 4.0])), Given())
    >>> tokens, z = kind.encode(np.array([3.75]))
    >>> kind.decode(tokens, z).tolist()
    [3.75]
    """

    word: ClassVar[str] = "real"

    @classmethod
    def claim(cls, cells: Cells) -> str | None:
        return None if cells.textual else doubt(cells, cls.fit(cells, Given()))

    @classmethod
    def shape(cls, parts: Parts) -> AnyMap:
        return straight(parts.values, parts.low)
