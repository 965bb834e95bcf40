"""Levels that have an order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

from .base import Given
from .cells import Cells
from .levels import Levels, form_of, levels_for
from .numeric import is_whole

#: Numbers that make levels at most, and how often each must come on average: few, and in long tables more.
FEW, MANY = (12, 5), (31, 50)


@final
@dataclass(frozen=True, kw_only=True)
class Ordinal(Levels):
    """Few numbers, or texts in an order that a user gives.

    >>> import numpy as np
    >>> Ordinal.fit(Cells("cylinders", np.array([4, 8, 6, 4])), Given()).levels
    ('4', '6', '8')
    """

    word: ClassVar[str] = "ordinal"

    @classmethod
    def claim(cls, cells: Cells) -> str | None:
        if cells.textual:
            return None
        cells.numbers(cls.word)
        count = len(cells.levels)
        if not count or all(count > most or count * often > cells.seen for most, often in (FEW, MANY)):
            return None
        if count > FEW[0]:
            other = "count" if is_whole(cells.numbers(cls.word)) else "real"
            return f'{count} numbers: levels? kind = "{other}" if not'
        return ""

    @classmethod
    def fit(cls, cells: Cells, given: Given) -> Self:
        if cells.textual and given.levels is None:
            raise cells.error('kind ordinal needs the order of its texts, as levels = ["low", "high"]')
        return cls(
            name=cells.name,
            missing=cls.allows_missing(cells, given),
            levels=levels_for(cells, given),
            form=form_of(cells),
        )
