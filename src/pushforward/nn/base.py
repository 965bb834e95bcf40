"""Common parts of the networks: event shapes, times by row, conditions, activations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ..inputs import check_same
from ..tensors import Condition, event_size
from .checks import check_count as check_count
from .checks import check_rate as check_rate
from .checks import check_sizes
from .embeddings import ConditionEmbedding, ConditionSpec, TimeEmbedding

#: The highest frequency of the embedding of spans: their derivatives enter the losses of flow maps.
HIGHEST_SPAN = 16.0

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
    spans: whether it takes a second time, as flow maps do: ``net(t, x, condition, span)`` is then the mean
    velocity from t to t + span, and without a span that of this moment; see
    :class:`~pushforward.fields.TwoTimes`.

    ``t`` and ``span`` are a number, a scalar tensor or ``(B,)``; ``x`` is ``(B, *event_shape)``.  Raises
    ValueError for a wrong shape, and for a condition or a span given to a network that has none.
    """

    #: the embedding of the condition, None in an unconditional network
    embed_condition: ConditionEmbedding | None
    #: whether it takes tokens and returns scores of their values, ``(B, *event, K)``
    takes_tokens: ClassVar[bool] = False
    #: the registered network that takes its place for windows of text, which begin anywhere
    of_text: ClassVar[str | None] = None
    #: attributes that networks in files of older versions lack
    later: ClassVar[Mapping[str, Any]] = {"spans": False, "embed_span": None}

    def __init__(
        self, event_shape: int | Sequence[int], condition: ConditionSpec, embedding: int, spans: bool = False
    ):
        super().__init__()
        self.spans = spans
        self.event_shape = check_sizes("event_shape", event_shape)
        self.event_size = event_size(self.event_shape)
        self.embed_condition = None if condition is None else ConditionEmbedding(condition, embedding)

    @abstractmethod
    def forward(
        self,
        t: Tensor | float,
        x: Tensor,
        condition: Condition | None = None,
        span: Tensor | float | None = None,
    ) -> Tensor:
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
        return _by_row("t", t, x)

    def span_rows(self, span: Tensor | float | None, x: Tensor) -> Tensor:
        """``span`` as ``(1,)`` or ``(B,)``, 0 if None is given; a ValueError in a network without spans."""
        if not self.spans:
            raise ValueError("span: this network takes one time; make it with spans=True")
        return _by_row("span", 0.0 if span is None else span, x)

    def condition_rows(self, condition: Condition | None, x: Tensor) -> Tensor | None:
        """The condition's embedding, ``(1, width)`` or ``(B, width)``; None in an unconditional network."""
        if self.embed_condition is not None:
            return self.embed_condition(condition, x.shape[0])
        if condition is not None:
            raise ValueError("condition: this network is unconditional, but a condition was given")
        return None


def _by_row(name: str, value: Tensor | float, x: Tensor) -> Tensor:
    """A number, or one for each row of ``x``, as ``(1,)`` or ``(B,)``."""
    value = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    if value.numel() not in (1, x.shape[0]):
        raise ValueError(
            f"{name}: expected a scalar or shape ({x.shape[0]},), got shape {tuple(value.shape)}"
        )
    return value.reshape(-1)


class ModulatedNetwork(Network):
    """A network whose layers are modulated by one embedding of all times and of the condition.

    embed_time: the embedding of t.  embed_span: that of the span, None without spans; it is zero at first, so
    that the network begins with velocities that are the same over any span.
    """

    embed_time: TimeEmbedding
    embed_span: TimeEmbedding | None

    def _embed_times(self, embedding: int) -> None:
        """Make the embeddings of the times, before the last layer, which :meth:`start_at_zero` looks for."""
        self.embed_time = TimeEmbedding(embedding)
        self.embed_span = TimeEmbedding(embedding, highest=HIGHEST_SPAN) if self.spans else None
        if self.embed_span is not None:
            for parameter in self.embed_span.perceptron[-1].parameters():
                nn.init.zeros_(parameter)

    def embedded(
        self, t: Tensor | float, x: Tensor, condition: Condition | None, span: Tensor | float | None
    ) -> Tensor:
        """The embedding of times and condition, ``(1, width)`` or ``(B, width)``."""
        embedding = self.embed_time(self.time_rows(t, x))
        if self.embed_span is not None:
            embedding = embedding + self.embed_span(self.span_rows(span, x))
        elif span is not None:
            self.span_rows(span, x)  # which refuses it
        c = self.condition_rows(condition, x)
        return embedding if c is None else embedding + c
