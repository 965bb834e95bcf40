"""The abstract guidance, and what its methods share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...paths import Path, time_of_log_snr
from ...tensors import Condition, derivable, differentiable, drop_condition, expand_time
from ..base import Field
from ..offers import Offered, offered

#: Part of [0, 1] in which a guidance applies.
Interval = tuple[float, float]
#: Where a path starts from noise alone, derivatives with respect to x are taken no earlier than this.
EARLIEST = 1e-3


class Guidance(nn.Module, ABC):
    """Makes the velocity that samples are drawn with from a trained field.

    ``guidance(field, t, x, condition)`` is a velocity like x.  A flow takes it as ``guidance``; to use it
    elsewhere, :class:`~pushforward.fields.Guided` joins it with a field.  What is sampled under guidance has
    no simple density, so that densities ignore it.

    compares_absent: whether it evaluates the field without its condition too, which the field must have been
    trained for.  keeps_padding: whether elements in which the field is zero, those that a mask leaves out,
    stay where they are.
    """

    compares_absent: ClassVar[bool] = False
    keeps_padding: ClassVar[bool] = False

    @abstractmethod
    def forward(self, field: Field, t: Tensor, x: Tensor, condition: Condition | None) -> Tensor:
        """The guided velocity at t, a scalar or ``(B,)``, and x, ``(B, *event)``."""

    def value_and_divergence(
        self, field: Field, t: Tensor, x: Tensor, condition: Condition | None, mask: Tensor | None = None
    ) -> Offered:
        """The guided velocity and its divergence from those of the field, where the guidance is linear in it.

        See :func:`~pushforward.fields.offered`; None here, and for fields without.
        """
        return None


def check_number(value: float, name: str, wanted: str = "a finite number") -> float:
    """``value`` as a float, with a ValueError unless it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    return float(value)


def check_interval(interval: Interval) -> Interval:
    """``interval`` as two numbers, with a ValueError unless 0 <= start < stop <= 1."""
    try:
        start, stop = interval
        if 0 <= start < stop <= 1:
            return float(start), float(stop)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"interval: expected 0 <= start < stop <= 1, got {interval!r}")


def first_time(path: Path, earliest: float | None, signal: float = 0.0) -> float:
    """``earliest``, or where nothing is given :data:`EARLIEST` on a path that starts from noise alone.

    signal: alpha / s that the path has at this time at least, where nothing is given.  Raises ValueError for
    a time outside [0, 1).
    """
    if earliest is None:
        least = EARLIEST if path.ends()[0].target_scale == 0 else 0.0
        if not signal:
            return least
        level = torch.tensor(2 * math.log(signal), dtype=torch.float64)
        return max(least, round(float(time_of_log_snr(path, level)), 4))
    if not 0 <= check_number(earliest, "earliest") < 1:
        raise ValueError(f"earliest: expected a time in [0, 1), got {earliest}")
    return float(earliest)


def within(interval: Interval, t: Tensor, x: Tensor) -> Tensor | bool:
    """Where ``t`` is inside: a truth value where that costs no wait, else a tensor that goes with x.

    One scalar time on the CPU is looked at, so that what is not needed there is not evaluated.
    """
    if interval == (0.0, 1.0):
        return True
    start, stop = interval
    inside = (t >= start) & (t <= stop)
    if t.ndim == 0 and t.device.type == "cpu" and not torch.compiler.is_compiling():
        return bool(inside)
    return expand_time(inside, x)


def with_and_without(field: Field, t: Tensor, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
    """The field under its condition and under an absent one, in one call on a doubled batch."""
    both = field(*_twice(t, x, condition))
    conditional, absent = both.chunk(2)
    return conditional, absent


def both_offered(
    field: Field, t: Tensor, x: Tensor, condition: Condition, mask: Tensor | None
) -> tuple[Offered, Offered]:
    """What the field offers under its condition and under an absent one, in one call on a doubled batch."""
    found = offered(field, *_twice(t, x, condition), None if mask is None else torch.cat([mask, mask]))
    if found is None:
        return None, None
    (value, absent), (divergence, without) = found[0].chunk(2), found[1].chunk(2)
    return (value, divergence), (absent, without)


def mixed(weight: float, one: Offered, other: Offered, inside: Tensor | bool = True) -> Offered:
    """other + weight (one - other) where ``inside``, and one elsewhere."""
    if one is None or other is None:
        return None
    (value, divergence), (base, less) = one, other
    guided, change = base + weight * (value - base), less + weight * (divergence - less)
    if isinstance(inside, Tensor):
        guided = torch.where(inside, guided, value)
        change = torch.where(inside.reshape(-1), change, divergence)
    return guided, change


def _twice(t: Tensor, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor, Condition]:
    """Times, rows and conditions of a doubled batch, whose second half has no condition."""
    times, rows, absent = torch.cat([t, t]) if t.ndim else t, torch.cat([x, x]), drop_condition(condition)
    if isinstance(condition, Tensor):
        assert isinstance(absent, Tensor)
        return times, rows, torch.cat([condition, absent])
    assert absent is not None and not isinstance(absent, Tensor)
    return times, rows, {key: torch.cat([condition[key], absent[key]]) for key in condition}


def value_and_pull(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """``function(x)`` and its vector-Jacobian product, also in inference mode."""
    with differentiable():
        value, pull, *_ = torch.func.vjp(function, derivable(x))

    def pulled(cotangent: Tensor) -> Tensor:
        with differentiable():
            return pull(derivable(cotangent))[0]

    return value, pulled
