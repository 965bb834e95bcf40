"""Checks of the names, types and sizes of the options of a component."""

from __future__ import annotations

import functools
import inspect
import math
import operator
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from ..typed import as_type
from .texts import quoted, suggest

__all__ = ["check_options", "hints_of"]

#: The largest whole number among the options of a component.
LARGEST = 10**6
#: What every network and flow is called with by position; no option.
DATA = ("event_shape", "condition")
#: Types of which a value can be written as text.
_PLAIN = (bool, int, float, str)


def check_options(make: Any, options: Mapping[str, Any], given: int, where: str) -> None:
    """Raise ValueError, which says ``where``, for options that ``make`` does not take.

    given: arguments that it is called with by position.
    """
    try:
        parameters = list(inspect.signature(make).parameters.values())[given:]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from None
    hints = hints_of(make)
    named = {name: hint for p in parameters for name, hint in _named(p, hints.get(p.name, Any)).items()}
    plain = {name: _plain(hint) for name, hint in named.items() if name not in DATA}
    known = [name for name, hint in plain.items() if hint is not None]
    for option, value in options.items():
        if option not in known:
            takes = suggest(option[:80], known) if known else "; it takes none"
            raise ValueError(f"{where}: unknown option {quoted(option)}{takes}")
        as_type(value, plain[option], f"{where}: {option}")
        _check_size(value, f"{where}: {option}")


def hints_of(make: Any) -> dict[str, Any]:
    """The types of the arguments of a class or a function, none where these cannot be told."""
    try:
        return typing.get_type_hints(make.__init__ if isinstance(make, type) else make)
    except Exception:
        return {}


def _named(parameter: inspect.Parameter, hint: Any) -> dict[str, Any]:
    """What a parameter is named, with its type; of ``**rest: Unpack[Options]`` each of these options."""
    if parameter.kind is parameter.VAR_KEYWORD and typing.get_origin(hint) is typing.Unpack:
        return typing.get_type_hints(*typing.get_args(hint))
    by_name = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    return {parameter.name: hint} if by_name else {}


def _plain(hint: Any) -> Any:
    """``hint`` as far as its values can be written as text; None where they cannot.

    >>> _plain(int | None), _plain(Sequence[float] | types.FunctionType | None), _plain(type | None)
    (int | None, collections.abc.Sequence[float] | None, None)
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        plain = [part for part in map(_plain, parts) if part is not None]
        none = [types.NoneType] if types.NoneType in parts else []
        return functools.reduce(operator.or_, [*plain, *none]) if plain else None
    if origin in (list, tuple, Sequence, Mapping, dict):
        return hint if all(part is ... or _plain(part) is not None for part in parts) else None
    return hint if hint in _PLAIN or origin is typing.Literal or hint is Any else None


def _check_size(value: Any, where: str) -> None:
    """Refuse numbers that are too large for a number of rows, layers or steps."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, got {value}")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"{where}: expected at most {LARGEST:,}, got {quoted(value)}")
    if isinstance(value, list | tuple | set):
        for part in value:
            _check_size(part, where)
    if isinstance(value, Mapping):
        _check_size([*value, *value.values()], where)
