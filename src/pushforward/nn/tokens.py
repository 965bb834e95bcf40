"""A transformer over tokens, modulated by time and condition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from ..tensors import Condition, flatten_event
from .base import Network
from .checks import check_count, check_rate
from .embeddings import ConditionSpec, TimeEmbedding

#: Places that a convolution sees, and how many places the slowest turn takes for a radian.
NEIGHBOURS, SLOWEST = 5, 100.0


class _Block(nn.Module, ABC):
    """Attention and what is beside it, then a perceptron over units, on what is normalised and modulated.

    places: of an event.
    """

    def __init__(self, places: int, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.inputs, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.add_beside(places, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    @abstractmethod
    def add_beside(self, places: int, width: int) -> None:
        """Create what is beside attention."""

    @abstractmethod
    def mixed(self, unit: Tensor) -> Tensor:
        """What places see of each other, ``(B, places, width)``."""

    def attended(self, unit: Tensor, turn: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
        """Attention, in which ``turn`` changes queries and keys ``(B, heads, places, units)``."""
        rows, count, width = unit.shape
        q, k, v = self.inputs(unit).reshape(rows, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(turn(q), turn(k), v)
        return self.output(seen.transpose(1, 2).reshape(rows, count, width))

    def forward(self, h: Tensor, changes: Sequence[Tensor]) -> Tensor:
        h = h + self.drop(self.mixed(_unit(h) * (1 + changes[0]) + changes[1]))
        return h + self.drop(self.perceptron(_unit(h) * (1 + changes[2]) + changes[3]))


class _Layer(_Block):
    """With a perceptron over places beside attention."""

    def add_beside(self, places: int, width: int) -> None:
        self.places = nn.Sequential(nn.Linear(places, 2 * places), nn.GELU(), nn.Linear(2 * places, places))

    def mixed(self, unit: Tensor) -> Tensor:
        return self.attended(unit) + self.places(unit.transpose(1, 2)).transpose(1, 2)


class _RelativeLayer(_Block):
    """With a convolution over neighbours before attention, whose scores depend on distances.

    Pairs of units of queries and keys are turned by angles in proportion to their place, so that products
    contain differences of places alone.
    """

    def add_beside(self, places: int, width: int) -> None:
        self.beside = nn.Conv1d(width, width, NEIGHBOURS, padding=NEIGHBOURS // 2, groups=width)
        pairs = width // self.heads // 2
        angles = torch.arange(places)[:, None] * SLOWEST ** (-torch.arange(pairs) / pairs)
        self.register_buffer("turns", torch.stack([angles.cos(), angles.sin()]), persistent=False)

    def mixed(self, unit: Tensor) -> Tensor:
        beside = self.beside(unit.transpose(1, 2)).transpose(1, 2)
        return self.attended(unit + beside, self.turned)

    def turned(self, x: Tensor) -> Tensor:
        """Queries or keys ``(B, heads, places, units)``, their pairs turned."""
        cos, sin = cast(Tensor, self.turns)
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Transformer(Network):
    """A transformer over tokens, of which every one sees all others; what a layer is says a subclass.

    Time and condition scale and shift what every layer sees.  The scores are zero before training.
    """

    takes_tokens: ClassVar[bool] = True
    #: what layers are, and the deviation of what is added to tokens by their place
    layer: ClassVar[type[_Block]]
    placed: ClassVar[float]

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
        self.check_event(width // heads)
        check_count("depth", depth)
        check_rate("dropout", dropout)
        self.embed_time = TimeEmbedding(width)
        self.enter = nn.Embedding(self.values, width)
        nn.init.normal_(self.enter.weight, std=0.5)
        self.place = nn.Parameter(self.placed * torch.randn(self.event_size, width))
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(width, 4 * depth * width))
        self.layers = nn.ModuleList(self.layer(self.event_size, width, heads, dropout) for _ in range(depth))
        self.leave = nn.Linear(width, size)
        for module in (self.modulate[1], self.leave):
            nn.init.zeros_(cast(nn.Linear, module).weight)
            nn.init.zeros_(cast(nn.Linear, module).bias)

    @abstractmethod
    def check_event(self, units: int) -> None:
        """Raise ValueError for events, and numbers of units of a head, that it cannot take."""

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


class TokenTransformer(Transformer):
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

    layer, placed = _Layer, 0.5
    of_text = "text-transformer"

    def check_event(self, units: int) -> None:
        """It takes all."""


class TextTransformer(Transformer):
    """A :class:`TokenTransformer` for windows of a text, which begin anywhere, so that distances count.

    Attention turns queries and keys by angles in proportion to their place, so that products know distances
    alone, and a convolution over neighbours comes before it; there is no perceptron over places.

    Options are those of a :class:`TokenTransformer`.  Raises ValueError as that, for events of more than one
    dimension and an odd number of units a head.  Su et al. 2021, arXiv 2104.09864.

    >>> net = TextTransformer(8, size=4, values=5, width=16)
    >>> net(0.5, torch.zeros(2, 8, dtype=torch.int64)).shape
    torch.Size([2, 8, 4])
    """

    layer, placed = _RelativeLayer, 0.02

    def check_event(self, units: int) -> None:
        if len(self.event_shape) != 1 or units % 2:
            raise ValueError(
                f"event_shape, heads: expected one dimension and an even number of units a head, got "
                f"shape {self.event_shape} and {units}"
            )


def _unit(h: Tensor) -> Tensor:
    return layer_norm(h, h.shape[-1:])
