"""Fields: any callable ``field(t, x, condition=None)``, or ``field(t, x)`` without conditions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, cast

from torch import Tensor, nn

from ..tensors import Condition
from .offers import Offered, offered


class Field(Protocol):
    """A velocity ``(B, *event)`` at time ``t`` (scalar or ``(B,)``) and point ``x`` ``(B, *event)``."""

    def __call__(self, t: Tensor, x: Tensor, condition: Condition | None = None, /) -> Tensor: ...


#: What is taken for a field: a :class:`Field`, or a callable ``(t, x)`` or ``(t, x, condition)``.
AnyField = Field | Callable[[Tensor, Tensor], Tensor] | Callable[[Tensor, Tensor, Any], Tensor]


class Unconditional(nn.Module):
    """A callable ``function(t, x)`` as a field.  Raises ValueError when it is given a condition."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        if condition is not None:
            raise ValueError("condition: the field is a function of (t, x) alone, got a condition")
        return self.function(t, x)

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from the function, see :func:`~pushforward.fields.offered`."""
        return offered(self.function, t, x, None, mask) if condition is None else None


def as_field(field: AnyField, name: str = "field") -> Field:
    """``field`` itself if it takes a condition, else an :class:`Unconditional` around it.

    It takes one if its third positional argument has no default or the default None.  Raises ValueError for
    anything but a callable of two or three arguments.

    >>> as_field(lambda t, x: x)(0.0, 1.0, None)
    1.0
    """
    if takes_condition(field, ("t", "x"), name):
        return cast(Field, field)
    return Unconditional(cast(Callable[[Tensor, Tensor], Tensor], field))


def takes_condition(function: Any, before: tuple[str, ...], name: str) -> bool:
    """Whether ``function`` takes a condition as its next positional argument after those named ``before``.

    It does if that argument has no default or the default None.  Raises ValueError, which says ``name``, for
    what is no callable of these arguments, with a condition or without.
    """
    shape = ", ".join(before)
    wanted = f"{name}: expected a callable ({shape}) or ({shape}, condition), got"
    if not callable(function):
        raise ValueError(f"{wanted} {type(function).__name__}")
    try:
        signature = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except (ValueError, TypeError):  # a built-in function says nothing of its arguments
        return True
    taken = signature.parameters.values()
    places = [p for p in taken if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind == p.VAR_POSITIONAL for p in taken):
        return True
    needed = sum(p.default is p.empty for p in places)
    if len(places) < len(before) or needed > len(before) + 1:
        raise ValueError(f"{wanted} one of {signature}")
    following = places[len(before) : len(before) + 1]
    return bool(following) and following[0].default in (inspect.Parameter.empty, None)
