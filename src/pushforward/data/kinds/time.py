"""Times of day without a day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np

from . import moments
from .base import ColumnKind, Given, check_tokens
from .cells import Cells
from .clock import Clock, clock_of
from .formats import format_of, formats, read_all
from .moments import Moment


@final
@dataclass(frozen=True, kw_only=True)
class Time(ColumnKind):
    """Times of day, by their logit between two midnights; a token says which are missing, where any may be.

    Decoding rounds to the resolution of the ``format``, in steps of which ``log_det`` is.

    >>> kind = Time.fit(Cells("at", np.array(["9:05", "17:30"], dtype=object)), Given())
    >>> kind.format, kind.decode(*kind.encode(np.array(["0:00", "23:59"], dtype=object))).tolist()
    ('%-H:%M', ['0:00', '23:59'])
    """

    word: ClassVar[str] = "time"
    options: ClassVar[tuple[str, ...]] = ("format",)

    format: str
    clock: Clock

    @classmethod
    def claim(cls, cells: Cells) -> str | None:
        return "" if cells.textual and formats(cells, dates=False) else None

    @classmethod
    def fit(cls, cells: Cells, given: Given) -> Self:
        format = format_of(cells, given, dates=False)
        times = np.array([moment.time for moment in read_all(cells, format) if moment is not None])
        return cls(
            name=cells.name,
            missing=cls.allows_missing(cells, given),
            format=format,
            clock=clock_of(times, moments.resolution(format)),
        )

    @property
    def tokens(self) -> int:
        return 2 if self.missing else 0

    @property
    def numbers(self) -> int:
        return 1

    @property
    def bound(self) -> bool:
        return True

    def encode(
        self, values: np.ndarray | Cells, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        cells = self.read(values)
        times = np.array([m.time for m in read_all(cells, self.format) if m is not None], dtype=np.int64)
        numbers = np.full((len(cells), 1), np.nan)
        numbers[~cells.missing, 0] = self.clock.forward(times, generator)
        return (cells.missing.astype(np.int64) if self.missing else None), numbers

    def decode(self, tokens: np.ndarray | None, numbers: np.ndarray) -> np.ndarray:
        check_tokens(self, tokens, numbers)
        there = np.ones(len(numbers), dtype=bool) if tokens is None else tokens == 0
        times = self.clock.inverse(numbers[there, 0]).tolist()
        found = np.empty(len(numbers), dtype=object)
        found[there] = [moments.write(Moment(1, time), self.format) for time in times]
        return found

    def log_det(self, numbers: np.ndarray) -> np.ndarray:
        z = numbers[:, 0]
        return np.where(np.isnan(z), 0.0, self.clock.map.log_slope(np.nan_to_num(z)))

    def seen(self, cells: Cells) -> str:
        texts = sorted(
            (m, text) for m, text in zip(read_all(cells, self.format), cells.texts) if m is not None
        )
        return f"{texts[0][1]} to {texts[-1][1]}"

    @property
    def treatment(self) -> str:
        return "logit of the day"

    def given(self) -> dict[str, Any]:
        return super().given() | {"format": self.format}
