"""The format of a column of dates or times."""

from __future__ import annotations

import re

import numpy as np

from . import moments
from .base import Given
from .cells import Cells
from .moments import Moment

#: Share of the texts that one format must read for a column to be dates or times.
MOST = 0.5


def formats(cells: Cells, dates: bool) -> list[str]:
    """The formats that read all texts of a column, or none where it is not of dates, or of times.

    Raises ValueError for a column of which the most, but not all, are of one format.
    """
    texts = [text for text in cells.texts if text is not None]
    tried = moments.likely(texts, dates) if texts else []
    counts = {format: sum(moment is not None for moment in _read(cells, format)) for format in tried}
    count = max(counts.values(), default=0)
    if count == 0 or count < MOST * len(texts):
        return []
    found = [format for format in tried if counts[format] == count]
    if count < len(texts):
        read = _read(cells, found[0])
        bad = np.array([moment is None for moment in read], dtype=bool) & ~cells.missing
        other = moments.candidates(cells.texts[int(bad.argmax())], dates)
        what = f"two formats of {'dates' if dates else 'times'}: " if other else ""
        cells.refuse(bad, f"{what}most are as {found[0]}")
    return found


def format_of(cells: Cells, given: Given, dates: bool) -> str:
    """The format of a column, unless it is ``given``.  Raises ValueError where there is none."""
    if given.format is not None:
        if (
            not moments.known(given.format)
            or bool({"%Y", "%y"} & {*re.findall("%[a-zA-Z]", given.format)}) != dates
        ):
            example = "%Y-%m-%d" if dates else "%H:%M"
            raise cells.error(
                f"format: expected one such as {example}, got {given.format!r}; "
                f"known: {', '.join(moments.DIRECTIVES)}"
            )
        return given.format
    if cells.textual and (found := formats(cells, dates)):
        return in_order(cells, found)
    told = cells.texts[~cells.missing]
    raise cells.error(
        f"no format of {'dates' if dates else 'times'} is known that reads {told[:1].tolist()}; give one"
    )


def read_all(cells: Cells, format: str) -> list[Moment | None]:
    """The moments of a column, None where a cell is empty.  Raises ValueError for one of another format."""
    found = _read(cells, format)
    bad = np.array([moment is None for moment in found], dtype=bool) & ~cells.missing
    cells.refuse(bad, f"its format is {format}")
    return found


def in_order(cells: Cells, found: list[str]) -> str:
    """Of several formats that read all, the first in which the rows come in order, else the first."""
    for format in found if len(found) > 1 else ():
        days = np.array([moment.day for moment in _read(cells, format) if moment is not None])
        if len(days) > 1 and ((np.diff(days) >= 0).all() or (np.diff(days) <= 0).all()):
            return format
    return found[0]


def _read(cells: Cells, format: str) -> list[Moment | None]:
    """The moments of a column, read once; None where a cell is empty or of another format."""
    if format not in cells.read:
        cells.read[format] = [None if text is None else moments.read(text, format) for text in cells.texts]
    return cells.read[format]
