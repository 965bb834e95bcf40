"""Integers of any sign, and those that are far from 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

from .base import Given
from .cells import Cells
from .maps import AnyMap, nearest_normal, straight
from .numeric import Numeric, Parts, doubt, is_whole


@dataclass(frozen=True, kw_only=True)
class WholeNumbers(Numeric):
    """Whole numbers k, each for the coordinates of k - 1/2 to k + 1/2."""

    @classmethod
    def fit(cls, cells: Cells, given: Given) -> Self:
        x = cells.numbers(cls.word)
        cells.refuse(~cells.missing & (x != x.round()), f"kind {cls.word} takes whole numbers")
        return super().fit(cells, given)

    @classmethod
    def shape(cls, parts: Parts) -> AnyMap:
        return nearest_normal(parts.values, parts.low) or straight(parts.values, parts.low)


@final
@dataclass(frozen=True, kw_only=True)
class Integer(WholeNumbers):
    """Whole numbers of any sign, or far from 0, such as years.

    >>> import numpy as np
    >>> kind = Integer.fit(Cells("year", np.arange(1970, 2020)), Given())
    >>> tokens, z = kind.encode(np.array([2024]), np.random.default_rng(0))
    >>> kind.decode(tokens, z).tolist()
    [2024]
    """

    word: ClassVar[str] = "integer"

    @classmethod
    def claim(cls, cells: Cells) -> str | None:
        if cells.textual or not is_whole(cells.numbers(cls.word)):
            return None
        return doubt(cells, cls.fit(cells, Given()))
