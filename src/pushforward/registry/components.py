"""From the text of a component to the component."""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..entries import KINDS
from .options import check_options, hints_of
from .texts import literal, quoted, split, suggest
from .trust import check_trusted, own_class

__all__ = ["Component", "component", "create", "found", "lookup", "parse", "remember"]

#: Characters of a component's text at most.
LONGEST = 1000
#: Components that a user has registered, by what their entries call them.
_registered: dict[str, Any] = {}


def lookup(kind: str, name: str) -> Any:
    """The entry of ``name``.  Raises ValueError that suggests the nearest known name."""
    table = KINDS[kind].entries
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"unknown {kind} {quoted(name)}{suggest(str(name)[:80], table)}")
    return table[name]


def parse(kind: str, spec: str, flag: str | None = None) -> tuple[str, dict[str, Any]]:
    """Split ``name,option=value`` into the target class ``module:Class`` and its options.

    flag: where the text was given, for errors; None for the flag of the kind.  Nothing is imported.  Raises
    ValueError for a name that is neither registered nor trusted, and for what is no list of options.

    >>> parse("solver", "euler,steps=20")
    ('pushforward.solvers:Euler', {'steps': 20})
    """
    flag = flag or KINDS[kind].flag
    if not isinstance(spec, str):
        raise ValueError(
            f"{flag}: expected a text such as {next(iter(KINDS[kind].entries))!r}, got {quoted(spec)}"
        )
    if len(spec) > LONGEST:
        raise ValueError(f"{flag} {quoted(spec)}: expected at most {LONGEST} characters, got {len(spec):,}")
    name, *rest = split(spec)
    if ":" in name:
        check_trusted(flag, name)
        target = name
    else:
        target = lookup(kind, name).target
    options: dict[str, Any] = {}
    for part in rest:
        key, equals, text = part.partition("=")
        key = key.strip()
        if not equals:
            raise ValueError(f"{flag} {quoted(spec)}: expected option=value, got {quoted(part)}")
        if key in options:
            raise ValueError(f"{flag} {quoted(spec)}: option {quoted(key)} is given twice")
        options[key] = literal(text)
    return target, options


@dataclass(frozen=True)
class Component:
    """The text of a component, parsed: what makes it, and options of names and types that this takes.

    flag: where the text was given.  own: whether it is a class of the user's own, named as ``module:Class``.
    """

    kind: str
    text: str
    make: Callable[..., Any]
    options: Mapping[str, Any]
    own: bool
    flag: str

    @property
    def where(self) -> str:
        """The flag and the text, for the beginning of an error."""
        return f"{self.flag} {quoted(self.text)}"

    def build(self, *arguments: Any, **defaults: Any) -> Any:
        """Build it; its options override ``defaults``.

        Raises ValueError for a value that the component refuses, and for what is none of its kind.
        """
        try:
            made = self.make(*arguments, **{**defaults, **self.options})
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from error
        except Exception as error:  # whatever a constructor makes of values that it has not foreseen
            raise ValueError(f"{self.where}: {str(error) or type(error).__name__}") from error
        wanted = _abstract(self.kind)
        if not isinstance(made, wanted):
            names = " or a ".join(cls.__name__ for cls in wanted)
            raise ValueError(f"{self.where}: expected a {names}, got a {type(made).__name__}")
        return made


def component(kind: str, spec: str, flag: str | None = None) -> Component:
    """The component that ``spec`` names.  Only what is registered or trusted is imported; nothing is called.

    flag: where the text was given, for errors; None for the flag of the kind.  Raises ValueError
    for an unknown name or option, and for a class that is neither registered nor trusted or is none of its
    kind.

    >>> component("solver", "euler,steps=20").build()
    Euler(steps=20)
    """
    flag = flag or KINDS[kind].flag
    target, options = parse(kind, spec, flag)
    where, name = f"{flag} {quoted(spec)}", split(spec)[0]
    own = ":" in name
    make = _own(kind, name, where) if own else _found(target)
    check_options(make, options, KINDS[kind].given, where)
    return Component(kind, spec, make, options, own, flag)


def create(kind: str, spec: str, *arguments: Any, **defaults: Any) -> Any:
    """Build the component that ``spec`` names; see :func:`component` and :meth:`Component.build`."""
    return component(kind, spec).build(*arguments, **defaults)


def found(kind: str, name: str) -> Any:
    """The class registered as ``name``.  Raises ValueError that suggests the nearest known name."""
    return _found(lookup(kind, name).target)


def remember(kind: str, target: str, component: Any) -> None:
    """Register ``component`` of the user under ``target``, wherever its module is.

    Raises ValueError for one that is none of its kind.
    """
    if KINDS[kind].abstract:
        _check_kind(kind, component, f"{KINDS[kind].flag} {quoted(target)}")
    _registered[target] = component


def _found(target: str) -> Any:
    if target in _registered:
        return _registered[target]
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _abstract(kind: str) -> tuple[type, ...]:
    """The abstract classes of ``kind``."""
    return tuple(_found(target) for target in KINDS[kind].abstract.split("|"))


def _own(kind: str, name: str, where: str) -> Any:
    """A class of the user's own, or a function that says it returns such.  Raises ValueError for another."""
    found = own_class(name, where)
    _check_kind(kind, found, where)
    return found


def _check_kind(kind: str, found: Any, where: str) -> None:
    makes = found
    if isinstance(found, types.FunctionType):  # as most flows of the registry are
        makes = hints_of(found).get("return")
    if not (isinstance(makes, type) and issubclass(makes, _abstract(kind))):
        base = KINDS[kind].abstract.replace(":", ".").replace("|", " or ")
        raise ValueError(f"{where}: expected a subclass of {base}, got {quoted(found)}")
