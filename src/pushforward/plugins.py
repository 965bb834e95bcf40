"""Components of the user by name: ``register`` and ``--plugin FILE``.  No torch."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .entries import KINDS, METHODS, Entry, Method
from .registry import quoted, remember, suggest

__all__ = ["load_plugin", "register"]

#: How a component may be called.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


def register(
    kind: str, name: str, component: type | Callable[..., Any] | Method, summary: str = "", paper: str = ""
) -> None:
    """Register a component of your own under a name, which then works like the names of the library.

    kind: what it is, one of ``path``, ``coupling``, ``network``, ``solver``, ``recipe``, ``method``, ...
    component: a subclass of the abstract class of its kind, or a function that returns one; for a method a
        :class:`~pushforward.entries.Method`; for ``data`` a function without arguments that returns rows, or
        rows and conditions, as :func:`pushforward.train` takes them.

    It holds for the process.  From the command line ``--plugin my_parts.py`` runs a file that registers.
    Raises ValueError for an unknown kind, a name that is taken, and a component of another kind.

    >>> import torch
    >>> from torch import Tensor
    >>> from pushforward.paths import Schedule
    >>> class Slow(Schedule):
    ...     def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ...         return t**2, 1 - t**2, 2 * t, -2 * t
    >>> register("path", "slow", Slow, "leaves the source slowly")
    >>> from pushforward.registry import create
    >>> create("path", "slow")(torch.tensor(0.5))[0]
    tensor(0.2500)
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {quoted(kind)}{suggest(str(kind)[:80], KINDS)}")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"name: expected small letters, digits and hyphens, got {quoted(name)}")
    of = KINDS[kind]
    if of.entry is Method:
        if not isinstance(component, Method):
            raise ValueError(f"component: expected a Method, got {quoted(component)}")
        entry: Any = component
    else:
        if not isinstance(component, type | types.FunctionType):
            raise ValueError(f"component: expected a class or a function, got {quoted(component)}")
        entry = Entry(f"{component.__module__}:{component.__qualname__}", summary, paper)
    if of.entries.get(name, entry) != entry:
        raise ValueError(f"{kind} {name!r}: is registered already")
    if of.entry is Entry:
        remember(kind, entry.target, component)
    of.entries[name] = entry
    if of.method is not None:
        METHODS.setdefault(name, of.method(name, entry))


def load_plugin(path: str | Path) -> None:
    """Run a file of Python, which is to call :func:`register`.

    Its folder is searched for what it imports.  Raises ValueError, in one line, for a file that is missing
    or cannot be run.
    """
    file = Path(path).expanduser()
    if file.suffix != ".py" or not file.is_file():
        raise ValueError(f"--plugin {path}: expected a file of Python, such as my_parts.py")
    name, place = file.stem, str(file.resolve())
    known = sys.modules.get(name)
    if known is not None:
        if getattr(known, "__file__", None) == place:
            return
        raise ValueError(f"--plugin {path}: a module {name} is there already; call the file something else")
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.append(str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a file may raise anything while it is run
        del sys.modules[name]
        told = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"--plugin {path}: {type(error).__name__}: {told[:200]}") from error
