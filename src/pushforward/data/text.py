"""Values as texts: labels, numbers, their order, and the nearest of known names."""

from __future__ import annotations

import difflib
import math
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from torch import Tensor

#: Texts longer than this are cut in messages.
LONGEST = 100
#: Characters of a number.
LONGEST_NUMBER = 5000
#: So many known names are compared with one that is unknown.
COMPARED = 10_000


def hint(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known name, and what is known.

    >>> hint("setoza", ["setosa", "virginica"])
    "; did you mean 'setosa'? known: setosa, virginica"
    """
    known = list(known)
    short = [text for text in known[:COMPARED] if len(text) <= LONGEST]
    near = difflib.get_close_matches(name, short, 1, 0.5) if len(name) <= LONGEST else []
    more = f", ... ({len(known)} in all)" if len(known) > 20 else ""
    listed = f"known: {', '.join(map(_cut, known[:20]))}{more}"
    return f"; did you mean {near[0]!r}? {listed}" if near else f"; {listed}"


def quoted(value: Any) -> str:
    """A value as an error message shows it, in quotes where it is a text; a long one is cut.

    >>> quoted("two"), quoted("a" * 5000)
    ("'two'", "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...' (5,000 characters)")
    """
    if isinstance(value, str) and len(value) > LONGEST:
        return f"{_cut(value)!r} ({len(value):,} characters)"
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:40]}..."


def flag(name: str, columns: Iterable[str]) -> str:
    """A flag with its columns, as they are typed into a shell.

    >>> flag("--exclude", ["a", "b (cm)"])
    "--exclude a 'b (cm)'"
    """
    return " ".join((name, *map(shlex.quote, columns)))


def label_text(value: Any) -> str:
    """The text of a label: whole numbers without a point, texts without blanks around them.

    >>> [label_text(v) for v in (3, 3.0, 2.5, True, " setosa")]
    ['3', '3', '2.5', 'True', 'setosa']
    """
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    return str(value).strip()


def number(text: str) -> float | None:
    """The number that ``text`` writes, or None.

    >>> number("1e3"), number("1_000")
    (1000.0, None)
    """
    try:
        return None if len(text) > LONGEST_NUMBER or "_" in text else float(text)
    except ValueError:
        return None


def is_whole(value: Any) -> bool:
    """Whether ``value`` is an integer of Python or NumPy, and no truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def natural_order(texts: Sequence[str]) -> list[str]:
    """Sort numbers by value, and digits inside texts as numbers.

    >>> natural_order(["10", "9"]), natural_order(["class10", "class9"])
    (['9', '10'], ['class9', 'class10'])
    """
    numbers = [number(text) for text in texts]
    if all(n is not None and math.isfinite(n) for n in numbers):
        return [text for _, text in sorted(zip(cast("list[float]", numbers), texts))]

    def key(text: str) -> list[tuple[int, int, str]]:
        parts = re.split(r"([0-9]+)", text)
        digits = [part.lstrip("0") for part in parts]
        return [
            (1, len(digits[i]), digits[i]) if i % 2 else (2, 0, part) for i, part in enumerate(parts) if part
        ] + [(0, 0, text)]

    return sorted(texts, key=key)


def plain_array(values: Any) -> np.ndarray:
    """A number, text, list, tensor or series as an array of numbers or objects."""
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    try:
        if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
            return values
        return np.asarray(values, dtype=object)
    except ValueError:
        raise ValueError("condition: expected one value or a list of values, got nested lists") from None
