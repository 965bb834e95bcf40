"""Numbers between two limits, such as shares."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np

from .base import Given
from .cells import Cells
from .maps import AnyMap, Logit, between
from .numeric import Numeric, Parts, doubt, is_whole, parts_of

#: How near, in parts of their distance, numbers come to limits that are not given.
NEAR = 0.05
#: Names of columns in per cent.
PERCENT = re.compile(r".*(%|percent|pct|perc\b)", re.IGNORECASE)


@final
@dataclass(frozen=True, kw_only=True)
class Bounded(Numeric):
    """Numbers from a lower to an upper limit by their logit; both limits are among them.

    Where numbers have some decimals the logit is between the outer edges of the cells of both limits.  Where
    they have full precision the limits are atoms.

    >>> kind = Bounded.fit(Cells("share", np.array([0.0, 0.25, 0.5, 1.0])), Given())
    >>> tokens, z = kind.encode(np.array([1.0, 0.75, 0.0]))
    >>> kind.decode(tokens, z).tolist()
    [1.0, 0.75, 0.0]
    """

    word: ClassVar[str] = "bounded"
    options: ClassVar[tuple[str, ...]] = ("limits", "atoms")

    highest: float = 1.0

    @classmethod
    def claim(cls, cells: Cells) -> str | None:
        if cells.textual or is_whole(cells.numbers(cls.word)):
            return None
        return None if _limits(cells) is None else doubt(cells, cls.fit(cells, Given()))

    @classmethod
    def fit(cls, cells: Cells, given: Given) -> Self:
        x = cells.numbers(cls.word)
        limits = given.limits or _limits(cells)
        if limits is None:
            raise cells.error("kind bounded needs its limits, as limits = [0, 1]")
        low, high = limits
        if not low < high:
            raise cells.error(f"limits: expected two that rise, got {low:.10g} and {high:.10g}")
        cells.refuse((x < low) | (x > high), f"its limits are {low:.10g} and {high:.10g}")
        parts = parts_of(cells, Given(lowest=-np.inf, atoms=given.atoms), cls.word)
        if parts.decimals is None:
            inside = (parts.values > low) & (parts.values < high)
            atoms = tuple(sorted({*parts.atoms, float(low), float(high)}))
            parts = dataclasses.replace(parts, values=parts.values[inside], atoms=atoms)
        half = 0.0 if parts.decimals is None else 10.0**-parts.decimals / 2
        return cls(
            name=cells.name,
            missing=cls.allows_missing(cells, given),
            map=between(parts.values, low - half, high + half),
            atoms=parts.atoms,
            decimals=parts.decimals,
            cells=parts.cells,
            lowest=float(low),
            highest=float(high),
        )

    @classmethod
    def shape(cls, parts: Parts) -> AnyMap:
        return Logit(low=0.0, high=1.0, center=0.0, scale=1.0)

    @property
    def treatment(self) -> str:
        return f"{super().treatment}, from {self.lowest:.10g} to {self.highest:.10g}"

    def given(self) -> dict[str, Any]:
        return super().given() | {"limits": (self.lowest, self.highest)}


def _limits(cells: Cells) -> tuple[float, float] | None:
    """Limits that a column comes near to on both sides: 0 and 1, or 0 and 100 where it is in per cent."""
    x = cells.numbers(Bounded.word)
    x = x[~np.isnan(x)]
    low, high = float(x.min()), float(x.max())
    if 0 <= low < NEAR and 1 - NEAR < high <= 1:
        return 0.0, 1.0
    percent = high == 100 or PERCENT.match(cells.name)
    return (0.0, 100.0) if 0 <= low < 100 * NEAR and 100 * (1 - NEAR) < high <= 100 and percent else None
