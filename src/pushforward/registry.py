"""From the name of a component to the component.  Standard library only, and what checks types.

A component is written ``name`` or ``name,option=value,option=value``; instead of a registered name
``module:Class`` names a class of your own: ``--path my_paths:Curved,strength=2``.

A text may come out of somebody else's file.  So a name that is not registered is refused before anything is
imported, unless the caller has said that it is trusted: see :func:`trusting`.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import importlib
import inspect
import math
import operator
import re
import sys
import types
import typing
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from .entries import ABSTRACT as ABSTRACT
from .entries import BASES as BASES
from .entries import COUPLINGS as COUPLINGS
from .entries import DATASETS as DATASETS
from .entries import FLOWS as FLOWS
from .entries import GAMMAS as GAMMAS
from .entries import KINDS as KINDS
from .entries import METHODS as METHODS
from .entries import NETWORKS as NETWORKS
from .entries import RECIPES as RECIPES
from .entries import SCHEDULES as SCHEDULES
from .entries import SDE_SOLVERS as SDE_SOLVERS
from .entries import SOLVERS as SOLVERS
from .entries import TIMES as TIMES
from .entries import WEIGHTINGS as WEIGHTINGS
from .entries import Entry as Entry
from .entries import Method as Method
from .typed import as_type

__all__ = [
    "Trust",
    "check",
    "create",
    "found",
    "is_number",
    "is_stochastic_solver",
    "lookup",
    "own_classes",
    "parse",
    "quoted",
    "remember",
    "suggest",
    "trusted_class",
    "trusting",
]

#: Characters of a component's text at most, and the largest whole number among its options.
LONGEST, LARGEST = 1000, 10**6
#: What every network and flow is called with by position; no option.
DATA = ("event_shape", "condition")
#: How a class of the user's own is written.
_OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
#: Components that a user has registered, by what their entries call them.
_registered: dict[str, Any] = {}
#: Types of which a value can be written as text.
_PLAIN = (bool, int, float, str)

#: A class, or its name as ``module:Class``.
Trust = type | str

#: What may be made though it is not registered: each ``module:Class``, and the class where it was given.
_trusted: ContextVar[Mapping[str, type | None]] = ContextVar("trusted", default=types.MappingProxyType({}))


@contextlib.contextmanager
def trusting(classes: Iterable[Trust]) -> Iterator[tuple[Trust, ...]]:
    """Components of the block may also be ``classes``, given as they are or by name; yields all these.

    Names are what a caller has typed, never what was read from a file: a class that is trusted by name is
    imported when a component asks for it, and importing a module runs it.  Raises ValueError for what is
    neither a class nor such a name.

    >>> from pushforward.solvers import Euler
    >>> with trusting([Euler]):
    ...     create("solver", "pushforward.solvers.euler:Euler,steps=3")
    Euler(steps=3)
    >>> create("solver", "pushforward.solvers.euler:Euler,steps=3")
    Traceback (most recent call last):
    ValueError: --solver 'pushforward.solvers.euler:Euler': a class that is not of pushforward's registry...
    """
    if isinstance(classes, str | type):
        raise ValueError(f"trust: expected a list of classes, or of their names, got {quoted(classes)}")
    named = {_name_of(each): each if isinstance(each, type) else None for each in classes}
    token = _trusted.set({**_trusted.get(), **named})
    try:
        yield tuple(cls or name for name, cls in _trusted.get().items())
    finally:
        _trusted.reset(token)


def _name_of(trusted: Any) -> str:
    if isinstance(trusted, type):
        return f"{trusted.__module__}:{trusted.__qualname__}"
    if isinstance(trusted, str) and _OWN.fullmatch(trusted):
        return trusted
    raise ValueError(f"trust: expected a class, or its name as module:Class, got {quoted(trusted)}")


def own_classes(*specs: Any) -> tuple[str, ...]:
    """The ``module:Class`` of every one of ``specs`` that names one; what is no text has none.

    >>> own_classes("my_paths:Curved,strength=2", "euler,steps=4", None)
    ('my_paths:Curved',)
    """
    names = (_split(spec)[0] for spec in specs if isinstance(spec, str))
    return tuple(name for name in names if _OWN.fullmatch(name))


def quoted(text: Any) -> str:
    """What came, in quotes, printable and not long.

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


def lookup(kind: str, name: str) -> Any:
    """The entry of ``name``.  Raises ValueError that suggests the nearest known name."""
    table = KINDS[kind]
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"unknown {kind} {quoted(name)}{suggest(str(name)[:80], table)}")
    return table[name]


def parse(kind: str, spec: str) -> tuple[str, dict[str, Any]]:
    """Split ``name,option=value`` into the target class ``module:Class`` and its options.

    Nothing is imported.  Raises ValueError for a name that is neither registered nor trusted, and for what
    is no list of options.

    >>> parse("solver", "euler,steps=20")
    ('pushforward.solvers:Euler', {'steps': 20})
    """
    flag = _flag(kind)
    if not isinstance(spec, str):
        raise ValueError(f"{flag}: expected a text such as {next(iter(KINDS[kind]))!r}, got {quoted(spec)}")
    if len(spec) > LONGEST:
        raise ValueError(f"{flag} {quoted(spec)}: expected at most {LONGEST} characters, got {len(spec):,}")
    name, *rest = _split(spec)
    if ":" in name:
        _check_trusted(flag, name)
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
        options[key] = _literal(text)
    return target, options


def _flag(kind: str) -> str:
    return "--solver" if kind == "sde-solver" else f"--{kind}"


def _literal(text: str) -> Any:
    """A number, a sequence of such, ..., as Python writes it; else the text itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of texts that are nearly Python
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _check_trusted(flag: str, name: str) -> None:
    if not _OWN.fullmatch(name):
        raise ValueError(f"{flag} {quoted(name)}: expected a name, or module:Class for a class of your own")
    if name not in _trusted.get() and _same_class(name) is None:
        raise ValueError(
            f"{flag} {quoted(name)}: a class that is not of pushforward's registry, and making it runs its "
            f"code; if you trust it, say --trust {name}, or trust=[{name!r}] in Python"
        )


def _same_class(name: str) -> type | None:
    """The trusted class that a module already imported knows under another name, as one imported there."""
    module, _, attribute = name.partition(":")
    found = vars(sys.modules[module]).get(attribute) if module in sys.modules else None
    given = [cls for cls in _trusted.get().values() if cls is not None]
    return found if any(found is cls for cls in given) else None


def is_number(spec: Any) -> bool:
    """Whether ``spec`` is the text of a plain finite number, which some components may be given as."""
    try:
        return isinstance(spec, str) and math.isfinite(float(spec))
    except ValueError:
        return False


def _split(spec: str) -> list[str]:
    """Split at commas that stand outside brackets."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(spec):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(spec[start:place].strip())
            start = place + 1
    return [*parts, spec[start:].strip()]


def create(kind: str, spec: str, *arguments: Any, **defaults: Any) -> Any:
    """Build the component that ``spec`` names; its options override ``defaults``.

    Raises ValueError for an unknown name or option, a class that is neither registered nor trusted or is none
    of its kind, and for a value that the component refuses.
    """
    make, options = check(kind, spec, len(arguments))
    where = f"{_flag(kind)} {quoted(spec)}"
    try:
        made = make(*arguments, **{**defaults, **options})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    except Exception as error:  # whatever the constructor of a class makes of values that it has not foreseen
        raise ValueError(f"{where}: {str(error) or type(error).__name__}") from error
    wanted = _found(ABSTRACT[kind])
    if not isinstance(made, wanted):
        raise ValueError(f"{where}: expected a {wanted.__name__}, got a {type(made).__name__}")
    return made


def check(kind: str, spec: str, given: int = 0) -> tuple[Any, dict[str, Any]]:
    """What makes the component that ``spec`` names, and its options, of names and types that it takes.

    given: arguments that it is called with by position.  Only what is registered or trusted is imported, and
    nothing is called.  Raises ValueError as :func:`create` does.
    """
    where = f"{_flag(kind)} {quoted(spec)}"
    target, options = parse(kind, spec)
    name = _split(spec)[0]
    make = _own(kind, name, where) if ":" in name else _found(target)
    try:
        parameters = list(inspect.signature(make).parameters.values())[given:]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from None
    hints = _hints(make)
    known = [
        p.name
        for p in parameters
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.name not in DATA
        and _plain(hints.get(p.name, Any)) is not None
    ]
    for option, value in options.items():
        if option not in known:
            takes = suggest(option[:80], known) if known else "; it takes none"
            raise ValueError(f"{where}: unknown option {quoted(option)}{takes}")
        as_type(value, _plain(hints.get(option, Any)), f"{where}: {option}")
        _check_size(value, f"{where}: {option}")
    return make, options


def found(kind: str, name: str) -> Any:
    """The class registered as ``name``.  Raises ValueError that suggests the nearest known name."""
    return _found(lookup(kind, name).target)


def is_stochastic_solver(spec: Any) -> bool:
    """Whether ``spec`` names a solver of stochastic differential equations."""
    return isinstance(spec, str) and _split(spec)[0] in SDE_SOLVERS


def remember(kind: str, target: str, component: Any) -> None:
    """Let ``target`` be this component of the user's, wherever its module is.

    Raises ValueError for one that is none of its kind.
    """
    _check_kind(kind, component, f"{_flag(kind)} {quoted(target)}")
    _registered[target] = component


def _found(target: str) -> Any:
    if target in _registered:
        return _registered[target]
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def trusted_class(trusted: Trust) -> type:
    """The class that is trusted, imported where only its name is known.  Raises ValueError for none."""
    name = _name_of(trusted)
    found = trusted if isinstance(trusted, type) else _imported(name, f"trust {name}")
    if not isinstance(found, type):
        raise ValueError(f"trust {name}: expected a class, got {quoted(found)}")
    return found


def _own(kind: str, name: str, where: str) -> Any:
    """A class of the user's own, or a function that says it returns such.  Raises ValueError for another."""
    found = _trusted.get().get(name) or _same_class(name) or _imported(name, where)
    _check_kind(kind, found, where)
    return found


def _check_kind(kind: str, found: Any, where: str) -> None:
    wanted = _found(ABSTRACT[kind])
    makes = found
    if isinstance(found, types.FunctionType):  # as most flows of the registry are
        makes = _hints(found).get("return")
    if not (isinstance(makes, type) and issubclass(makes, wanted)):
        module, _, base = ABSTRACT[kind].partition(":")
        raise ValueError(f"{where}: expected a subclass of {module}.{base}, got {quoted(found)}")


def _imported(name: str, where: str) -> Any:
    """What ``module:Class`` names, also in the working folder, which is searched last and only now."""
    module, _, attribute = name.partition(":")
    sys.path.append("")
    try:
        return getattr(importlib.import_module(module), attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may raise anything while it is imported
        told = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{where}: {told[:200]}") from error
    finally:
        if "" in sys.path:
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index("")]


def _hints(make: Any) -> dict[str, Any]:
    """The types of the arguments of a class or a function, none where these cannot be told."""
    try:
        return typing.get_type_hints(make.__init__ if isinstance(make, type) else make)
    except Exception:
        return {}


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
    """Refuse numbers that no component can mean: each may be a number of rows, layers or steps."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, got {value}")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"{where}: expected at most {LARGEST:,}, got {quoted(value)}")
    if isinstance(value, list | tuple | set):
        for part in value:
            _check_size(part, where)
    if isinstance(value, Mapping):
        _check_size([*value, *value.values()], where)
