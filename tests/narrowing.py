"""Values that may be absent, or of several kinds, as the one kind that a test has made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from pushforward.tensors import Condition

Value = TypeVar("Value")


def known(value: Value | None) -> Value:
    """The value, which the test has made sure is there."""
    assert value is not None
    return value


def one_tensor(condition: Condition | None) -> Tensor:
    """A condition that is one tensor: labels, or numbers of one kind."""
    assert isinstance(condition, Tensor)
    return condition


def by_name(condition: Condition | None) -> Mapping[str, Tensor]:
    """A condition of several parts, each under its name."""
    assert isinstance(condition, Mapping)
    return condition


def wrong(value: object) -> Any:
    """A value of a type that is not the one asked for, for a test that it is refused."""
    return value
