"""Levels without an order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

from .base import Given
from .cells import Cells
from .levels import Levels, form_of, levels_for
from .text import is_prose

#: Levels at most.
MOST = 1000
#: Rows for each level, below which it may be no category, unless levels are few.
ROWS, FEW = 3, 5


@final
@dataclass(frozen=True, kw_only=True)
class Category(Levels):
    """Texts that repeat, all of which are levels.

    >>> import numpy as np
    >>> kind = Category.fit(Cells("x", np.array(["b", "a", None, "a"], dtype=object)), Given())
    >>> kind.levels, kind.encode(np.array(["a", None], dtype=object))[0].tolist()
    (('a', 'b'), [0, 2])
    """

    word: ClassVar[str] = "category"

    @classmethod
    def claim(cls, cells: Cells) -> str | None:
        if not cells.textual or len(cells.levels) > MOST or is_prose(cells):
            return None
        count = len(cells.levels)
        if cells.is_numeric.any() and not cells.is_numeric[~cells.missing].all():
            return "numbers and texts"
        if count > max(FEW, cells.seen / ROWS):
            return f"{count:,} levels in {cells.seen:,} rows: identifier or text?"
        return ""

    @classmethod
    def fit(cls, cells: Cells, given: Given) -> Self:
        levels = levels_for(cells, given)
        if len(levels) > MOST:
            raise cells.error(f"kind category takes up to {MOST:,} levels, got {len(levels):,}")
        return cls(
            name=cells.name,
            missing=cls.allows_missing(cells, given),
            levels=levels,
            form=form_of(cells),
        )
