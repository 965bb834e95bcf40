"""A network with a stated Lipschitz constant."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..tensors import Condition
from .checks import check_count, check_number
from .embeddings import ConditionEmbedding, ConditionSpec

#: the largest slope of silu, at x = 2.3994, rounded up
STEEPEST_SILU = 1.09984

#: sharpness to begin with, of numbers of size 1 / sqrt(width)
SHARPNESS = 4.0


class LipschitzPerceptron(nn.Module):
    """``(B, dim)`` to ``(B, dim)`` with |g(x) - g(x')| <= ``lipschitz`` |x - x'| for equal conditions.

    A perceptron whose weight matrices are divided, where they exceed it, down to the spectral norm
    lipschitz^(1 / layers), found exactly by a singular value decomposition at each call, so that the
    bound holds at any weights; its activation is silu(s x) / (1.1 s) with learnt s, of slope at most 1 (Chen
    et al. 2019, arXiv 1906.02735, section 3.3).  The dependence on the condition is not bounded.  The last
    layer starts at zero.  Raises ValueError for sizes out of range and a constant outside (0, 1).

    >>> LipschitzPerceptron(3)(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        dim: int,
        condition: ConditionSpec = None,
        width: int = 64,
        depth: int = 2,
        lipschitz: float = 0.9,
    ):
        super().__init__()
        check_count("dim", dim)
        check_count("width", width)
        check_count("depth", depth)
        self.lipschitz = check_number("lipschitz", lipschitz, 0, 1)
        self.embed_condition = None if condition is None else ConditionEmbedding(condition, width)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([dim, *[width] * depth, dim]))
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)
        # bounded weights give small numbers, at which a silu that is not sharp is linear
        self.sharpness = nn.ParameterList(torch.full((width,), SHARPNESS) for _ in range(depth))

    def given(self, condition: Condition | None = None) -> Callable[[Tensor], Tensor]:
        """The network under ``condition`` with its weights divided once, for an iteration."""
        each = self.lipschitz ** (1 / len(self.layers))
        weights, biases = [], []
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            if torch.finfo(layer.weight.dtype).bits < 32:
                raise ValueError(
                    "a LipschitzPerceptron bounds its weights in float32 or float64, "
                    f"got {layer.weight.dtype}; take .float()"
                )
            weights.append(layer.weight / (torch.linalg.matrix_norm(layer.weight, 2) / each).clamp(min=1))
            biases.append(layer.bias)
        sharpness = [F.softplus(raw) * len(raw) ** 0.5 for raw in self.sharpness]

        def function(x: Tensor) -> Tensor:
            h = F.linear(x, weights[0], biases[0])
            if self.embed_condition is not None:
                h = h + self.embed_condition(condition, len(x)).to(x.dtype)
            for weight, bias, s in zip(weights[1:], biases[1:], sharpness):
                h = F.linear(h * torch.sigmoid(s * h) / STEEPEST_SILU, weight, bias)
            return h

        return function

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.given(condition)(x)
