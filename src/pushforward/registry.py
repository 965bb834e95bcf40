"""From the name of a component to the component.  Standard library only.

A component is written ``name`` or ``name,option=value,option=value``; instead of a registered name
``module:Class`` names a class of your own: ``--path my_paths:Curved,strength=2``.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
from typing import Any

from .entries import BASES as BASES
from .entries import COUPLINGS as COUPLINGS
from .entries import DATASETS as DATASETS
from .entries import FLOWS as FLOWS
from .entries import GAMMAS as GAMMAS
from .entries import KINDS as KINDS
from .entries import METHODS as METHODS
from .entries import NETWORKS as NETWORKS
from .entries import SCHEDULES as SCHEDULES
from .entries import SDE_SOLVERS as SDE_SOLVERS
from .entries import SOLVERS as SOLVERS
from .entries import TIMES as TIMES
from .entries import WEIGHTINGS as WEIGHTINGS
from .entries import Entry as Entry
from .entries import Method as Method

__all__ = [
    "create",
    "is_number",
    "lookup",
    "parse",
    "suggest",
]


def suggest(name: str, known: Any) -> str:
    """`` (did you mean ...?)`` or the list of known names, for the end of an error message."""
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def lookup(kind: str, name: str) -> Any:
    """The entry of ``name``.  Raises ValueError that suggests the nearest known name."""
    table = KINDS[kind]
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}{suggest(name, table)}")
    return table[name]


def parse(kind: str, spec: str) -> tuple[str, dict[str, Any]]:
    """Split ``name,option=value`` into the target class ``module:Class`` and its options.

    >>> parse("solver", "euler,steps=20")
    ('pushforward.solvers:Euler', {'steps': 20})
    """
    name, *rest = _split(spec)
    target = name if ":" in name else lookup(kind, name).target
    options = {}
    for part in rest:
        key, equals, text = part.partition("=")
        if not equals:
            raise ValueError(f"--{kind} {spec!r}: expected option=value, got {part!r}")
        try:
            options[key.strip()] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[key.strip()] = text
    return target, options


def is_number(spec: str) -> bool:
    """Whether ``spec`` is a plain number, which some components may be given as."""
    try:
        float(spec)
    except ValueError:
        return False
    return True


def _split(spec: str) -> list[str]:
    """Split at commas that stand outside brackets."""
    parts, depth = [""], 0
    for letter in spec:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def create(kind: str, spec: str, *arguments: Any, **defaults: Any) -> Any:
    """Build the component that ``spec`` names; its options override ``defaults``.

    Raises ValueError for an unknown name or option and for a value the component refuses.
    """
    target, options = parse(kind, spec)
    module, _, name = target.partition(":")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--{kind} {spec!r}: {error}") from None
    known = list(inspect.signature(cls).parameters)
    for option in options:
        if option not in known[len(arguments) :]:
            raise ValueError(
                f"--{kind} {spec!r}: unknown option {option!r}{suggest(option, known[len(arguments) :])}"
            )
    try:
        return cls(*arguments, **{**defaults, **options})
    except TypeError as error:
        raise ValueError(f"--{kind} {spec!r}: {error}") from None
