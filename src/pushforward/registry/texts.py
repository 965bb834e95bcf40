"""Components as texts ``name,option=value``, and quotations in errors."""

from __future__ import annotations

import ast
import difflib
import math
import re
import warnings
from typing import Any

__all__ = ["OWN", "is_number", "literal", "own_classes", "quoted", "split", "suggest"]

#: How a class of the user's own is written.
OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def quoted(text: Any) -> str:
    """A value in quotes, printable and shortened.

    >>> quoted("\\x1b[31m" + "a" * 100)
    "'\\\\x1b[31maaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'"
    """
    if isinstance(text, str):
        return repr(text if len(text) <= 80 else f"{text[:80]}...")
    told = repr(text)
    return told if len(told) <= 80 else f"{told[:80]}..."


def suggest(name: str, known: Any) -> str:
    """`` (did you mean ...?)`` or the list of known names, for the end of an error message."""
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def split(spec: str) -> list[str]:
    """Split at commas that stand outside brackets."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(spec):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(spec[start:place].strip())
            start = place + 1
    return [*parts, spec[start:].strip()]


def literal(text: str) -> Any:
    """A number, a sequence of such, ..., as Python writes it; else the text itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of texts that are nearly Python
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def is_number(spec: Any) -> bool:
    """Whether ``spec`` is the text of a plain finite number, which some components may be given as."""
    try:
        return isinstance(spec, str) and math.isfinite(float(spec))
    except ValueError:
        return False


def own_classes(*specs: Any) -> tuple[str, ...]:
    """The ``module:Class`` of every one of ``specs`` that names one; what is no text has none.

    >>> own_classes("my_paths:Curved,strength=2", "euler,steps=4", None)
    ('my_paths:Curved',)
    """
    names = (split(spec)[0] for spec in specs if isinstance(spec, str))
    return tuple(name for name in names if OWN.fullmatch(name))
