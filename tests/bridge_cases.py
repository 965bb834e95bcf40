"""Distributions and points that the tests of bridges share."""

from __future__ import annotations

import torch
from torch import Tensor

from pushforward.oracles import GaussianBridge
from pushforward.random import seeded

DOUBLE = torch.float64
SIGMA = 0.8


def distributions(d: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    means = torch.randn(2, d, generator=g, dtype=DOUBLE)
    roots = torch.randn(2, d, d, generator=g, dtype=DOUBLE)
    covariances = 0.5 * roots @ roots.mT + 0.3 * torch.eye(d, dtype=DOUBLE)
    return means[0], covariances[0], means[1], covariances[1]


def places(bridge: GaussianBridge, n: int = 6) -> Tensor:
    return 2 * torch.randn(n, len(bridge.mean0), generator=seeded("places"), dtype=DOUBLE)
