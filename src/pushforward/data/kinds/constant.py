"""A column of one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self, final

import numpy as np

from .base import ColumnKind, Given, check_tokens
from .cells import Cells
from .levels import form_of, levels_for, levels_text


@final
@dataclass(frozen=True, kw_only=True)
class Constant(ColumnKind):
    """One value in every row, which is kept and not learnt.

    >>> kind = Constant.fit(Cells("x", np.array([3, 3])), Given())
    >>> kind.decode(None, np.zeros((2, 0))).tolist()
    [3, 3]
    """

    word: ClassVar[str] = "constant"

    value: str
    form: Literal["text", "integer", "real"] = "text"

    @classmethod
    def claim(cls, cells: Cells) -> str | None:
        return "" if len(cells.levels) == 1 and not cells.missing.any() else None

    @classmethod
    def fit(cls, cells: Cells, given: Given) -> Self:
        cells.refuse(cells.missing, "kind constant takes no empty cell")
        first = cells.texts[0]
        cells.refuse(cells.texts != first, f"kind constant takes one value, {first!r} so far")
        return cls(name=cells.name, value=levels_for(cells, Given())[0], form=form_of(cells))

    def encode(
        self, values: np.ndarray | Cells, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        cells = self.read(values)
        cells.refuse(cells.texts != self.value, f"its constant value is {self.value}")
        return None, np.zeros((len(cells), 0))

    def decode(self, tokens: np.ndarray | None, numbers: np.ndarray) -> np.ndarray:
        check_tokens(self, tokens, numbers)
        if self.form == "text":
            return np.full(len(numbers), self.value, dtype=object)
        return np.full(len(numbers), float(self.value), np.int64 if self.form == "integer" else np.float64)

    def seen(self, cells: Cells) -> str:
        return f"always {levels_text((self.value,))}"

    @property
    def treatment(self) -> str:
        return "kept"
