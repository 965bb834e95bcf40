"""Checks of constructor arguments, each with a ValueError that names the argument."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any


def is_whole(value: Any) -> bool:
    """Whether ``value`` is an integer of Python or NumPy and not a boolean."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def check_count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """``value``, or a ValueError if it is not an integer from ``least`` to ``most``.

    >>> check_count("width", 8)
    8
    """
    if not is_whole(value) or value < least or (most is not None and value > most):
        wanted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}: expected an integer {wanted}, got {value!r}")
    return int(value)


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """``value``, or a ValueError if it is not a finite number strictly between ``low`` and ``high``.

    >>> check_number("bound", 5, 0)
    5.0
    """
    if not _is_number(value) or not low < value < high or not math.isfinite(value):
        ends = f" between {low:g} and {high:g}" if high < math.inf else f" above {low:g}"
        raise ValueError(f"{name}: expected a finite number{ends if low > -math.inf else ''}, got {value!r}")
    return float(value)


def check_rate(name: str, value: Any, most: float = 1.0) -> float:
    """``value``, or a ValueError if it is not a rate of at least 0 and below ``most``."""
    if not _is_number(value) or not 0.0 <= value < most:
        raise ValueError(f"{name}: expected a rate of at least 0 and below {most:g}, got {value!r}")
    return float(value)


def check_sizes(name: str, value: Any, length: int | None = None) -> tuple[int, ...]:
    """A shape as a tuple, where an integer d stands for ``(d,)``, or a ValueError if it is not a shape.

    ``length``: the required number of sizes, None for any number.

    >>> check_sizes("event_shape", 3), check_sizes("event_shape", [1, 8, 8])
    ((3,), (1, 8, 8))
    """
    sizes = (value,) if is_whole(value) else value
    if isinstance(sizes, str) or not isinstance(sizes, Sequence):
        raise ValueError(f"{name}: expected an integer or several, got {value!r}")
    if length is not None and len(sizes) != length:
        raise ValueError(f"{name}: expected {length} sizes, got {value!r}")
    return tuple(check_count(name, size) for size in sizes)


def check_kind(name: str, value: Any, kind: type) -> None:
    """A ValueError unless ``value`` is of ``kind``."""
    if not isinstance(value, kind):
        raise ValueError(f"{name}: expected a {kind.__name__}, got {value!r}")
