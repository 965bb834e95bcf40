"""Shapes of conditions and numbers of draws."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

from ..nn import ConditionSpec

#: Shape of one condition: () for labels and single numbers, a mapping for several.
ConditionShape = tuple[int, ...] | Mapping[str, tuple[int, ...]]


def condition_shape(condition: ConditionSpec) -> ConditionShape:
    """Shape of one condition, from the specification that networks take: () for labels."""
    if condition is None or isinstance(condition, int):
        return ()
    if isinstance(condition, Sequence):
        return tuple(condition)
    return {k: () if isinstance(v, int) else tuple(v) for k, v in condition.items()}


def sample_shape(n: int | Sequence[int]) -> tuple[int, ...]:
    """The number of draws as leading dimensions.  Raises ValueError for anything but non-negative integers.

    >>> sample_shape(3), sample_shape((4, 5))
    ((3,), (4, 5))
    """
    try:
        shape = tuple(map(operator.index, n)) if isinstance(n, Sequence) else (operator.index(n),)
    except TypeError:
        raise ValueError(f"n: expected a number of samples or several, got {n!r}") from None
    if min(shape, default=0) < 0:
        raise ValueError(f"n: expected a non-negative number of samples, got {n}")
    return shape
