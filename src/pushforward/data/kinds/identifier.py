"""Names of rows, which are not learnt."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import ClassVar, Self, final

import numpy as np

from ..columns import NAMES, is_identifier
from .base import ColumnKind, Given, check_tokens
from .cells import Cells

#: A text that ends in a number, or has one before what all texts end in.
NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)
#: Draws of texts of a pattern, before there are too few of them.
DRAWS = 100
HEX = "0123456789abcdef"


@final
@dataclass(frozen=True, kw_only=True)
class Identifier(ColumnKind):
    """A name for each row.  Decoding writes fresh ones: numbers that go on, alone or within a text, or texts
    of the same pattern.

    next, step: the first fresh number, and from each to the next; step 0 for random texts like ``pattern``.
    pattern, end: the texts before and after the number.  width: its digits, with leading zeros.

    >>> kind = Identifier.fit(Cells("id", np.array(["C001", "C002"], dtype=object)), Given())
    >>> kind.decode(None, np.zeros((2, 0))).tolist()
    ['C003', 'C004']
    """

    word: ClassVar[str] = "identifier"

    next: int = 0
    step: int = 1
    pattern: str = ""
    width: int = 0
    end: str = ""
    textual: bool = False

    @classmethod
    def claim(cls, cells: Cells) -> str | None:
        if cells.missing.any() or len(cells.levels) < len(cells) or len(cells) < 3:
            return None
        named = NAMES.fullmatch(cells.name) is not None
        if cells.textual:
            texts = [level.value for level in cells.levels]
            return "" if named or len({*map(_mask, texts)}) == 1 or _numbered(texts) else None
        if is_identifier(cells.name, cells.values):
            return "" if named or cells.values[0] in (0, 1) else 'numbers the rows: kind = "integer" if not'
        large = cells.values.dtype.kind in "iu" and np.abs(cells.values.astype(np.float64)).max() > 2**53
        return "" if large else None

    @classmethod
    def fit(cls, cells: Cells, given: Given) -> Self:
        if not cells.textual:
            bad = ~cells.missing & (cells.values != np.rint(cells.values))
            cells.refuse(bad, "kind identifier takes whole numbers")
            return cls(name=cells.name, next=int(cells.levels[-1].value) + (step := _step(cells)), step=step)
        texts = [level.value for level in cells.levels]
        found = _numbered(texts)
        if found is None:
            return cls(name=cells.name, step=0, pattern=texts[0], textual=True)
        prefix, end, width = found
        values = [int(text[len(prefix) : len(text) - len(end)]) for text in texts]
        return cls(name=cells.name, next=max(values) + 1, pattern=prefix, width=width, end=end, textual=True)

    def encode(
        self, values: np.ndarray | Cells, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        return None, np.zeros((len(values), 0))

    def decode(self, tokens: np.ndarray | None, numbers: np.ndarray) -> np.ndarray:
        check_tokens(self, tokens, numbers)
        fresh = [self.next + i * self.step for i in range(len(numbers))]
        if not self.textual:
            return np.array(fresh, dtype=np.int64 if max(fresh, default=0) < 2**63 else np.uint64)
        found = np.empty(len(numbers), dtype=object)
        found[:] = (
            [f"{self.pattern}{value:0{self.width}d}{self.end}" for value in fresh]
            if self.step
            else _like(self.pattern, len(numbers))
        )
        return found

    def seen(self, cells: Cells) -> str:
        if self.textual:
            return f"{len(cells.levels):,} such as {cells.texts[~cells.missing][0][:24]}"
        return f"{cells.levels[0].value:.20g} to {cells.levels[-1].value:.20g}"

    @property
    def treatment(self) -> str:
        return "not learnt, fresh ones " + ("of its pattern" if self.step == 0 else "go on")


def _step(cells: Cells) -> int:
    """The step from each number to the next larger one, 1 unless all are equal."""
    steps = np.diff([int(level.value) for level in cells.levels[:1000]])
    return int(steps[0]) if len(steps) and (steps == steps[0]).all() else 1


def _numbered(texts: list[str]) -> tuple[str, str, int] | None:
    """What stands before and after the number of each text, and its digits at least; None where texts differ
    in more than the number.

    >>> _numbered(["C01", "C12"]), _numbered(["a1", "b1"])
    (('C', '', 2), None)
    """
    found = [NUMBERED.fullmatch(text) for text in texts]
    parts = [match.groups() for match in found if match is not None]
    if len(parts) < len(texts) or len({(prefix, end) for prefix, _, end in parts}) > 1:
        return None
    prefix, _, end = parts[0]
    width = min(len(digits) for _, digits, _ in parts)
    if any(digits != f"{int(digits):0{width}d}" for _, digits, _ in parts):
        return None
    return prefix, end, width


def _mask(text: str) -> str:
    """What kind of letter stands at each place; of texts with blanks themselves, which are no names of rows.

    >>> _mask("A-17b"), _mask("New York")
    ('A-00a', 'New York')
    """
    if any(letter.isspace() for letter in text) or not any(letter.isdigit() for letter in text):
        return text
    # a letter or a digit may stand in the same place of hexadecimal names
    if re.fullmatch(r"[0-9a-f-]{16,}", text):
        return re.sub("[0-9a-f]", "#", text)
    return re.sub("[0-9]", "0", re.sub("[a-z]", "a", re.sub("[A-Z]", "A", text)))


def _like(pattern: str, n: int) -> list[str]:
    """Different random texts, with a digit or letter wherever ``pattern`` has one."""
    rng = np.random.default_rng(0)
    places = {"0": string.digits, "a": string.ascii_lowercase, "A": string.ascii_uppercase, "#": HEX}
    choices = [list(places.get(letter, letter)) for letter in _mask(pattern)]
    found: dict[str, None] = {}
    for _ in range(DRAWS):
        columns = [rng.choice(choice, n) for choice in choices]
        found |= dict.fromkeys(map("".join, zip(*columns)))
        if len(found) >= n:
            return [*found][:n]
    raise ValueError(f"no {n:,} different names of rows of the pattern {pattern!r}")
