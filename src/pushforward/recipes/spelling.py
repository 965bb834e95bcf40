"""The names of settings in messages: flags on the command line, keywords in Python."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..config import PARTS

#: What rows in memory are called where data are read.
IN_MEMORY = re.compile(r"(array|DataFrame|x, y|y|source)(?=: )")


@contextmanager
def as_keywords() -> Iterator[None]:
    """Errors of the block speak of keywords: ``weight_decay`` and not ``--weight-decay``.

    >>> with as_keywords():
    ...     raise ValueError("--weight-decay: expected a number, got x; use --overwrite")
    Traceback (most recent call last):
    ValueError: weight_decay: expected a number, got x; use overwrite=True
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(keywords(str(error))) from error


def keywords(text: str) -> str:
    """``text`` with every flag of ``train`` spelt as the keyword that it is in Python."""
    known = {"out", "seed", *(f.name for part in PARTS.values() for f in dataclasses.fields(part))}

    def spelt(found: re.Match[str]) -> str:
        name = found[1].replace("-", "_")
        return "overwrite=True" if name == "overwrite" else name if name in known else found[0]

    return re.sub(r"--([a-z]+(?:-[a-z]+)*)", spelt, text)


@contextmanager
def as_argument(name: str | None) -> Iterator[None]:
    """Errors of the block name the argument ``name`` for what is in memory; None changes nothing."""
    try:
        yield
    except ValueError as error:
        if name is None:
            raise
        raise ValueError(IN_MEMORY.sub(rf"{name} (\1)", str(error), count=1)) from error
