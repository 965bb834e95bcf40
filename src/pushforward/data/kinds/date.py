"""Days, months or years, and times of days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar, Literal, Self, final

import numpy as np

from . import moments
from .base import ColumnKind, Given, check_tokens
from .cells import Cells
from .clock import Clock, clock_of
from .formats import format_of, formats, in_order, read_all
from .maps import Affine, middle
from .moments import Moment

#: The last day that Python knows, and its year.
LAST, LAST_YEAR = date.max.toordinal(), date.max.year


@final
@dataclass(frozen=True, kw_only=True)
class Date(ColumnKind):
    """Dates, whose first coordinate is the standardised number of the week, month or year.

    With weeks the token is the weekday, Monday first, and then missing.  Months and years stand for their
    first day, as all rows must; the token then only says what is missing.  With a time of day that varies
    there is a second coordinate, its logit between two midnights.

    Decoding rounds to weeks, months or years and to the resolution of the format.  ``log_det`` is in these
    units, so that densities, with a weekday, are probabilities of days, months or years and steps of time.

    format: how the table writes them.  at: the time of all rows in microseconds where it does not vary.

    >>> kind = Date.fit(Cells("day", np.array(["2020-02-28", "2021-01-04"], dtype=object)), Given())
    >>> tokens, numbers = kind.encode(np.array(["2024-02-29"], dtype=object))
    >>> tokens.tolist(), kind.decode(tokens, numbers).tolist()
    ([3], ['2024-02-29'])
    """

    word: ClassVar[str] = "date"
    options: ClassVar[tuple[str, ...]] = ("format", "unit")

    format: str
    unit: Literal["week", "month", "year"]
    place: Affine
    clock: Clock | None = None
    at: int = 0

    @classmethod
    def claim(cls, cells: Cells) -> str | None:
        if not cells.textual:
            return None
        found = formats(cells, dates=True)
        if not found:
            return None
        orders = {"".join(letter for letter in other if letter in "YymbBd") for other in found}
        if len(orders) > 1:
            return f"day or month first? read as {in_order(cells, found)}"
        unit = cls.fit(cells, Given()).unit
        return f'only first days: counted in {unit}s, unit = "week" if not' if unit != "week" else ""

    @classmethod
    def fit(cls, cells: Cells, given: Given) -> Self:
        format = format_of(cells, given, dates=True)
        found = read_all(cells, format)
        present = [moment for moment in found if moment is not None]
        unit = given.unit or _unit(present)
        _check_first(cells, found, unit)
        center, scale = middle(np.array([_number(m.day, unit) for m in present], dtype=np.float64))
        times = np.array([moment.time for moment in present])
        varies = len({*times.tolist()}) > 1
        return cls(
            name=cells.name,
            missing=cls.allows_missing(cells, given),
            format=format,
            unit=unit,
            place=Affine(center=center, scale=scale),
            clock=clock_of(times, moments.resolution(format)) if varies else None,
            at=0 if varies or not present else int(times[0]),
        )

    @property
    def tokens(self) -> int:
        count = self._days + self.missing
        return count if count > 1 else 0

    @property
    def numbers(self) -> int:
        return 1 if self.clock is None else 2

    @property
    def numbered(self) -> int:
        return self._days

    @property
    def bound(self) -> bool:
        return True

    @property
    def _days(self) -> int:
        return 7 if self.unit == "week" else 1

    def encode(
        self, values: np.ndarray | Cells, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        cells = self.read(values)
        found = read_all(cells, self.format)
        _check_first(cells, found, self.unit)
        there = ~cells.missing
        days = np.array([moment.day for moment in found if moment is not None], dtype=np.int64)
        times = np.array([moment.time for moment in found if moment is not None], dtype=np.int64)
        tokens = np.full(len(found), self._days, dtype=np.int64)
        tokens[there] = (days - 1) % self._days
        numbers = np.full((len(found), self.numbers), np.nan)
        shift = 0.0 if generator is None else (generator.random(len(days)) - 0.5) * (1 - 1e-6)
        counted = np.array([_number(day, self.unit) for day in days.tolist()], dtype=np.float64)
        numbers[there, 0] = self.place.forward(counted + shift)
        if self.clock is not None:
            numbers[there, 1] = self.clock.forward(times, generator)
        else:
            other = np.zeros(len(found), dtype=bool)
            other[there] = times != self.at
            cells.refuse(other, f"the time of all rows was {moments.write(Moment(1, self.at), '%H:%M:%S')}")
        return (tokens if self.tokens else None), numbers

    def decode(self, tokens: np.ndarray | None, numbers: np.ndarray) -> np.ndarray:
        check_tokens(self, tokens, numbers)
        tokens = np.zeros(len(numbers), dtype=np.int64) if tokens is None else tokens
        there = tokens != self._days
        counted = np.rint(self.place.inverse(numbers[there, 0]))
        first, last = _number(1, self.unit), _number(LAST, self.unit) - (self.unit == "week")
        if not ((counted >= first) & (counted <= last)).all():
            raise ValueError(f"column {self.name!r}: numbers: expected dates of the years 1 to {LAST_YEAR}")
        days = [_first_day(number, self.unit) for number in counted.astype(np.int64).tolist()]
        times = np.full(len(days), self.at) if self.clock is None else self.clock.inverse(numbers[there, 1])
        found = np.empty(len(numbers), dtype=object)
        found[there] = [
            moments.write(Moment(day + weekday, time), self.format)
            for day, weekday, time in zip(days, tokens[there].tolist(), times.tolist())
        ]
        return found

    def log_det(self, numbers: np.ndarray) -> np.ndarray:
        there = ~np.isnan(numbers[:, 0])
        total = np.where(there, np.log(self.place.scale), 0.0)
        if self.clock is not None:
            total[there] += self.clock.map.log_slope(numbers[there, 1])
        return total

    def seen(self, cells: Cells) -> str:
        present = sorted(moment for moment in read_all(cells, self.format) if moment is not None)
        return f"{moments.write(present[0], self.format)} to {moments.write(present[-1], self.format)}"

    @property
    def treatment(self) -> str:
        unit = f"weekday as token, {self.unit}" if self.unit == "week" else self.unit
        return unit + (" and time of day" if self.clock else "")

    def given(self) -> dict[str, Any]:
        return super().given() | {"format": self.format, "unit": self.unit}


def _number(day: int, unit: str) -> int:
    """Which week, month or year a day is in."""
    if unit == "week":
        return (day - 1) // 7
    found = date.fromordinal(day)
    return found.year * 12 + found.month - 1 if unit == "month" else found.year


def _first_day(number: int, unit: str) -> int:
    """The first day of a week, month or year, the inverse of :func:`_number`."""
    if unit == "week":
        return number * 7 + 1
    year, month = divmod(number, 12) if unit == "month" else (number, 0)
    return date(year, month + 1, 1).toordinal()


def _is_first(day: int, unit: str) -> bool:
    return unit == "week" or _first_day(_number(day, unit), unit) == day


def _unit(present: Sequence[Moment]) -> Literal["week", "month", "year"]:
    """The longest unit on whose first day all dates are; weeks where there is one date alone."""
    days = {moment.day for moment in present}
    for unit in ("year", "month"):
        if len(days) > 1 and all(_is_first(day, unit) for day in days):
            return unit
    return "week"


def _check_first(cells: Cells, found: Sequence[Moment | None], unit: str) -> None:
    bad = np.array([moment is not None and not _is_first(moment.day, unit) for moment in found], dtype=bool)
    cells.refuse(bad, f'unit = "{unit}" takes first days of {unit}s')
