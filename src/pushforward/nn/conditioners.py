"""Networks that compute parameters of bijections: without time, with outputs that are zero at first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..tensors import Condition, to_tensor
from .base import activation
from .checks import check_count
from .embeddings import ConditionEmbedding, ConditionSpec


class Perceptron(nn.Module):
    """``(B, inputs)`` and a condition to ``(B, outputs)``.

    ``inputs`` may be 0 if there is a condition.  ``width``, ``depth``: units per hidden layer, hidden layers;
    with ``relu`` they are initialised as in PyTorch, with other activations as by He et al. 2015 (arXiv
    1502.01852).  The last layer starts at zero, so all parameters that it gives start at zero.
    ``transposed``: whether outputs are transposed in memory, so that each output is contiguous over the
    batch, as monotone maps of many parameters need (``Monotone.rows_last``).  Raises ValueError for sizes out
    of range, an unknown activation and for neither inputs nor a condition.

    >>> Perceptron(3, 5)(torch.ones(2, 3)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        condition: ConditionSpec = None,
        width: int = 64,
        depth: int = 2,
        activation: str = "relu",
        transposed: bool = False,
    ):
        super().__init__()
        check_count("inputs", inputs, 0 if condition is not None else 1)
        check_count("outputs", outputs)
        check_count("width", width)
        check_count("depth", depth)
        self.embed_condition = None if condition is None else ConditionEmbedding(condition, width)
        first = inputs + (0 if condition is None else width)
        self.layers = _layers([first, *[width] * depth, outputs], activation, transposed)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.layers(_beside(x, self.embed_condition, condition))


class MaskedPerceptron(nn.Module):
    """A MADE: outputs i of ``(B, size, dim)`` depend only on the inputs before i.

    ``order`` ranks the inputs; element i depends on those of lower rank.  None: their own order.  Hidden
    units take the degrees 0, 1, ..., dim - 2 in turn (Germain et al. 2015, arXiv 1502.03509, section 4); all
    depend on the condition.  The last layer starts at zero.  ``transposed``: as for :class:`Perceptron`.
    Raises ValueError for sizes out of range and an order that is no permutation.

    >>> net = MaskedPerceptron(3, 2)
    >>> net(torch.ones(4, 3)).shape
    torch.Size([4, 2, 3])
    """

    def __init__(
        self,
        dim: int,
        size: int,
        condition: ConditionSpec = None,
        width: int = 64,
        depth: int = 2,
        activation: str = "relu",
        order: Tensor | None = None,
        transposed: bool = False,
    ):
        super().__init__()
        check_count("dim", dim)
        check_count("size", size)
        check_count("width", width)
        check_count("depth", depth)
        rank = torch.arange(dim) if order is None else to_tensor(order, "order")
        if rank.ndim != 1 or sorted(rank.tolist()) != list(range(dim)):
            raise ValueError(f"order: expected a permutation of 0 to {dim - 1}, got {rank.tolist()}")
        self.dim, self.size = dim, size
        self.embed_condition = None if condition is None else ConditionEmbedding(condition, width)
        hidden = torch.arange(width) * max(1, dim - 1) // width
        #: elements by rank, and how many hidden units of a layer the first k of them determine
        self.by_rank = rank.argsort().tolist()
        self.determined = torch.searchsorted(hidden, torch.arange(dim)).tolist()
        degrees = [rank, *[hidden] * depth]
        masks = [(b[:, None] >= a[None, :]).float() for a, b in pairwise(degrees)]
        masks.append((rank[:, None] > hidden[None, :]).float().repeat(size, 1))
        if condition is not None:
            masks[0] = torch.cat([masks[0], torch.ones(width, width)], 1)
        sizes = [masks[0].shape[1], *[width] * depth, dim * size]
        self.layers = _layers(sizes, activation, transposed, masks)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        x = _beside(x, self.embed_condition, condition)
        return self.layers(x).unflatten(-1, (self.size, self.dim))

    def one_by_one(self, x: Tensor, condition: Condition | None = None) -> OneByOne:
        """The outputs for rows ``(dim, B)``, element by element."""
        return OneByOne(self, x, condition)


class OneByOne:
    """The outputs of a masked perceptron for each element as soon as those before it are known.

    Each hidden unit is computed once, when the elements that it depends on are known, so that all elements
    together take the work of one pass.  ``x`` ``(dim, B)`` gives rows, dtype and device.  For use without
    gradients.
    """

    def __init__(self, network: MaskedPerceptron, x: Tensor, condition: Condition | None):
        self.network, rows = network, x.shape[1]
        linear = [layer for layer in network.layers if isinstance(layer, _Linear)]
        self.weights, self.biases = [layer.masked() for layer in linear], [layer.bias for layer in linear]
        first = self.weights[0]
        self.weights[0] = torch.cat([first[:, network.dim :], first[:, network.by_rank]], 1)
        self.values = [x.new_empty(len(w.mT), rows) for w in self.weights]
        self.told, self.known, self.units = first.shape[1] - network.dim, 0, 0
        if network.embed_condition is not None:
            self.values[0][: self.told] = network.embed_condition(condition, rows).mT

    def feed(self, x: Tensor) -> Tensor:
        """Outputs ``(size, B)`` of the element that follows ``x`` ``(k, B)``, further ones by rank."""
        network = self.network
        seen = self.told + self.known
        self.values[0][seen : seen + len(x)] = x
        self.known += len(x)
        new = slice(self.units, network.determined[self.known])
        above = self.values[0][: seen + len(x)]
        for i, values in enumerate(self.values[1:]):
            part = torch.addmm(self.biases[i][new, None], self.weights[i][new, : len(above)], above)
            values[new] = network.layers[2 * i + 1](part)
            above = values[: new.stop]
        self.units = new.stop
        own = slice(network.by_rank[self.known], None, network.dim)
        return torch.addmm(self.biases[-1][own, None], self.weights[-1][own, : len(above)], above)


def _beside(x: Tensor, embed: ConditionEmbedding | None, condition: Condition | None) -> Tensor:
    """Rows concatenated with the embedding of their condition, if there is one."""
    if embed is None:
        return x
    embedding = embed(condition, x.shape[0]).to(x.dtype)
    return torch.cat([x, embedding.expand(x.shape[0], -1)], -1)


class _Linear(nn.Linear):
    """A linear layer with a mask ``(outputs, inputs)`` of its weights, or outputs transposed in memory."""

    mask: Tensor | None

    def __init__(self, inputs: int, outputs: int, mask: Tensor | None, transposed: bool):
        super().__init__(inputs, outputs)
        self.transposed = transposed
        self.register_buffer("mask", mask, persistent=False)

    def masked(self) -> Tensor:
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, input: Tensor) -> Tensor:
        if self.transposed:
            return torch.addmm(self.bias[:, None], self.masked(), input.mT).mT
        return F.linear(input, self.masked(), self.bias)


def _linear(inputs: int, outputs: int, mask: Tensor | None, transposed: bool = False) -> nn.Linear:
    plain = mask is None and not transposed  # torch's own is the quickest
    return nn.Linear(inputs, outputs) if plain else _Linear(inputs, outputs, mask, transposed)


def _layers(
    sizes: list[int], name: str, transposed: bool, masks: Sequence[Tensor | None] | None = None
) -> nn.Sequential:
    layers: list[nn.Module] = []
    *hidden, (inputs, outputs) = pairwise(sizes)
    *hidden_masks, mask = masks or [None] * (len(hidden) + 1)
    for (a, b), m in zip(hidden, hidden_masks):
        linear = _linear(a, b, m)
        if name == "relu":
            # in place: nobody else keeps what a linear layer gives
            layers += [linear, nn.ReLU(inplace=True)]
        else:
            # torch's own start lets signals die away in smooth activations, which shrink small numbers
            nn.init.kaiming_normal_(linear.weight)
            layers += [linear, activation(name)]
    last = _linear(inputs, outputs, mask, transposed)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
