"""Columns of numbers: values of a probability of their own, and a coordinate for all others."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import numpy as np

from ..atoms import ATOM_COLUMN
from ..raw import EXACT, out_of_range
from .base import ColumnKind, Given, check_tokens
from .cells import Cells, Level
from .maps import AnyMap

#: How many times as often as the next values on both sides an atom comes, and the share of rows of one among
#: numbers that are spread over their cells, where its density is finite.
OFTEN, ATOM_TIED = 5.0, 0.1
#: Decimals that a file is known by; beyond these its numbers have full precision.
DECIMALS = 12
#: Share of different values below which numbers of some decimals are spread over their cells.
TIED = 0.5
#: Numbers that often stand for a missing one.
CODES = (-9999, -999, -99, -9, -1, 99, 999, 9999)
#: Deviations from the mean from which on a value is doubtful.
OUTLIER = 20.0


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Numbers of a column: those that are no atoms, and how they are written.

    lowest: the least that a number may be.  low: the open end of the interval that is mapped, half a cell
    below it.
    """

    values: np.ndarray
    atoms: tuple[float, ...]
    decimals: int | None
    cells: bool
    lowest: float | None
    low: float | None


@dataclass(frozen=True, kw_only=True)
class Numeric(ColumnKind):
    """Numbers.  Tokens: 0 for a number, then the atoms, then missing; none where there is nothing else.

    map: between what is no atom and its coordinate.  decimals: to which cells are rounded, None for full
    precision.  cells: whether a coordinate stands for all that is rounded to a cell, as for integers.  whole:
    whether they are integers in the table.  lowest: the least that a cell may be.
    """

    options: ClassVar[tuple[str, ...]] = ("atoms", "lowest")

    map: AnyMap
    atoms: tuple[float, ...] = ()
    decimals: int | None = None
    cells: bool = False
    whole: bool = False
    lowest: float | None = None

    @classmethod
    @abstractmethod
    def shape(cls, parts: Parts) -> AnyMap:
        """The map for what is no atom."""

    @classmethod
    def fit(cls, cells: Cells, given: Given) -> Self:
        x = cells.numbers(cls.word)
        parts = parts_of(cells, given, cls.word)
        whole = is_whole(x)
        return cls(
            name=cells.name,
            missing=cls.allows_missing(cells, given),
            map=cls.shape(parts),
            atoms=parts.atoms,
            decimals=parts.decimals,
            cells=parts.cells,
            whole=whole and (cells.values.dtype.kind != "f" or bool(cells.missing.any())),
            lowest=parts.lowest,
        )

    @property
    def tokens(self) -> int:
        count = 1 + len(self.atoms) + self.missing
        return count if count > 1 else 0

    @property
    def numbers(self) -> int:
        return 1

    @property
    def bound(self) -> bool:
        return self.cells

    def encode(
        self, values: np.ndarray | Cells, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        cells = self.read(values)
        x = cells.numbers(self.word)
        tokens = np.zeros(len(x), dtype=np.int64)
        for i, atom in enumerate(self.atoms):
            tokens[x == atom] = i + 1
        tokens[cells.missing] = len(self.atoms) + 1
        free = tokens == 0
        if self.cells and self.decimals == 0:
            cells.refuse(free & (x != np.rint(x)), f"kind {self.word} takes whole numbers")
        low, high = self.map.interval
        cells.refuse(free & ~((x > low) & (x < high)), f"kind {self.word} takes {self._limits()}")
        y = x[free]
        if self.cells and generator is not None:
            # a little less than the cell, so that no rounding leads out of it
            y = y + (generator.random(len(y)) - 0.5) * (1 - 1e-6) * _step(self.decimals)
        numbers = np.full((len(x), 1), np.nan)
        numbers[free, 0] = self.map.forward(y)
        return (tokens if self.tokens else None), numbers

    def decode(self, tokens: np.ndarray | None, numbers: np.ndarray) -> np.ndarray:
        check_tokens(self, tokens, numbers)
        tokens = np.zeros(len(numbers), dtype=np.int64) if tokens is None else tokens
        free = tokens == 0
        with np.errstate(over="ignore"):
            y = self.map.inverse(numbers[free, 0])
        if not np.isfinite(y).all():
            raise ValueError(f"column {self.name!r}: numbers: expected finite ones that decode to such")
        if self.decimals is not None:
            low, high = self._edges()
            y = np.clip(np.round(y, self.decimals), low, high) + 0.0  # no -0
        x = np.full(len(tokens), np.nan)
        x[free] = y
        for i, atom in enumerate(self.atoms):
            x[tokens == i + 1] = atom
        return x.astype(np.int64) if self.whole and not self.missing else x

    def log_det(self, numbers: np.ndarray) -> np.ndarray:
        z = numbers[:, 0]
        return np.where(np.isnan(z), 0.0, self.map.log_slope(np.nan_to_num(z)))

    def seen(self, cells: Cells) -> str:
        x = cells.numbers(self.word)
        x = x[~np.isnan(x)]
        counts = [(atom, int((x == atom).sum())) for atom in self.atoms]
        held = [f"{atom:.10g} in {share_text(count / len(cells))}" for atom, count in counts if count]
        return ", ".join([f"{x.min():.10g} to {x.max():.10g}", *held])

    @property
    def treatment(self) -> str:
        extra = ["rounded"] * self.cells
        if self.atoms:
            extra.append(f"{', '.join(f'{atom:.10g}' for atom in self.atoms)} on its own")
        return ", ".join([self.map.word, *extra])

    def given(self) -> dict[str, Any]:
        lowest = -math.inf if self.lowest is None else self.lowest
        said = super().given() | ({"lowest": lowest} if "lowest" in self.options else {})
        return said | ({"atoms": self.atoms} if self.atoms else {})

    def _edges(self) -> tuple[float, float]:
        """The lowest and the highest number of such decimals inside the limits."""
        half = _step(self.decimals) / 2
        low, high = self.map.interval
        decimals = cast(int, self.decimals)
        return (
            low if math.isinf(low) else round(low + half, decimals),
            high if math.isinf(high) else round(high - half, decimals),
        )

    def _limits(self) -> str:
        low, high = self.map.interval if self.decimals is None else self._edges()
        ends = "above" if self.decimals is None else "from"
        return f"numbers {ends} {low:.10g}" + ("" if math.isinf(high) else f" up to {high:.10g}")


# -- what numbers are ---------------------------------------------------------------------------------


def is_whole(x: np.ndarray) -> bool:
    """Whether all numbers that are there are whole."""
    x = x[~np.isnan(x)]
    return bool((x == np.rint(x)).all())


def parts_of(cells: Cells, given: Given, kind: str) -> Parts:
    """The numbers of a column, its atoms found unless they are ``given``.

    Raises ValueError for what is no number, too large, or below the lowest that is given.
    """
    x = cells.numbers(kind)
    x = x[~np.isnan(x)]
    if what := out_of_range(x) if len(x) else "no number at all":
        raise cells.error(f"kind {kind} cannot compute with it ({what}); use other units")
    if is_whole(x) and len(x) and np.abs(x).max() > EXACT:
        raise cells.error('integers beyond 2^53 are not exact; an identifier? (kind = "identifier")')
    levels, decimals = cells.levels_of(x), 0 if is_whole(x) else decimals_of(x)
    often = decimals is not None and (decimals == 0 or len(levels) < TIED * len(x))
    atoms = given.atoms
    if atoms is None:
        atoms = frequent(levels, ATOM_TIED if often else ATOM_COLUMN)
        atoms = tuple(sorted({*atoms, *(level.value for level in codes(levels))}))
    rest = x[~np.isin(x, atoms)]
    tied = decimals is not None and len(np.unique(rest)) < TIED * len(rest)
    lowest = _lowest(rest) if given.lowest is None else given.lowest
    lowest = None if lowest is None or math.isinf(lowest) else float(lowest)
    if lowest is not None:
        all_x = cells.numbers(kind)
        cells.refuse((all_x < lowest) & ~np.isin(all_x, atoms), f"lowest = {lowest:.10g}")
        edge = rest == lowest
        if decimals is None and edge.any():  # nothing can be mapped there
            atoms, rest = tuple(sorted((*atoms, lowest))), rest[~edge]
    low = None if lowest is None else lowest - _step(decimals) / 2
    if lowest is not None and low is not None and lowest in atoms:
        low += _step(decimals)
    return Parts(
        values=rest,
        atoms=atoms,
        decimals=decimals,
        cells=tied or decimals == 0,
        lowest=lowest,
        low=low,
    )


def frequent(levels: tuple[Level, ...], share: float = ATOM_COLUMN) -> tuple[float, ...]:
    """Values in over a ``share`` of the rows that come far more often than the next ones on both sides.

    >>> frequent((Level(0.0, 30), *(Level(float(i), 2) for i in range(1, 36))))
    (0.0,)
    """
    counts = np.array([0, *(level.rows for level in levels), 0])
    bar = np.maximum(OFTEN * np.maximum(counts[:-2], counts[2:]), max(1, share * counts.sum()))
    return tuple(level.value for level, least in zip(levels, bar) if level.rows > least)


def decimals_of(x: np.ndarray) -> int | None:
    """The fewest decimals that write all numbers exactly, None where it takes over twelve.

    >>> decimals_of(np.array([0.25, 3.0])), decimals_of(np.array([1 / 3]))
    (2, None)
    """
    largest = np.abs(x).max() if len(x) else 0.0
    for decimals in range(DECIMALS + 1):
        if largest * 10.0**decimals > EXACT:
            return None
        if (np.round(x, decimals) == x).all():
            return decimals
    return None


def codes(levels: tuple[Level, ...]) -> list[Level]:
    """Values at an end of a column, far from the next, that repeat and often stand for missing ones.

    >>> [level.value for level in codes((Level(-999, 2), Level(1, 5), Level(2, 9), Level(3, 1)))]
    [-999]
    """
    values, found = [level.value for level in levels], []
    for code, near, far in ((0, 1, -1), (-1, -2, 0)) if len(levels) > 2 else ():
        gap, span = abs(values[code] - values[near]), abs(values[near] - values[far])
        if values[code] in CODES and levels[code].rows > 1 and gap > max(1, span / 2):
            found.append(levels[code])
    return found


def doubt(cells: Cells, kind: Numeric) -> str:
    """What is doubtful in a column of numbers: a code for missing ones, and one far from the rest."""
    levels = cells.levels_of(cells.numbers(kind.word))
    for code in codes(levels):
        return f"{code.value:.10g} in {code.rows:,} rows: missing?"
    rest = np.array([level.value for level in levels if level.value not in kind.atoms])
    z = np.abs(kind.map.forward(rest))
    return f"{rest[z.argmax()]:.10g} lies far from the rest" if len(z) and z.max() > OUTLIER else ""


def share_text(share: float) -> str:
    """A share in per cent.

    >>> share_text(0.225), share_text(0.0), share_text(1e-5)
    ('22.5 %', '0 %', '<0.1 %')
    """
    return "0 %" if share == 0 else "<0.1 %" if share < 0.001 else f"{100 * share:.3g} %"


def _step(decimals: int | None) -> float:
    return 0.0 if decimals is None else 10.0**-decimals


def _lowest(x: np.ndarray) -> float | None:
    """0 for numbers of at least 0 that come near it."""
    return 0.0 if len(x) and 0 <= x.min() <= x.max() / 2 else None
