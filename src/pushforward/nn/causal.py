"""A causal transformer, which computes parameters of autoregressive layers on sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ..tensors import Condition
from .checks import check_count, check_rate
from .embeddings import ConditionEmbedding, ConditionSpec

#: Keys and values ``(B, heads, tokens so far, width of a head)`` of one layer.
Cache = tuple[Tensor, Tensor]


class CausalTransformer(nn.Module):
    """``(B, n, inputs)`` and a condition to ``(B, n, outputs)``; output i depends on the tokens up to i.

    tokens: the longest n, each place of which has a learnt embedding.
    inputs, outputs: numbers per token.
    condition: see :class:`ConditionEmbedding`; it is added to every token.
    width, depth, heads: units per token, layers, heads of attention.
    dropout: dropout rate of the output of each layer in training mode, drawn from PyTorch's global generator.

    The output is zero before training.  Raises ValueError for sizes out of range and a width that is not a
    multiple of heads.  Vaswani et al. 2017, arXiv 1706.03762, normalised before each part as in Xiong et al.
    2020, arXiv 2002.04745.

    >>> CausalTransformer(9, 4, 8, width=16)(torch.zeros(3, 9, 4)).shape
    torch.Size([3, 9, 8])
    """

    def __init__(
        self,
        tokens: int,
        inputs: int,
        outputs: int,
        condition: ConditionSpec = None,
        width: int = 96,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
    ):
        super().__init__()
        for name, value in (("tokens", tokens), ("inputs", inputs), ("outputs", outputs), ("depth", depth)):
            check_count(name, value)
        if check_count("width", width) % check_count("heads", heads):
            raise ValueError(f"width, heads: expected a width that the heads divide, got {width} and {heads}")
        check_rate("dropout", dropout)
        self.embed_condition = None if condition is None else ConditionEmbedding(condition, width)
        self.enter = nn.Linear(inputs, width)
        self.place = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.layers = nn.ModuleList(_Layer(width, heads, dropout) for _ in range(depth))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))
        last = self.leave[1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.extend(x, condition, [])[0]

    def extend(
        self, x: Tensor, condition: Condition | None, caches: list[Cache]
    ) -> tuple[Tensor, list[Cache]]:
        """Outputs of the tokens ``x`` ``(B, n, inputs)`` that follow those in ``caches``, and longer caches.

        ``caches`` is empty at first; later only one token at a time may follow.
        """
        start = caches[0][0].shape[2] if caches else 0
        assert start == 0 or x.shape[1] == 1, "after the first call tokens follow one by one"
        h = self.enter(x) + self.place[start : start + x.shape[1]].to(x.dtype)
        if self.embed_condition is not None:
            h = h + self.embed_condition(condition, x.shape[0]).to(x.dtype)[:, None]
        seen: list[Cache] = []
        for number, layer in enumerate(self.layers):
            h, cache = layer(h, caches[number] if caches else None)
            seen.append(cache)
        return self.leave(h), seen


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, h: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        rows, count, width = h.shape
        inputs = self.inputs(self.norm(h)).reshape(rows, count, 3, self.heads, width // self.heads)
        q, k, v = inputs.permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        # a single token that follows others sees all of them
        seen = scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        h = h + self.output(seen.transpose(1, 2).reshape(rows, count, width))
        return h + self.perceptron(h), (k, v)
