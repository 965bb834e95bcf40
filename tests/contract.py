"""What contract tests share: a table of cases is complete, and the registry's classes by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from pushforward import registry
from pushforward.entries import KINDS


def own(kind: str, of: type | None = None) -> list[str]:
    """The names of the library's own entries of a kind; tests and examples may have registered others.

    of: the class of which they are, where a kind has several.
    """
    table: Mapping[str, Any] = KINDS[kind].entries
    names = [name for name, entry in table.items() if entry.target.startswith("pushforward.")]
    return [name for name in names if of is None or issubclass(registry.found(kind, name), of)]


def classes(kind: str) -> dict[str, Any]:
    """The classes of a kind by name."""
    return {name: registry.found(kind, name) for name in own(kind)}


def complete(kind: str, cases: Collection[str], of: type | None = None) -> None:
    """Fail by name for an entry of the registry without a case, and for a case without an entry."""
    names = set(own(kind, of))
    missing, left = sorted(names - set(cases)), sorted(set(cases) - names)
    assert not missing, f"{kind}: no case in the contract test for {', '.join(missing)}"
    assert not left, f"{kind}: a case in the contract test, but no entry, for {', '.join(left)}"


def every(argument: str, cases: dict[str, Any]) -> pytest.MarkDecorator:
    """Parametrises a test by the cases, each under its name in the registry."""
    return pytest.mark.parametrize(argument, cases.values(), ids=cases.keys())
