"""All faults of the columns of a table, in one message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .dependence import dependent
from .raw import EXACT, Raw, as_numbers, cells_missing, out_of_range
from .text import flag, label_text, number

#: Columns of one kind of problem, and columns of a suggestion, that a message names.
SHOWN, SUGGESTED = 5, 20
#: Kinds of problems: what one column does, what several do, and what to do about it.
KINDS = {
    "twice": ("occurs twice", "occur twice", "rename one of them"),
    "text": ("holds text", "hold text", ""),
    "date": ("holds dates", "hold dates", ""),
    "truth": ("holds yes or no", "hold yes or no", ""),
    "comma": ("has decimal commas", "have decimal commas", "write decimals with a point"),
    "stray": ("holds text among numbers", "hold text among numbers", "mend the cells"),
    "missing": ("has missing cells", "have missing cells", "fill in the cells or drop the rows"),
    "infinite": ("has infinite cells", "have infinite cells", ""),
    "empty": ("is empty", "are empty", ""),
    "constant": ("is constant", "are constant", ""),
    "extreme": (
        "is too far from 1 to compute with",
        "are too far from 1 to compute with",
        "use other units",
    ),
    "large": ("holds integers beyond 2^53", "hold integers beyond 2^53", "these are not exact"),
    "equal": ("repeats another", "repeat others", "the density would be infinite"),
    "combined": (
        "is an exact linear combination of others",
        "are exact linear combinations of others",
        "the density would be infinite",
    ),
}

_MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[ap]m)?( ?(z|utc|[+-]\d{2}:?\d{2}))?"
_DAY = (
    rf"(\d{{4}}[-/.]\d{{1,2}}([-/.]\d{{1,2}})?|\d{{1,2}}[-/.]\d{{1,2}}[-/.](\d{{4}}|\d{{2}})"
    rf"|\d{{1,2}}\.?[- ]{_MONTH}\.?[- ,]*\d{{2,4}}|{_MONTH}\.? \d{{1,2}}(st|nd|rd|th)?,? \d{{4}})"
)
#: Dates: 2024-03-01, 2024-03-01T12:30:00Z, 1/3/2024, 01.03.24, 1 March 2024, Mar 1, 2024, 12:30.
DATE = re.compile(rf"{_DAY}([t ]+{_CLOCK})?|{_CLOCK}", re.IGNORECASE)
TRUTH = ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"}, {"on", "off"})


@dataclass(frozen=True)
class Problem:
    """One of :data:`KINDS`, the column that has it, what a person needs to find it, and in which row."""

    kind: str
    column: str
    detail: str = ""
    row: int | None = None

    def found(self, raw: Raw) -> str:
        """What stands behind the column in a message."""
        text = self.detail if self.row is None else self.detail + raw.where(self.row)
        return f" ({text})" if text else ""


def check_columns(
    raw: Raw, kept: Sequence[str], condition: Sequence[str], exclude: Sequence[str], free: bool = True
) -> None:
    """Look at the columns that are data and at those of the condition; ``exclude`` are left out already.

    free: whether no column may follow from others, as it may for points of a manifold.

    Raises one ValueError that names every column that cannot be used, by kind, and flags that mend it.
    """
    found: list[Problem] = []
    good: list[np.ndarray] = []
    names: list[str] = []
    for name in kept:
        seen = inspect(raw, name)
        if isinstance(seen, Problem):
            found.append(seen)
        else:
            good.append(seen)
            names.append(name)
    if free and len(good) > 1:
        found += _dependences(np.stack(good, 1), names)
    leave = [name for name in kept if any(problem.column == name for problem in found)]
    found += [problem for name in condition if (problem := _of_condition(raw, name)) is not None]
    if found:
        of_kind = {kind: [problem for problem in found if problem.kind == kind] for kind in KINDS}
        said = [_sentence(raw, kind, problems) for kind, problems in of_kind.items() if problems]
        texts = [problem.column for problem in found if problem.kind in ("text", "truth")]
        texts = [name for name in texts if _can_be_label(raw.columns[name])]
        raise ValueError(f"{raw.source}: {'; '.join([*said, *_suggestions(kept, leave, texts, exclude)])}")


def inspect(raw: Raw, name: str) -> Problem | np.ndarray:
    """What is wrong with a column of data, or else its numbers ``(N,)``."""
    column = raw.columns[name]
    if name in raw.repeated:
        return Problem("twice", name)
    if column.dtype.kind in "iu" and (column.max() > EXACT or column.min() < -EXACT):
        return Problem("large", name)
    values, text = as_numbers(column)
    missing = np.isnan(values) & ~text
    infinite = np.isinf(values)
    if missing.all():
        return Problem("empty", name)
    if text.any():
        return _of_text(raw, name, text, missing)
    for kind, bad in (("missing", missing), ("infinite", infinite)):
        if bad.any():
            return _cells(kind, name, bad)
    if values.min() == values.max():
        return Problem("constant", name, f"always {values[0]:g}")
    if what := out_of_range(values, values.dtype == np.float32):
        return Problem("extreme", name, what)
    return values


def _of_text(raw: Raw, name: str, text: np.ndarray, missing: np.ndarray) -> Problem:
    first = int(text.argmax())
    one = str(raw.columns[name][first]).strip()
    cells = {str(cell).strip() for cell in {*raw.columns[name][text]}}
    shown = repr(one if len(one) <= 30 else one[:27] + "...")
    if text.sum() < (~missing).sum() / 2:
        return Problem("stray", name, f"{shown} at ", first)
    if all(number(cell.replace(",", ".", 1)) is not None for cell in cells):
        return Problem("comma", name, f"{shown} at ", first)
    distinct = {cell.lower() for cell in cells}
    if any(distinct <= pair for pair in TRUTH):
        return Problem("truth", name, shown)
    dates = all(DATE.fullmatch(cell) for cell in distinct)
    return Problem("date" if dates else "text", name, shown)


def _of_condition(raw: Raw, name: str) -> Problem | None:
    column = raw.known(name, "condition")
    empty = cells_missing(column)
    if name in raw.repeated:
        return Problem("twice", name)
    if empty.any():
        return _cells("missing", name, empty)
    if len({*column.tolist()}) == 1:
        return Problem("constant", name, f"always {label_text(column[0])}")
    if column.dtype.kind == "f" and (what := out_of_range(column, single=True)):
        return Problem("extreme", name, what)
    return None


def _dependences(x: np.ndarray, names: Sequence[str]) -> list[Problem]:
    found = []
    for j, others in dependent(x).items():
        same = len(others) == 1 and np.array_equal(x[:, j], x[:, others[0]])
        found.append(Problem("equal" if same else "combined", names[j], _listed([names[i] for i in others])))
    return found


def _cells(kind: str, name: str, bad: np.ndarray) -> Problem:
    count = int(bad.sum())
    return Problem(kind, name, "1, at " if count == 1 else f"{count}, the first at ", int(bad.argmax()))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def _sentence(raw: Raw, kind: str, found: Sequence[Problem]) -> str:
    one, many, advice = KINDS[kind]
    if len(found) == 1:
        text = f"column {found[0].column!r} {one}{found[0].found(raw)}"
    else:
        named = [f"{problem.column!r}{problem.found(raw)}" for problem in found[:SHOWN]]
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        text = f"columns {', '.join(named)}{more} {many}"
    return f"{text}: {advice}" if advice else text


def _suggestions(
    kept: Sequence[str], leave: Sequence[str], texts: Sequence[str], exclude: Sequence[str]
) -> list[str]:
    """Flags that mend the problems of data columns ``leave``, as they can be pasted."""
    left = [name for name in kept if name not in leave]
    found = []
    if leave and not left:
        found.append("no other column is left to learn")
    elif 0 < len(leave) <= SUGGESTED:
        found.append(f"leave out with {flag('--exclude', [*exclude, *leave])}")
    elif leave and len(left) <= SUGGESTED:
        found.append(f"keep the others with {flag('--columns', left)}")
    if left and texts:
        found.append(f"or keep text as a condition: {flag('--condition', texts[:SHOWN])}")
    return found


def _can_be_label(column: np.ndarray) -> bool:
    """Whether a column of texts can be the condition as it is: none is missing, and they repeat."""
    return not cells_missing(column).any() and 1 < len({*map(str, column)}) <= len(column) / 2
