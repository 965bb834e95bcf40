"""Fields that compute their own divergence, faster than by differentiation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, cast

from torch import Tensor, nn

from ..nn.slopes import hooked
from ..tensors import Condition, event_size, sum_event

#: Value ``(B, *event)`` and divergence ``(B,)``, or None where they cannot be had.
Offered = tuple[Tensor, Tensor] | None


class Offer(Protocol):
    """A field that computes its divergence itself, see :func:`offered`."""

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered: ...


def offered(
    field: Any, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
) -> Offered:
    """Value ``(B, *event)`` and divergence ``(B,)`` of a field that computes both; None where it does not.

    A field does if its class has a method ``value_and_divergence(t, x, condition=None, mask=None)`` that
    returns them, or None for what it cannot do.  With a boolean ``mask`` ``(B, *event)`` the divergence is
    the sum of the derivatives dv_i/dx_i over the elements on which it is True.

    The method is not asked where a call of the field computes something else than the class that wrote it
    knew: with hooks, and in a subclass with another ``forward``.

    >>> import torch
    >>> from pushforward.nn import MLP
    >>> value, divergence = offered(MLP(3), torch.tensor(0.5), torch.zeros(4, 3))
    >>> value.shape, divergence.shape
    (torch.Size([4, 3]), torch.Size([4]))
    >>> offered(lambda t, x, condition: x, torch.tensor(0.5), torch.zeros(4, 3)) is None
    True
    """
    return cast(Offer, field).value_and_divergence(t, x, condition, mask) if offers(field) else None


def offers(field: Any) -> bool:
    """Whether ``field``, or a guidance, has a method ``value_and_divergence`` that describes its calls."""
    return _describes(type(field)) and not (isinstance(field, nn.Module) and hooked(field))


def summed(*parts: Offered) -> Offered:
    """The sum of fields, from the values and divergences of each; None where one is None."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    value, divergence = known[0]
    for more, change in known[1:]:
        value, divergence = value + more, divergence + change
    return value, divergence


def linear(factor: Tensor, x: Tensor, mask: Tensor | None = None) -> Offered:
    """Value and divergence of factor * x, with the same factor for all elements of a row; None for others.

    >>> import torch
    >>> linear(torch.tensor(2.0), torch.ones(1, 3))
    (tensor([[2., 2., 2.]]), tensor([6.]))
    """
    each = by_row(factor)
    if each is None:
        return None
    return factor * x, each * elements(x, mask)


def combined(
    combine: Callable[[Tensor, Tensor], Tensor], part: Offered, x: Tensor, mask: Tensor | None = None
) -> Offered:
    """combine(field(x), x), a sum of multiples of both, with the same factors for all elements of a row.

    None for other factors.

    >>> import torch
    >>> part = torch.ones(1, 3), torch.tensor([5.0])
    >>> combined(lambda value, x: 2 * value - x, part, torch.ones(1, 3))
    (tensor([[1., 1., 1.]]), tensor([7.]))
    """
    if part is None:
        return None
    one = x.new_ones([1] * x.ndim)
    of_value, of_x = by_row(combine(one, 0 * one)), by_row(combine(0 * one, one))
    if of_value is None or of_x is None:
        return None
    return combine(part[0], x), of_value * part[1] + of_x * elements(x, mask)


def elements(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """How many elements of each row ``mask`` counts, ``(B,)``; all without one."""
    if mask is None:
        return x.new_full((len(x),), event_size(x.shape[1:]))
    return sum_event(mask.to(x.dtype))


def times(factor: Tensor, part: Offered) -> Offered:
    """A field times a factor that is the same for all elements of a row; None for another factor."""
    each = by_row(factor)
    return None if part is None or each is None else (factor * part[0], each * part[1])


def by_row(factor: Tensor) -> Tensor | None:
    """A factor of rows, a scalar or ``(B, 1, ..., 1)``, as one that multiplies ``(B,)``; None for others."""
    return factor.reshape(-1) if math.prod(factor.shape[1:]) == 1 else None


def _describes(kind: type) -> bool:
    """Whether no subclass has replaced what the method ``value_and_divergence`` computes again."""
    order = kind.__mro__

    def place(name: str) -> int:
        return next((i for i, cls in enumerate(order) if name in vars(cls)), len(order))

    offer = place("value_and_divergence")
    return offer < len(order) and offer <= place("forward") and offer <= place("__call__")
