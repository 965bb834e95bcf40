"""Classes of the user that may be constructed although they are not registered."""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from .texts import OWN, quoted

__all__ = ["Trust", "check_trusted", "own_class", "trusted_class", "trusting"]

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
    >>> from pushforward.registry import create
    >>> with trusting([Euler]):
    ...     create("solver", "pushforward.solvers.euler:Euler,steps=3")
    Euler(steps=3)
    >>> create("solver", "pushforward.solvers.euler:Euler,steps=3")
    Traceback (most recent call last):
    ValueError: --solver 'pushforward.solvers.euler:Euler': a class that is not in pushforward's registry...
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
    if isinstance(trusted, str) and OWN.fullmatch(trusted):
        return trusted
    raise ValueError(f"trust: expected a class, or its name as module:Class, got {quoted(trusted)}")


def check_trusted(flag: str, name: str) -> None:
    if not OWN.fullmatch(name):
        raise ValueError(f"{flag} {quoted(name)}: expected a name, or module:Class for a class of your own")
    if name not in _trusted.get() and _same_class(name) is None:
        raise ValueError(
            f"{flag} {quoted(name)}: a class that is not in pushforward's registry, and it executes "
            f"code of its own; if you trust it, give --trust {name}, or trust=[{name!r}] in Python"
        )


def _same_class(name: str) -> type | None:
    """The trusted class that a module already imported knows under another name, as one imported there."""
    module, _, attribute = name.partition(":")
    found = vars(sys.modules[module]).get(attribute) if module in sys.modules else None
    given = [cls for cls in _trusted.get().values() if cls is not None]
    return found if any(found is cls for cls in given) else None


def trusted_class(trusted: Trust) -> type:
    """The class that is trusted, imported where only its name is known.  Raises ValueError for none."""
    name = _name_of(trusted)
    found = trusted if isinstance(trusted, type) else _imported(name, f"trust {name}")
    if not isinstance(found, type):
        raise ValueError(f"trust {name}: expected a class, got {quoted(found)}")
    return found


def own_class(name: str, where: str) -> Any:
    """What a trusted ``module:Class`` names.  Raises ValueError, which says ``where``, for one not found."""
    return _trusted.get().get(name) or _same_class(name) or _imported(name, where)


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
