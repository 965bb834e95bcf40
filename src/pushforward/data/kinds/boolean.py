"""No and yes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

from .base import Given
from .cells import Cells
from .levels import Levels, form_of, levels_for

#: How no and yes are spelt, in capitals or not.
PAIRS = (("0", "1"), ("no", "yes"), ("n", "y"), ("false", "true"), ("f", "t"), ("off", "on"))


@final
@dataclass(frozen=True, kw_only=True)
class Boolean(Levels):
    """Two values, no and then yes, as the table spells them.

    >>> import numpy as np
    >>> Boolean.fit(Cells("x", np.array(["Yes", "No"], dtype=object)), Given()).levels
    ('No', 'Yes')
    """

    word: ClassVar[str] = "boolean"

    @classmethod
    def claim(cls, cells: Cells) -> str | None:
        if len(cells.levels) != 2:
            return None
        return "" if tuple(text.lower() for text in levels_for(cells, Given())) in PAIRS else None

    @classmethod
    def fit(cls, cells: Cells, given: Given) -> Self:
        levels = levels_for(cells, given)
        if len(levels) != 2:
            raise cells.error(f"kind boolean takes two levels, got {len(levels):,}")
        return cls(
            name=cells.name, missing=cls.allows_missing(cells, given), levels=levels, form=form_of(cells)
        )
