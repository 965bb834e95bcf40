"""The plain multilayer perceptron of the flow-matching papers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..tensors import Condition, flatten_event
from .base import Network, activation
from .checks import check_count
from .embeddings import ConditionSpec


class MLP(Network):
    """A perceptron on ``[x, t, embedding of the condition]``.

    event_shape: shape of one event, flattened inside; an int d stands for ``(d,)``.
    condition: see :class:`ConditionEmbedding`; None for an unconditional network.
    width, depth: units per hidden layer, number of hidden layers.
    activation: elu, gelu, relu, selu, silu, softplus or tanh.

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
    ):
        super().__init__(event_shape, condition, check_count("width", width))
        check_count("depth", depth)
        inputs = self.event_size + 1 + (0 if condition is None else width)
        self.layers = _perceptron([inputs, *[width] * depth, self.event_size], activation)

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        t = self.time_rows(t, x)
        rows = x.shape[0]
        inputs = [flatten_event(x), t[:, None].expand(rows, 1)]
        embedding = self.condition_rows(condition, x)
        if embedding is not None:
            inputs.append(embedding.expand(rows, -1))
        return self.layers(torch.cat(inputs, -1)).reshape(x.shape)


def _perceptron(sizes: Sequence[int], name: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), activation(name)]
    return nn.Sequential(*layers[:-1])
