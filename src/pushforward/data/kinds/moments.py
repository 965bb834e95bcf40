"""Formats of dates and times: found in texts, read and written exactly."""

from __future__ import annotations

import calendar
import functools
import itertools
import re
from datetime import date
from typing import NamedTuple

import numpy as np

_MONTHS = [name for name in calendar.month_name if name]
_SHORT = [name[:3] for name in _MONTHS]
#: What a directive stands for; those with ``-`` have no leading zeros.
DIRECTIVES = {
    "%Y": r"(?P<Y>[0-9]{4})",
    "%y": r"(?P<y>[0-9]{2})",
    "%m": r"(?P<m>0[1-9]|1[0-2])",
    "%-m": r"(?P<m>[1-9]|1[0-2])",
    "%b": rf"(?P<b>{'|'.join(_SHORT)})",
    "%B": rf"(?P<B>{'|'.join(_MONTHS)})",
    "%d": r"(?P<d>0[1-9]|[12][0-9]|3[01])",
    "%-d": r"(?P<d>[1-9]|[12][0-9]|3[01])",
    "%H": r"(?P<H>[01][0-9]|2[0-3])",
    "%-H": r"(?P<H>[0-9]|1[0-9]|2[0-3])",
    "%M": r"(?P<M>[0-5][0-9])",
    "%S": r"(?P<S>[0-5][0-9])",
    "%f": r"(?P<f>[0-9]{6})",
}
_DIRECTIVE = re.compile(r"%-?[A-Za-z]")
#: Dates and times of day whose formats are known.
DATES = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y",
    "%d %b %Y", "%d-%b-%Y", "%b %d %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%B %d %Y",
    "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%b-%y", "%Y-%m", "%m/%Y", "%b %Y", "%B %Y",
)  # fmt: skip
TIMES = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f")
#: What may follow a time: a zone, the same in all rows.
ZONE = re.compile(r"(Z| ?UTC|[+-][0-9]{2}:?[0-9]{2})$")
#: Texts that formats are tried on.
TRIED = 100


class Moment(NamedTuple):
    """A day, counted as :meth:`datetime.date.toordinal` does, and a time of it in microseconds."""

    day: int
    time: int


def known(format: str) -> bool:
    """Whether a format writes a month, all of a date or of a time, in directives that are known."""
    found = _DIRECTIVE.findall(format)
    names = {directive[-1] for directive in found}
    day = any({year, month} <= names for year in "Yy" for month in "mbB")
    whole = (day or not names & {*"YymbBd"}) and ({"H", "M"} <= names or not names & {*"HMSf"})
    return bool(found) and len(names) == len(found) and all(part in DIRECTIVES for part in found) and whole


@functools.cache
def pattern(format: str) -> re.Pattern[str]:
    """The texts of a format."""
    literals, directives = _DIRECTIVE.split(format), _DIRECTIVE.findall(format)
    parts = itertools.zip_longest(map(re.escape, literals), (DIRECTIVES[d] for d in directives), fillvalue="")
    return re.compile("".join(itertools.chain(*parts)))


def read(text: str, format: str) -> Moment | None:
    """The moment that a text of this format writes, else None.

    >>> read("01.02.0001 00:01", "%d.%m.%Y %H:%M"), read("30.02.2020", "%d.%m.%Y")
    (Moment(day=32, time=60000000), None)
    """
    found = pattern(format).fullmatch(text)
    if found is None:
        return None
    part = found.groupdict()
    try:
        time = (int(part.get("H", 0)) * 60 + int(part.get("M", 0))) * 60 + int(part.get("S", 0))
        return Moment(_day(part), time * 10**6 + int(part.get("f", 0)))
    except ValueError:  # no such day
        return None


def _day(part: dict[str, str]) -> int:
    names = part.get("b") or part.get("B")
    month = int(part.get("m", 1)) if names is None else _SHORT.index(names[:3]) + 1
    year = int(part.get("Y", 1))
    if "y" in part:  # the century as POSIX has it
        year = int(part["y"]) + (1900 if int(part["y"]) >= 69 else 2000)
    return date(year, month, int(part.get("d", 1))).toordinal()


def write(moment: Moment, format: str) -> str:
    """The text of a moment, the inverse of :func:`read`.

    >>> write(read("1/2/2020 9:05", "%-d/%-m/%Y %-H:%M"), "%-d/%-m/%Y %-H:%M")
    '1/2/2020 9:05'
    """
    day = date.fromordinal(moment.day)
    seconds, rest = divmod(moment.time, 10**6)
    hour, minute, second = seconds // 3600, seconds // 60 % 60, seconds % 60
    texts = {
        "%Y": f"{day.year:04d}",
        "%y": f"{day.year % 100:02d}",
        "%m": f"{day.month:02d}",
        "%-m": str(day.month),
        "%b": _SHORT[day.month - 1],
        "%B": _MONTHS[day.month - 1],
        "%d": f"{day.day:02d}",
        "%-d": str(day.day),
        "%H": f"{hour:02d}",
        "%-H": str(hour),
        "%M": f"{minute:02d}",
        "%S": f"{second:02d}",
        "%f": f"{rest:06d}",
    }
    return _DIRECTIVE.sub(lambda found: texts[found[0]], format)


def resolution(format: str) -> int:
    """Microseconds from one time of this format to the next; 0 where it has none."""
    steps = (("%f", 1), ("%S", 10**6), ("%M", 60 * 10**6))
    return next((step for directive, step in steps if directive in format), 0)


def candidates(text: str, dates: bool) -> list[str]:
    """Formats of dates, or of times alone, that read a text."""
    zone = ZONE.search(text) if ":" in text else None
    end = zone[0] if zone else ""
    times = [*TIMES, *(time.replace("%H", "%-H") for time in TIMES)]
    if not dates:
        formats = [time + end for time in times]
    else:
        days = [*DATES, *(day.replace("%d", "%-d").replace("%m", "%-m") for day in DATES)]
        after = ["", *(between + time + end for between in " T" for time in times)]
        formats = [day + more for day in days for more in after]
    return [format for format in dict.fromkeys(formats) if read(text, format) is not None]


def likely(texts: list[str], dates: bool) -> list[str]:
    """The formats that read the most of some texts, equally many; none for texts without digits.

    >>> likely(["01/02/2020", "31/12/2019"], True)[:1]
    ['%d/%m/%Y']
    """
    places = np.linspace(0, len(texts) - 1, min(len(texts), TRIED)).astype(int).tolist()
    some = [texts[i] for i in places]
    if not any("0" <= letter <= "9" for letter in "".join(some[:3])):
        return []
    formats: dict[str, None] = {}
    for text in some:
        if not any(read(text, format) for format in formats):
            formats |= dict.fromkeys(candidates(text, dates))
    counts = {format: sum(read(text, format) is not None for text in some) for format in formats}
    return [format for format in counts if counts[format] == max(counts.values())]
