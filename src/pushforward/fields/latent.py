"""Fields that depend on a latent, which is a part of their condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..nn import ConditionSpec
from ..tensors import Condition
from .base import AnyField, as_field
from .offers import Offered, offered

#: The name of the latent in a condition, and that of another condition that has no name.
LATENT, OTHER = "latent", "condition"


def with_latent(condition: Condition | None, latent: Tensor) -> dict[str, Tensor]:
    """A condition of B rows that holds the latent ``(B, k)`` as well.

    >>> sorted(with_latent(torch.tensor([3]), torch.zeros(1, 2)))
    ['condition', 'latent']
    """
    return {LATENT: latent} if condition is None else joined(condition, LATENT, latent)


def latent_spec(condition: ConditionSpec, size: int) -> dict[str, Any]:
    """What a network is told of :func:`with_latent`: its own ``condition`` and a latent of ``size`` numbers.

    Raises ValueError for a condition that has an entry of the name of the latent.

    >>> latent_spec(10, 2)
    {'condition': 10, 'latent': (2,)}
    """
    return joined_spec(condition, LATENT, (size,))


def joined(condition: Condition, name: str, value: Tensor) -> dict[str, Tensor]:
    """A condition with one more entry; that of a condition without a name is called ``condition``."""
    named = condition if isinstance(condition, Mapping) else {OTHER: condition}
    return {**named, name: value}


def joined_spec(condition: ConditionSpec, name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """What a network is told of :func:`joined`, for values of ``shape``.

    Raises ValueError for a condition that has an entry of that name.
    """
    if condition is None:
        return {name: shape}
    named = dict(condition) if isinstance(condition, Mapping) else {OTHER: condition}
    if name in named:
        raise ValueError(f"condition: expected another name than {name!r}, which is that of the {name}")
    return {**named, name: shape}


class AtLatent(nn.Module):
    """``field`` at fixed latents ``(B, k)``, or ``(k,)`` for all rows, as a field of (t, x, condition).

    Calls on several times B rows repeat the latents, as guidance needs.

    >>> field = lambda t, x, condition: condition["latent"] - x
    >>> AtLatent(field, torch.ones(2))(torch.tensor(0.5), torch.zeros(1, 2))
    tensor([[1., 1.]])
    """

    def __init__(self, field: AnyField, latent: Tensor):
        super().__init__()
        self.field, self.latent = as_field(field), latent

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.field(t, x, self._joined(x, condition))

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the field, see :func:`~pushforward.fields.offered`."""
        return offered(self.field, t, x, self._joined(x, condition), mask)

    def _joined(self, x: Tensor, condition: Condition | None) -> dict[str, Tensor]:
        latent = self.latent
        if latent.ndim == 1:
            latent = latent.expand(len(x), -1)
        elif len(latent) and len(x) != len(latent):
            latent = torch.cat([latent] * (len(x) // len(latent)))
        return with_latent(condition, latent)
