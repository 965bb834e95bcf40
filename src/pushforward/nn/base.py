"""Common parts of the networks: event shapes, times by row, conditions, activations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ..inputs import check_same
from ..tensors import Condition, event_size
from .checks import check_count as check_count
from .checks import check_rate as check_rate
from .checks import check_sizes
from .embeddings import ConditionEmbedding, ConditionSpec

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


def activation(name: str) -> nn.Module:
    """The activation called ``name``; raises ValueError with the known names for any other.

    >>> activation("silu")
    SiLU()
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]()


class Network(nn.Module, ABC):
    """A field ``net(t, x, condition=None) -> like x`` on events of a fixed shape.

    event_shape: shape of one event; an int d stands for ``(d,)``.
    condition: specification of the condition, see :class:`ConditionEmbedding`; None for no condition.

    ``t`` is a number, a scalar tensor or ``(B,)``; ``x`` is ``(B, *event_shape)``.  Raises ValueError
    for a wrong shape, and for a condition given to a network that has none.
    """

    #: the embedding of the condition, None in an unconditional network
    embed_condition: ConditionEmbedding | None

    def __init__(self, event_shape: int | Sequence[int], condition: ConditionSpec, embedding: int):
        super().__init__()
        self.event_shape = check_sizes("event_shape", event_shape)
        self.event_size = event_size(self.event_shape)
        self.embed_condition = None if condition is None else ConditionEmbedding(condition, embedding)

    @abstractmethod
    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        """The field at time ``t`` and points ``x``."""

    def start_at_zero(self) -> Self:
        """Set the weights of the last layer so that the output is zero, and return the network."""
        last = [module for module in self.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        return self

    def time_rows(self, t: Tensor | float, x: Tensor) -> Tensor:
        """``t`` as ``(1,)`` or ``(B,)``, after a check of the shapes of both.

        A time that is the same for all rows stays one row, so that its embedding is computed once per batch.
        """
        home = next(self.parameters(), None)
        if home is None or home.dtype != x.dtype:
            check_same(x, self)
        if x.shape[1:] != self.event_shape or x.ndim == 0:
            raise ValueError(f"x: expected shape (B, {str(self.event_shape)[1:-1]}), got {tuple(x.shape)}")
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        if t.numel() not in (1, x.shape[0]):
            raise ValueError(f"t: expected a scalar or shape ({x.shape[0]},), got shape {tuple(t.shape)}")
        return t.reshape(-1)

    def condition_rows(self, condition: Condition | None, x: Tensor) -> Tensor | None:
        """The condition's embedding, ``(1, width)`` or ``(B, width)``; None in an unconditional network."""
        if self.embed_condition is not None:
            return self.embed_condition(condition, x.shape[0])
        if condition is not None:
            raise ValueError("condition: this network is unconditional, but a condition was given")
        return None
