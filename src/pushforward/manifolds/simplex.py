"""Probabilities, with the metric of Fisher and Rao."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..nn.checks import check_count
from .base import Manifold, dot
from .sphere import Sphere


class Simplex(Manifold):
    """n + 1 probabilities that sum to 1, with the Fisher-Rao metric sum_i u_i v_i / p_i.

    The roots of probabilities are a part of the sphere of radius 2: d(p, q) = 2 arccos sum_i sqrt(p_i q_i).
    Geodesics are those of the sphere; one that runs over the edge comes back.  The uniform distribution is
    Dirichlet(1/2) (Davis et al. 2024, arXiv 2405.14664).  At the edge, where a probability is 0, vectors in
    these coordinates are of infinite length.  Raises ValueError unless n is at least 1.

    >>> p = torch.tensor([[0.5, 0.5, 0.0]])
    >>> Simplex(2).distance(p, torch.tensor([[0.0, 0.0, 1.0]]))
    tensor([3.1416])
    """

    def __init__(self, n: int = 2):
        self.dim = check_count("n", n)
        self.event_shape = (self.dim + 1,)
        self.sphere = Sphere(n)
        assert self.sphere.log_volume is not None
        self.log_volume = self.sphere.log_volume - math.log(2)

    def __repr__(self) -> str:
        return f"Simplex({self.dim})"

    def _root(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Point and vector on the unit sphere; there vectors have half of their length."""
        root = x.clamp(min=torch.finfo(x.dtype).tiny).sqrt()
        return root, v / (2 * root)

    def project(self, x: Tensor) -> Tensor:
        positive = x.clamp(min=0)
        return positive / positive.sum(1, keepdim=True)

    def project_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v - x * v.sum(1, keepdim=True)

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return dot(u, v / x.clamp(min=torch.finfo(x.dtype).tiny))

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.project(self.sphere.exp(*self._root(x, v)).square())

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        root, _ = self._root(x, x)
        return 2 * root * self.sphere.log(root, self._root(y, y)[0])

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        return 2 * self.sphere.distance(x.sqrt(), y.sqrt())

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        root, slope = self._root(x, v)
        other, _ = self._root(y, y)
        return 2 * other * self.sphere.transport(root, other, slope)

    def uniform(self, n: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
        return self.project(self.sphere.uniform(n, generator, like).square())

    def origin(self, like: Tensor) -> Tensor:
        return like.new_full((1, self.dim + 1), 1 / (self.dim + 1))

    def from_embedded(self, x: Tensor, w: Tensor) -> Tensor:
        """p (w - sum_i p_i w_i), the gradient of sum_i p_i w_i, which never leads over the edge."""
        return x * (w - dot(x, w)[:, None])

    def log_scale(self, x: Tensor) -> Tensor:
        """Coordinates are those of the plane in which probabilities sum to 1."""
        return -0.5 * (x.log().sum(1) + math.log(self.dim + 1))
