"""Columns of few values, each of which is a level of the token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ..text import hint, label_text, number
from .base import ColumnKind, Given, check_tokens
from .cells import Cells

#: Levels that are shown.
SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Levels(ColumnKind):
    """A token with one level for each value, and then one for missing.

    levels: texts of the values.  form: what they are in the table.
    """

    options: ClassVar[tuple[str, ...]] = ("levels",)

    levels: tuple[str, ...]
    form: Literal["text", "integer", "real"] = "text"

    def __post_init__(self) -> None:
        if not self.levels or len({*self.levels}) < len(self.levels):
            raise ValueError(f"column {self.name!r}: levels: expected different ones, got {self.levels}")

    @property
    def tokens(self) -> int:
        return len(self.levels) + self.missing

    def encode(
        self, values: np.ndarray | Cells, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        cells = self.read(values)
        index: dict[Any, int] = {level: i for i, level in enumerate(self.levels)}
        tokens = np.array([index.get(text, -1) for text in cells.texts], dtype=np.int64)
        tokens[cells.missing] = len(self.levels)
        check_known(cells, tokens < 0, self.levels)
        return tokens, np.zeros((len(tokens), 0))

    def decode(self, tokens: np.ndarray | None, numbers: np.ndarray) -> np.ndarray:
        check_tokens(self, tokens, numbers)
        table = np.empty(len(self.levels) + 1, dtype=object)
        table[:-1] = self.levels if self.form == "text" else [float(level) for level in self.levels]
        found = table[tokens]
        if self.form == "text":
            return found
        if self.form == "integer" and not self.missing:
            return found.astype(np.int64)
        return found.astype(np.float64)  # None becomes NaN

    def seen(self, cells: Cells) -> str:
        return levels_text(self.levels)

    @property
    def treatment(self) -> str:
        return f"token of {self.tokens} levels"

    def given(self) -> dict[str, Any]:
        return super().given() | {"levels": self.levels}


def check_known(cells: Cells, bad: np.ndarray, levels: tuple[str, ...]) -> None:
    """Raise ValueError for the first row that is ``bad``, whose text is none of the ``levels``."""
    if bad.any():
        text = cells.texts[int(bad.argmax())]
        cells.refuse(bad, f"that is none of its levels{hint(text, levels)}")


def form_of(cells: Cells) -> Literal["text", "integer", "real"]:
    """What the cells of a column are."""
    if cells.textual:
        return "text"
    x = cells.values[~cells.missing]
    whole = cells.values.dtype.kind in "iu" or (bool(cells.missing.any()) and bool((x == np.rint(x)).all()))
    return "integer" if whole else "real"


def levels_for(cells: Cells, given: Given) -> tuple[str, ...]:
    """The levels that are ``given``, else those that occur in rising order.  Raises ValueError for a cell
    that is none of those given."""
    if given.levels is None:
        return tuple(label_text(v) if not isinstance(v, str) else v for v, _ in cells.levels)
    levels = tuple(v if isinstance(v, str) else label_text(v) for v in given.levels)
    if not levels or len({*levels}) < len(levels):
        raise cells.error(f"levels: expected different ones, got {', '.join(levels) or 'none'}")
    if not cells.textual and (words := [level for level in levels if number(level) is None]):
        raise cells.error(f"levels: {words[0]!r} is no number, and all cells are")
    known = {*levels}
    bad = np.array([text is not None and text not in known for text in cells.texts], dtype=bool)
    check_known(cells, bad, levels)
    return levels


def levels_text(levels: tuple[str, ...]) -> str:
    """How many levels there are, and the first.

    >>> levels_text(("no", "yes"))
    'no, yes'
    >>> levels_text(tuple("abcdef"))
    '6 levels: a, b, c, ...'
    """
    short = [level if len(level) <= 20 else f"{level[:17]}..." for level in levels]
    if len(short) <= SHOWN:
        return ", ".join(short)
    return f"{len(short):,} levels: {', '.join(short[: SHOWN - 1])}, ..."
