"""What tests of transport plans share: clouds of points, their costs, and masses."""

from __future__ import annotations

import ot
import torch
from torch import Tensor

DOUBLE = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clouds(n: int, m: int, seed: int = 0, d: int = 2) -> tuple[Tensor, Tensor]:
    g = gen(seed)
    return torch.randn(n, d, dtype=DOUBLE, generator=g), torch.randn(
        m, d, dtype=DOUBLE, generator=g
    ) * 1.5 + 1


def table(n: int, m: int, seed: int = 0) -> Tensor:
    """Squared distances by NumPy, through POT."""
    x, y = clouds(n, m, seed)
    return torch.from_numpy(ot.dist(x.numpy(), y.numpy()))


def weights(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, dtype=DOUBLE, generator=gen(seed)) + 0.05


def shares(n: int, seed: int = 0) -> Tensor:
    return weights(n, seed) / weights(n, seed).sum()
