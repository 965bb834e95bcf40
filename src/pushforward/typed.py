"""Plain data from a file or a text as typed values."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, Required, Union

import msgspec

__all__ = [
    "AnyNumber",
    "Count",
    "as_told",
    "as_type",
    "shown",
]

#: Integers beyond this are no count and no size of anything.
LARGEST = 2**63 - 1
#: Characters of a value that an error message shows.
SHOWN = 40

#: A number that may be infinite or not a number, which others may not.
AnyNumber = Annotated[float, "any"]
#: A whole number of at least 0.
Count = Annotated[int, msgspec.Meta(ge=0)]

_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    types.NoneType: "null",
    list: "a list",
    tuple: "a list",
    dict: "an object",
}


def as_type(data: Any, hint: Any, where: str, path: str = "") -> Any:
    """``data`` as ``hint`` says: dataclasses from objects, tuples from lists; nothing else is converted.

    Objects have the entries of their dataclass and no others; a TypedDict keeps others as they are.  Of a
    union of dataclasses the one is taken that shares most entries.  Numbers are finite, unless they are
    :data:`AnyNumber`.

    Raises ValueError that says ``where``, the entry, what was expected and what came; entries are those below
    ``path``.

    >>> as_type([1, 2], tuple[int, ...], "sizes")
    (1, 2)
    >>> as_type({"rate": "fast"}, dict[str, float | None], "file.json")
    Traceback (most recent call last):
    ValueError: file.json: rate: expected a number or null, got "fast"
    """
    return _convert(data, hint, where, path)


def shown(value: Any) -> str:
    """A value of JSON for a message, in one short line.

    >>> shown("fast"), shown(None), shown({"a": 1}), shown(list(range(30)))
    ('"fast"', 'null', 'an object', 'a list of 30')
    """
    if isinstance(value, Mapping):
        return "an object" if value else "an empty object"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a number of many digits"
    if isinstance(value, list | tuple):
        if len(value) > SHOWN or any(isinstance(part, list | tuple | Mapping) for part in value):
            return f"a list of {len(value):,}"
        value = list(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= SHOWN:
        return text
    return f"a list of {len(value):,}" if isinstance(value, list) else f"{text[: SHOWN - 3]}..."


def _convert(data: Any, hint: Any, where: str, path: str) -> Any:
    hint, inner, nullable = *_unwrapped(hint), False
    origin = typing.get_origin(inner)
    if origin in (Union, types.UnionType):
        options = [option for option in typing.get_args(inner) if option is not types.NoneType]
        nullable = len(options) < len(typing.get_args(inner))
        if nullable and data is None:
            return None
        objects = [option for option in options if _is_object(option)]
        if objects and (len(options) == len(objects) or isinstance(data, dict)):
            inner = hint = max(objects, key=lambda option: _shared(option, data))
        elif len(options) == 1:
            hint, inner = _unwrapped(options[0])
        origin = typing.get_origin(inner)
    if inner is Any:
        return data
    if _is_object(inner):
        _expect(data, dict, where, path, nullable)
        return _object(data, inner, where, path)
    if origin is dict:
        _expect(data, dict, where, path, nullable)
        kind = typing.get_args(inner)[1]
        return {key: _convert(value, kind, where, _under(path, key)) for key, value in data.items()}
    if origin in (list, tuple):
        _expect(data, list, where, path, nullable)
        kinds = typing.get_args(inner)
        if origin is list or kinds[1:] == (...,):
            found = _elements(data, kinds[0], where, path)
        elif len(data) != len(kinds):
            raise _wrong(where, path, f"a list of {len(kinds)}", data)
        else:
            places = enumerate(zip(data, kinds))
            found = [_convert(part, kind, where, f"{path}[{i}]") for i, (part, kind) in places]
        return origin(found)
    return _leaf(data, hint, where, path, nullable)


def _elements(data: Any, kind: Any, where: str, path: str) -> list[Any]:
    if kind is float:  # lists of numbers are long
        try:
            found = msgspec.convert(data, list[float], strict=True)
            if all(map(math.isfinite, found)):
                return found
        except msgspec.ValidationError:
            pass  # said below, of the element that it is
    return [_convert(part, kind, where, f"{path}[{i}]") for i, part in enumerate(data)]


def _unwrapped(hint: Any) -> tuple[Any, Any]:
    """A hint without what says whether its key has to be there, and without its annotations too."""
    if typing.get_origin(hint) in (Required, NotRequired):
        hint = typing.get_args(hint)[0]
    return hint, hint.__origin__ if typing.get_origin(hint) is Annotated else hint


def _is_object(hint: Any) -> bool:
    return (isinstance(hint, type) and dataclasses.is_dataclass(hint)) or typing.is_typeddict(hint)


@functools.cache
def _entries(kind: Any) -> tuple[dict[str, Any], set[str]]:
    """The hints of an object's entries, and which of them have to be there."""
    hints = typing.get_type_hints(kind, include_extras=True)
    if typing.is_typeddict(kind):
        # __required_keys__ knows nothing of NotRequired where annotations are texts
        origins = {name: typing.get_origin(hint) for name, hint in hints.items()}
        if kind.__total__:
            return hints, {name for name, origin in origins.items() if origin is not NotRequired}
        return hints, {name for name, origin in origins.items() if origin is Required}
    missing = dataclasses.MISSING
    fields = [field for field in dataclasses.fields(kind) if field.init]
    needed = {f.name for f in fields if f.default is missing and f.default_factory is missing}
    return {field.name: hints[field.name] for field in fields}, needed


def _shared(kind: Any, data: Any) -> int:
    return len({*_entries(kind)[0]} & {*data}) if isinstance(data, dict) else 0


def _object(data: dict[str, Any], kind: Any, where: str, path: str) -> Any:
    hints, needed = _entries(kind)
    plain = typing.is_typeddict(kind)
    for name in data:
        if name not in hints and not plain:
            near = difflib.get_close_matches(str(name), hints, 1, 0.5)
            more = f"did you mean {near[0]}?" if near else f"known: {', '.join(hints)}"
            raise ValueError(f"{where}: {_under(path, shortened(name))}: unknown entry; {more}")
    for name in hints:
        if name in needed and name not in data:
            raise ValueError(f"{where}: {_under(path, name)} is missing; expected {_words(hints[name])}")
    values = {
        name: _convert(value, hints[name], where, _under(path, name)) if name in hints else value
        for name, value in data.items()
    }
    if plain:
        return values
    try:
        return kind(**values)
    except ValueError as error:
        told = str(error).removeprefix(f"{path.rpartition('.')[2] or where}: ")
        raise ValueError(f"{where}: {_said(path, told)}") from None


def _leaf(data: Any, hint: Any, where: str, path: str, nullable: bool) -> Any:
    try:
        found = msgspec.convert(data, hint, strict=True)
    except (msgspec.ValidationError, OverflowError):
        raise _wrong(where, path, _words(hint, nullable), data) from None
    if isinstance(found, float) and not math.isfinite(found) and "any" not in _notes(hint):
        raise _wrong(where, path, _words(hint, nullable).replace("a number", "a finite number"), data)
    if isinstance(found, int) and abs(found) > LARGEST:
        raise _wrong(where, path, f"{_words(hint, nullable)} of at most {LARGEST}", data)
    return found


def _notes(hint: Any) -> tuple[Any, ...]:
    return hint.__metadata__ if typing.get_origin(hint) is Annotated else ()


def _expect(data: Any, kind: type, where: str, path: str, nullable: bool) -> None:
    if not isinstance(data, (list, tuple) if kind is list else kind):
        raise _wrong(where, path, _WORDS[kind] + " or null" * nullable, data)


def _wrong(where: str, path: str, expected: str, value: Any) -> ValueError:
    return ValueError(f"{where}: {_said(path, f'expected {expected}, got {shown(value)}')}")


def _said(path: str, text: str) -> str:
    return f"{path}: {text}" if path else text


def _under(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def shortened(name: Any) -> str:
    """The name of an entry in one short line."""
    text = " ".join(str(name).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _words(hint: Any, nullable: bool = False) -> str:
    """What ``hint`` asks for, in words.

    >>> _words(int | None), _words(Literal["a", "b"]), _words(Count), _words(tuple[str, ...])
    ('a whole number or null', 'one of a, b', 'a whole number of at least 0', 'a list')
    """
    hint, inner = _unwrapped(hint)
    origin = typing.get_origin(inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(option) for option in typing.get_args(inner)))
    if origin is Literal:
        text = f"one of {', '.join(map(str, typing.get_args(inner)))}"
    else:
        text = _WORDS.get(origin or inner, "an object")
    for note in _notes(hint):
        if isinstance(note, msgspec.Meta):
            text += "" if note.ge is None else f" of at least {note.ge:g}"
            text += "" if note.gt is None else f" above {note.gt:g}"
            text += "" if note.le is None else f" of at most {note.le:g}"
    return text + " or null" * nullable


def as_told(part: type, name: str, value: Any) -> Any:
    """``value`` as the command line would read it: a text where several may be given, a number as a text."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        value = value.item()
    hint = typing.get_type_hints(part)[name]
    if typing.get_origin(hint) is tuple:
        return (value,) if isinstance(value, str) else tuple(value)
    takes = {hint, *typing.get_args(hint)}
    if str in takes and float not in takes and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value
