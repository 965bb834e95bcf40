"""Schemas as short texts that people read and edit."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from ...typed import AnyNumber, as_type, shown
from .base import ColumnKind, Given
from .names import kind_named
from .table import TableKinds

#: Names that stand without quotes.
_BARE = re.compile(r"[A-Za-z0-9_-]+")
#: Levels that are written at most; more are those of the data.
MOST = 100
_LOWEST = "lowest"


def to_toml(kinds: TableKinds) -> str:
    """A schema as TOML: for each column its kind and what a user may correct.

    >>> import pandas as pd
    >>> from pushforward.data.kinds import infer
    >>> print(to_toml(infer(pd.DataFrame({"sold on": ["2020-01-31", "2021-05-01"]}))))
    # 2 rows of DataFrame
    <BLANKLINE>
    ["sold on"]  # 2020-01-31 to 2021-05-01
    kind = "date"
    format = "%Y-%m-%d"
    unit = "week"
    <BLANKLINE>
    """
    parts = [f"# {kinds.rows:,} rows of {_comment(kinds.source)}\n"]
    for column in kinds.columns:
        about = "; ".join(filter(None, [column.seen, column.doubt]))
        lines = [f"[{_key(column.kind.name)}]  # {_comment(about)}", f'kind = "{column.kind.word}"']
        lines += [f"{name} = {_value(value)}" for name, value in _told(column.kind).items()]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def from_toml(text: str, where: str = "schema") -> dict[str, Given]:
    """What a text says of columns, by their names.

    Raises ValueError, which says ``where``, for what is no TOML, an unknown kind or entry, and a value of
    another type.

    >>> from_toml('[age]\\nkind = "count"')["age"].named()
    {'kind': 'count'}
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{where}: no TOML ({error})") from None
    return {name: _given(told, f"{where}: {shown(name)}") for name, told in data.items()}


def _given(told: Any, where: str) -> Given:
    if not isinstance(told, Mapping):
        raise ValueError(f"{where}: expected a table such as [column], got {shown(told)}")
    rest = {name: value for name, value in told.items() if name != _LOWEST}
    found = as_type(rest, Given, where)
    if found.kind is not None:
        kind_named(found.kind, where)
    for level in found.levels or ():
        if not isinstance(level, str | int | float) or isinstance(level, bool):
            raise ValueError(f"{where}: levels: expected texts or numbers, got {shown(level)}")
    if _LOWEST not in told:
        return found
    lowest = as_type(told[_LOWEST], AnyNumber, where, _LOWEST)
    if math.isnan(lowest) or lowest == math.inf:
        raise ValueError(f"{where}: {_LOWEST}: expected a number or -inf, got {lowest}")
    return Given(**{**found.named(), _LOWEST: lowest})


def _told(kind: ColumnKind) -> dict[str, Any]:
    return {name: value for name, value in kind.given().items() if name != "levels" or len(value) <= MOST}


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))


def _comment(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
