"""Free text, which is not learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NoReturn, Self, final

import numpy as np

from .base import ColumnKind, Given
from .cells import Cells

#: Rows for each different text, and words of a text, below and from which on texts are prose.
ROWS, WORDS = 3, 3


@final
@dataclass(frozen=True, kw_only=True)
class FreeText(ColumnKind):
    """Texts that hardly repeat.  They are neither encoded nor decoded; the error says what can be done."""

    word: ClassVar[str] = "text"

    @classmethod
    def claim(cls, cells: Cells) -> str | None:
        if not cells.textual:
            return None
        return f"{len(cells.levels):,} texts in {cells.seen:,} rows: leave it out"

    @classmethod
    def fit(cls, cells: Cells, given: Given) -> Self:
        return cls(name=cells.name, missing=cls.allows_missing(cells, given))

    def encode(
        self, values: np.ndarray | Cells, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        self._refuse()

    def decode(self, tokens: np.ndarray | None, numbers: np.ndarray) -> np.ndarray:
        self._refuse()

    def seen(self, cells: Cells) -> str:
        return f"{len(cells.levels):,} texts"

    @property
    def treatment(self) -> str:
        return "refused"

    def _refuse(self) -> NoReturn:
        raise ValueError(
            f"column {self.name!r}: free text is not learnt; leave the column out, "
            'or say kind = "category" or "identifier" in its schema'
        )


def is_prose(cells: Cells) -> bool:
    """Whether texts hardly repeat: nearly all differ, or many do and are of several words."""
    count = len(cells.levels)
    if count * ROWS <= cells.seen:
        return False
    words = np.mean([len(level.value.split()) for level in cells.levels])
    return count == cells.seen > ROWS or bool(words >= WORDS)
