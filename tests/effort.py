"""Cases of a test that `make test` tries, and those that `make thorough` adds."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def first(cases: Iterable[Any], count: int = 1) -> list[Any]:
    """The cases for ``parametrize``; those after the first ``count`` are thorough."""
    return [case if at < count else _thorough(case) for at, case in enumerate(cases)]


def among(cases: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """The cases for ``parametrize``; those that are not in ``quick`` are thorough.

    Raises ValueError for a quick case that is none.
    """
    cases = list(cases)
    if not set(quick) <= set(cases):
        raise ValueError(f"no such cases: {sorted(set(quick) - set(cases))}")
    return [case if case in quick else _thorough(case) for case in cases]


def _thorough(case: Any) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.thorough)
