"""Fields that compute their own divergence, faster than by differentiation."""

from __future__ import annotations

from typing import Any, Protocol, cast

from torch import Tensor, nn

from ..nn.slopes import hooked
from ..tensors import Condition


class Offer(Protocol):
    """A field that computes its divergence itself, see :func:`offered`."""

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | None: ...


def offered(
    field: Any, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor] | None:
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
    if not _describes(type(field)) or (isinstance(field, nn.Module) and hooked(field)):
        return None
    return cast(Offer, field).value_and_divergence(t, x, condition, mask)


def _describes(kind: type) -> bool:
    """Whether no subclass has replaced what the method ``value_and_divergence`` computes again."""
    order = kind.__mro__

    def place(name: str) -> int:
        return next((i for i, cls in enumerate(order) if name in vars(cls)), len(order))

    offer = place("value_and_divergence")
    return offer < len(order) and offer <= place("forward") and offer <= place("__call__")
