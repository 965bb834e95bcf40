"""A small convolutional network, which computes parameters of coupling layers for images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..tensors import Condition
from .checks import check_count, check_rate, check_sizes
from .embeddings import ConditionEmbedding, ConditionSpec


class ConvConditioner(nn.Module):
    """``(B, inputs, H, W)`` and a condition to ``(B, outputs, H, W)``; the output is zero before training.

    inputs, outputs: channels.
    size: (H, W) of the images, for a learnt bias of each position; None for any size, without such biases.
    condition: see :class:`ConditionEmbedding`; it is added as a bias after the first convolution.
    width, depth: channels inside, number of residual blocks (convolutions of 3 x 3 and of 1 x 1).
    dropout: rate inside the blocks in training mode, drawn from PyTorch's global generator.

    Raises ValueError for sizes out of range.  Residual blocks: He et al. 2016, arXiv 1603.05027.

    >>> ConvConditioner(2, 4, (7, 7), condition=10, width=8)(torch.zeros(3, 2, 7, 7), torch.arange(3)).shape
    torch.Size([3, 4, 7, 7])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: Sequence[int] | None = None,
        condition: ConditionSpec = None,
        width: int = 32,
        depth: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        check_count("inputs", inputs)
        check_count("outputs", outputs)
        check_count("width", width)
        check_count("depth", depth, 0)
        check_rate("dropout", dropout)
        self.embed_condition = None if condition is None else ConditionEmbedding(condition, width)
        self.enter = nn.Conv2d(inputs, width, 3, padding=1)
        self.place = None
        if size is not None:
            self.place = nn.Parameter(torch.zeros(width, *check_sizes("size", size, 2)))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Conv2d(width, width, 1),
            )
            for _ in range(depth)
        )
        self.leave = nn.Sequential(nn.SiLU(), nn.Conv2d(width, outputs, 3, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)
        # channels last is what convolutions are quick in, on processors and accelerators alike
        self.to(memory_format=torch.channels_last)  # type: ignore[reportCallIssue]  # torch's stub lacks it

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        h = self.enter(x.contiguous(memory_format=torch.channels_last))
        if self.place is not None:
            h = h + self.place
        if self.embed_condition is not None:
            h = h + self.embed_condition(condition, x.shape[0]).to(x.dtype)[:, :, None, None]
        for block in self.blocks:
            h = h + block(h)
        return self.leave(h)
