"""A transformer over tokens, modulated by time and condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from ..tensors import Condition, flatten_event
from .base import Network
from .checks import check_count, check_rate
from .embeddings import ConditionSpec, TimeEmbedding


class TokenTransformer(Network):
    """Scores ``(B, *event_shape, size)`` of tokens ``x`` ``(B, *event_shape)``, int64 below ``values``.

    In place of tokens it takes their probabilities, ``(B, *event_shape, values)``.

    Every token sees all others, by attention and by a perceptron over places beside it: on events of a fixed
    shape the latter learns at once who is whose neighbour, which attention takes long to find.  Time and
    condition scale and shift what every layer sees.  The scores are zero before training.

    event_shape, condition: see :class:`Network`.
    size, values: K, the values of a token of the data, and those of one of x, K + 1 with a mask; None for K.
    width, depth, heads: units per token, layers, heads of attention.
    dropout: rate of the output of each layer in training mode, drawn from PyTorch's global generator.

    Raises ValueError for sizes out of range and a width that the heads do not divide.  Vaswani et al. 2017,
    arXiv 1706.03762; perceptrons over places: Tolstikhin et al. 2021, arXiv 2105.01601; modulation as in
    Peebles & Xie 2023, arXiv 2212.09748.

    >>> net = TokenTransformer((3, 3), size=4, values=5, width=16)
    >>> net(0.5, torch.zeros(2, 3, 3, dtype=torch.int64)).shape
    torch.Size([2, 3, 3, 4])
    """

    takes_tokens: ClassVar[bool] = True

    def __init__(
        self,
        event_shape: int | Sequence[int],
        condition: ConditionSpec = None,
        size: int = 2,
        values: int | None = None,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
    ):
        super().__init__(event_shape, condition, check_count("width", width))
        check_count("size", size, 2)
        self.values = check_count("values", size if values is None else values, size)
        if width % check_count("heads", heads):
            raise ValueError(f"width, heads: expected a width that the heads divide, got {width} and {heads}")
        check_count("depth", depth)
        check_rate("dropout", dropout)
        self.embed_time = TimeEmbedding(width)
        self.enter = nn.Embedding(self.values, width)
        nn.init.normal_(self.enter.weight, std=0.5)
        self.place = nn.Parameter(0.5 * torch.randn(self.event_size, width))
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(width, 4 * depth * width))
        self.layers = nn.ModuleList(_Layer(self.event_size, width, heads, dropout) for _ in range(depth))
        self.leave = nn.Linear(width, size)
        for module in (self.modulate[1], self.leave):
            nn.init.zeros_(cast(nn.Linear, module).weight)
            nn.init.zeros_(cast(nn.Linear, module).bias)

    def forward(
        self,
        t: Tensor | float,
        x: Tensor,
        condition: Condition | None = None,
        span: Tensor | float | None = None,
    ) -> Tensor:
        soft = x.is_floating_point()
        if tuple(x.shape[1:]) != (*self.event_shape, *([self.values] if soft else [])):
            raise ValueError(
                f"x: expected tokens of int64, (B, {str(self.event_shape)[1:-1]}), or probabilities of "
                f"{self.values} values, got {x.dtype} of shape {tuple(x.shape)}"
            )
        if span is not None:
            self.span_rows(span, x)  # which refuses it
        time = torch.as_tensor(t, dtype=self.place.dtype, device=x.device).reshape(-1)
        embedding, c = self.embed_time(time), self.condition_rows(condition, x)
        embedding = embedding if c is None else embedding + c
        changes = self.modulate(embedding)[:, None].chunk(4 * len(self.layers), -1)
        # of probabilities the mean
        mean = x.reshape(len(x), -1, self.values) @ self.enter.weight if soft else None
        h = (self.enter(flatten_event(x)) if mean is None else mean) + self.place
        for number, layer in enumerate(self.layers):
            h = layer(h, changes[4 * number : 4 * number + 4])
        return self.leave(_unit(h)).reshape(len(x), *self.event_shape, -1)


class _Layer(nn.Module):
    """Attention and a perceptron over places, then one over units; on what is normalised, scaled and shifted.

    places: of an event.
    """

    def __init__(self, places: int, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.inputs, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.places = nn.Sequential(nn.Linear(places, 2 * places), nn.GELU(), nn.Linear(2 * places, places))
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, h: Tensor, changes: Sequence[Tensor]) -> Tensor:
        rows, count, width = h.shape
        unit = _unit(h) * (1 + changes[0]) + changes[1]
        inputs = self.inputs(unit)
        q, k, v = inputs.reshape(rows, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(q, k, v)
        beside = self.places(unit.transpose(1, 2)).transpose(1, 2)
        h = h + self.drop(self.output(seen.transpose(1, 2).reshape(rows, count, width)) + beside)
        return h + self.drop(self.perceptron(_unit(h) * (1 + changes[2]) + changes[3]))


def _unit(h: Tensor) -> Tensor:
    return layer_norm(h, h.shape[-1:])
