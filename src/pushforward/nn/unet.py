"""A compact U-Net for images of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from ..tensors import Condition
from .base import ModulatedNetwork
from .checks import check_count, check_rate
from .embeddings import ConditionSpec


class UNet(ModulatedNetwork):
    """Residual convolutions down to a coarse grid and up again, with a skip connection at every resolution.

    event_shape: (C, H, W); any height and width, odd ones too.
    condition: see :class:`ConditionEmbedding`; None for an unconditional network.
    width: channels at full resolution.
    multipliers: channels of each resolution as multiples of ``width``; each halves the one before.
    blocks: residual blocks per resolution, on the way down and again on the way up.
    attention: whether the middle, at the lowest resolution, attends over all positions.
    dropout: rate inside the blocks in training mode, drawn from PyTorch's global generator.
    spans: whether it takes a second time, see :class:`Network`.

    The output is zero before training, which is a sensible first guess of any velocity.  No statistic is
    taken over the batch.  Raises ValueError for an event shape without three sizes and for an option out
    of range.  Ronneberger et al. 2015, arXiv 1505.04597, modulated as in Perez et al. 2018, arXiv
    1709.07871 (FiLM).

    >>> net = UNet((1, 7, 5), condition=10, width=8)
    >>> net(torch.rand(2), torch.zeros(2, 1, 7, 5), torch.tensor([3, -1])).shape
    torch.Size([2, 1, 7, 5])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        condition: ConditionSpec = None,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        attention: bool = False,
        dropout: float = 0.0,
        spans: bool = False,
    ):
        embedding = 4 * check_count("width", width)
        super().__init__(event_shape, condition, embedding, spans)
        if len(self.event_shape) != 3:
            raise ValueError(f"event_shape: expected (C, H, W), got {self.event_shape}")
        if not isinstance(multipliers, Sequence) or not multipliers:
            raise ValueError(f"multipliers: expected integers, one per resolution, got {multipliers!r}")
        check_rate("dropout", dropout)
        check_count("blocks", blocks)
        sizes = [width * check_count("multipliers", m) for m in multipliers]
        colours = self.event_shape[0]

        self._embed_times(embedding)
        self.enter = nn.Conv2d(colours, sizes[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        for i, size in enumerate(sizes):
            self.down.append(nn.ModuleList(_Block(size, size, embedding, dropout) for _ in range(blocks)))
            self.up.append(
                nn.ModuleList(
                    _Block(2 * size if k == 0 else size, size, embedding, dropout) for k in range(blocks)
                )
            )
            if i + 1 < len(sizes):
                self.shrink.append(nn.Conv2d(size, sizes[i + 1], 3, stride=2, padding=1))
                self.grow.append(nn.Conv2d(sizes[i + 1], size, 3, padding=1))
        self.middle = _Block(sizes[-1], sizes[-1], embedding, dropout)
        self.attend = _Attention(sizes[-1]) if attention else nn.Identity()
        self.leave = nn.Sequential(_norm(sizes[0]), nn.SiLU(), nn.Conv2d(sizes[0], colours, 3, padding=1))
        _zero(self.leave[-1])

    def forward(
        self,
        t: Tensor | float,
        x: Tensor,
        condition: Condition | None = None,
        span: Tensor | float | None = None,
    ) -> Tensor:
        embedding = silu(self.embedded(t, x, condition, span))
        h = self.enter(x)
        links: list[Tensor] = []
        for i, level in enumerate(self.down):
            if i > 0:
                h = self.shrink[i - 1](h)
            h = _through(level, h, embedding)
            links.append(h)
        h = self.attend(self.middle(h, embedding))
        for i, level in reversed(list(enumerate(self.up))):
            if h.shape[-2:] != links[i].shape[-2:]:
                # Halving rounds up, so the way back goes to the link's own size: no padding, no crop.
                h = self.grow[i](interpolate(h, size=links[i].shape[-2:], mode="nearest"))
            elif i < len(self.grow):
                h = self.grow[i](h)
            h = _through(level, torch.cat([h, links[i]], 1), embedding)
        return self.leave(h)


class _Block(nn.Module):
    """Two convolutions with a skip connection; the embedding scales and shifts the input of the second."""

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float):
        super().__init__()
        self.first = nn.Sequential(_norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.modulate = nn.Linear(embedding, 2 * outputs)
        self.norm = _norm(outputs)
        self.second = nn.Sequential(nn.SiLU(), nn.Dropout(dropout), nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        _zero(self.second[-1])

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        a, b = self.modulate(embedding)[:, :, None, None].chunk(2, 1)
        return self.skip(x) + self.second(self.norm(self.first(x)) * (1 + a) + b)


class _Attention(nn.Module):
    """Self-attention over the positions of an image; added to its input.

    It does not use the fused kernels, which have no forward-mode derivative.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.heads = math.gcd(channels, 4)
        self.norm = _norm(channels)
        self.inputs = nn.Conv2d(channels, 3 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)
        _zero(self.output)

    def forward(self, x: Tensor) -> Tensor:
        rows, channels, height, width = x.shape
        split = (rows, 3, self.heads, channels // self.heads, height * width)
        q, k, v = self.inputs(self.norm(x)).reshape(split).unbind(1)
        weights = (q.mT @ k / math.sqrt(q.shape[-2])).softmax(-1)
        return x + self.output((v @ weights.mT).reshape(rows, channels, height, width))


def _norm(channels: int) -> nn.GroupNorm:
    # At least four channels to a group where possible: one channel on one position normalises to zero.
    return nn.GroupNorm(math.gcd(channels, min(8, max(1, channels // 4))), channels)


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


def _through(level: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
    for block in level.children():
        h = block(h, embedding)
    return h
