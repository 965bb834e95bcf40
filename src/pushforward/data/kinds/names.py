"""The kinds by name, in the order in which they are asked whether a column is theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...typed import as_type, shown
from ..text import hint
from .base import ColumnKind
from .boolean import Boolean
from .bounded import Bounded
from .category import Category
from .constant import Constant
from .count import Count
from .date import Date
from .identifier import Identifier
from .integer import Integer
from .ordinal import Ordinal
from .real import Real
from .skewed import Skewed
from .text import FreeText
from .time import Time

KINDS: dict[str, type[ColumnKind]] = {
    kind.word: kind
    for kind in (
        Constant,
        Boolean,
        Date,
        Time,
        Identifier,
        Ordinal,
        Bounded,
        Count,
        Integer,
        Skewed,
        Real,
        Category,
        FreeText,
    )
}


def kind_named(name: str, where: str) -> type[ColumnKind]:
    """The kind of this name.  Raises ValueError, which says ``where``, for an unknown one.

    >>> kind_named("caount", "schema.toml: age")
    Traceback (most recent call last):
    ValueError: schema.toml: age: no kind 'caount'; did you mean 'count'? known: constant, boolean, date, ...
    """
    if name not in KINDS:
        raise ValueError(f"{where}: no kind {name!r}{hint(name, KINDS)}")
    return KINDS[name]


def kind_from_json(data: Any, where: str = "column") -> ColumnKind:
    """Rebuild a kind from its :meth:`~ColumnKind.to_json`.

    Raises ValueError, which says ``where``, for what is none.
    """
    told = as_type(data, dict[str, Any], where)
    if not isinstance(told.get("kind"), str):
        raise ValueError(f"{where}: kind: expected text, got {shown(told.get('kind'))}")
    rest: Mapping[str, Any] = {key: value for key, value in told.items() if key != "kind"}
    return kind_named(told["kind"], where).from_json(rest, where)
