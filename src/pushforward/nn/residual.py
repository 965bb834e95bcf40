"""A residual perceptron whose blocks are modulated by time and condition."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import layer_norm

from ..tensors import Condition, flatten_event
from .base import Network, activation
from .checks import check_count, check_rate
from .embeddings import ConditionSpec, FourierFeatures, TimeEmbedding


class ResidualMLP(Network):
    r"""Residual blocks on Fourier features of ``x``, scaled and shifted by time and condition.

    .. math:: h \leftarrow h + B\,\varphi(A(\mathrm{norm}(h)\,(1 + a(t, c)) + b(t, c)))

    event_shape: shape of one event, flattened inside; an int d stands for ``(d,)``.
    condition: see :class:`ConditionEmbedding`; None for an unconditional network.
    width, depth: units per layer, number of residual blocks of two layers each.
    frequencies: octaves of :class:`FourierFeatures`; None: 5 for events of up to 8 numbers, in which sharp
    edges matter, and none for larger ones.
    activation: elu, gelu, relu, selu, silu, softplus or tanh.
    dropout: dropout rate of the output of each block in training mode, drawn from PyTorch's global generator.

    The output is zero before training, which is a sensible first guess of any velocity.  Raises
    ValueError for a size out of range or an unknown activation.  Modulation: Perez et al. 2018,
    arXiv 1709.07871 (FiLM), and Peebles & Xie 2023, arXiv 2212.09748, section 3.2.

    >>> import torch
    >>> net = ResidualMLP(2, width=32)
    >>> net(0.5, torch.ones(2, 2))
    tensor([[0., 0.], [0., 0.]], grad_fn=...)
    """

    def __init__(
        self,
        event_shape: int | Sequence[int],
        condition: ConditionSpec = None,
        width: int = 256,
        depth: int = 4,
        frequencies: int | None = None,
        activation: str = "silu",
        dropout: float = 0.0,
    ):
        # Half the width is enough for time and condition, and halves what modulation costs.
        embedding = max(8, check_count("width", width) // 2)
        super().__init__(event_shape, condition, embedding)
        check_count("depth", depth)
        if frequencies is None:
            frequencies = 5 if self.event_size <= 8 else 0
        self.features = FourierFeatures(self.event_size, check_count("frequencies", frequencies, 0))
        self.embed_time = TimeEmbedding(embedding)
        self.enter = nn.Linear(self.features.size, width)
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * depth * width))
        check_rate("dropout", dropout)
        self.blocks = nn.ModuleList(_branch(width, activation, dropout) for _ in range(depth))
        self.leave = nn.Linear(width, self.event_size)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        embedding = self.embed_time(self.time_rows(t, x))
        c = self.condition_rows(condition, x)
        if c is not None:
            embedding = embedding + c
        modulation = self.modulate(embedding).chunk(2 * len(self.blocks), -1)
        h = self.enter(self.features(flatten_event(x)))
        for block, a, b in zip(self.blocks, modulation[0::2], modulation[1::2]):
            h = h + block(layer_norm(h, h.shape[-1:]) * (1 + a) + b)
        return self.leave(layer_norm(h, h.shape[-1:])).reshape(x.shape)


def _branch(width: int, name: str, dropout: float) -> nn.Sequential:
    layers = (nn.Linear(width, width), activation(name), nn.Linear(width, width))
    return nn.Sequential(*layers, *([nn.Dropout(dropout)] if dropout else []))
