"""The plain multilayer perceptron of the flow-matching papers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from ..tensors import Condition, flatten_event
from .base import Network, activation
from .checks import check_count
from .embeddings import ConditionSpec
from .slopes import contract, is_activation, is_linear, value_and_slope


class MLP(Network):
    """A perceptron on ``[x, t, embedding of the condition, span]``.

    event_shape: shape of one event, flattened inside; an int d stands for ``(d,)``.
    condition: see :class:`ConditionEmbedding`; None for an unconditional network.
    width, depth: units per hidden layer, number of hidden layers.
    activation: elu, gelu, relu, selu, silu, softplus or tanh.
    spans: whether it takes a second time, see :class:`Network`.

    Raises ValueError for a size below one or an unknown activation.  Small enough for the toys of
    Lipman et al. 2023, arXiv 2210.02747, and Tong et al. 2024, arXiv 2302.00482 (three layers of 64, SELU).

    >>> net = MLP(2, condition=10)
    >>> net(0.5, torch.zeros(4, 2), torch.tensor([0, 3, 9, -1])).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        event_shape: int | Sequence[int],
        condition: ConditionSpec = None,
        width: int = 64,
        depth: int = 3,
        activation: str = "silu",
        spans: bool = False,
    ):
        super().__init__(event_shape, condition, check_count("width", width), spans)
        check_count("depth", depth)
        inputs = self.event_size + 1 + (0 if condition is None else width) + spans
        self.layers = _perceptron([inputs, *[width] * depth, self.event_size], activation)

    def forward(
        self,
        t: Tensor | float,
        x: Tensor,
        condition: Condition | None = None,
        span: Tensor | float | None = None,
    ) -> Tensor:
        return self.layers(self._inputs(t, x, condition, span)).reshape(x.shape)

    def _inputs(
        self, t: Tensor | float, x: Tensor, condition: Condition | None, span: Tensor | float | None = None
    ) -> Tensor:
        t = self.time_rows(t, x)
        rows = x.shape[0]
        inputs = [flatten_event(x), t[:, None].expand(rows, 1)]
        embedding = self.condition_rows(condition, x)
        if embedding is not None:
            inputs.append(embedding.expand(rows, -1))
        if self.spans or span is not None:
            inputs.append(self.span_rows(span, x)[:, None].expand(rows, 1))
        return torch.cat(inputs, -1)

    def value_and_divergence(
        self, t: Tensor | float, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """The value and its divergence, see :func:`pushforward.fields.offered`, in closed form.

        With D_k the slopes of the L hidden layers, tr(V D_L W_L ... D_1 U) is found from d tangents, the
        columns of U, with L - 1 products each; or, as tr(W_2 D_1 (U V) D_L W_L ... D_2), from as many as
        the first layer has units, with L - 2 products each.  The cheaper one is taken, so that two hidden
        layers cost one product in any dimension.  None where a layer has been exchanged for one whose slope
        is not known.
        """
        layers = list(self.layers)
        linear, between = layers[0::2], layers[1::2]
        if not all(map(is_linear, linear)) or not all(map(is_activation, between)):
            return None
        h, slopes = self._inputs(t, x, condition), []
        for layer, act in zip(linear, between):
            h, slope = value_and_slope(act, layer(h))
            slopes.append(slope)
        enter, *weights, leave = (cast(Tensor, layer.weight) for layer in linear)
        value, enter = linear[-1](h).reshape(x.shape), enter[:, : self.event_size]
        units, products = len(enter), len(weights)
        if mask is None and weights and units * (products - 1) < self.event_size * products:
            back = [weight.t() for weight in weights[:0:-1]]
            return value, contract(enter @ leave, back, weights[0].t(), slopes[:0:-1], slopes[0])
        chosen = None if mask is None else flatten_event(mask).to(h.dtype)
        return value, contract(enter.t(), weights, leave, slopes, chosen)


def _perceptron(sizes: Sequence[int], name: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), activation(name)]
    return nn.Sequential(*layers[:-1])
