"""Euclidean space."""

from __future__ import annotations

import torch
from torch import Tensor

from ..nn.checks import check_count
from .base import Manifold, dot


class Euclidean(Manifold):
    """R^n, on which all of this is what it is without manifolds.  Raises ValueError unless n is at least 1.

    >>> Euclidean(2).distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
    tensor([5.])
    """

    def __init__(self, n: int = 2):
        self.dim = check_count("n", n)
        self.event_shape = (self.dim,)

    def __repr__(self) -> str:
        return f"Euclidean({self.dim})"

    def project(self, x: Tensor) -> Tensor:
        return x

    def project_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return dot(u, v)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return v

    def uniform(self, n: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
        raise self._infinite()

    def origin(self, like: Tensor) -> Tensor:
        return like.new_zeros(1, self.dim)
