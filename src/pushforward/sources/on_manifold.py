"""The base distribution of a manifold."""

from __future__ import annotations

import torch
from torch import Tensor

from ..manifolds import Manifold
from ..nn.checks import check_kind, check_number
from ..tensors import Condition
from .base import Source


class ManifoldBase(Source):
    """Uniform where the volume of ``manifold`` is finite, else the wrapped normal distribution at its origin.

    The latter is exp at the origin of normal vectors of deviation ``scale`` (Nagano et al. 2019, arXiv
    1902.02992); in a product each part has its own.  Densities are per Riemannian volume.  A flow with this
    source is a flow on the manifold.  Raises ValueError for what is no manifold and a scale that is not
    positive.

    >>> from pushforward.manifolds import Sphere
    >>> ManifoldBase(Sphere(2)).log_prob(torch.tensor([[0.0, 0.0, 1.0]]))
    tensor([-2.5310])
    """

    like: Tensor

    def __init__(self, manifold: Manifold, scale: float = 1.0):
        super().__init__()
        check_kind("manifold", manifold, Manifold)
        self.manifold = self.space = manifold
        self.scale = check_number("scale", scale, 0)
        self.event_shape = manifold.event_shape
        self.register_buffer("like", torch.zeros(()))  # holds dtype and device

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.space.draw(n, generator, self.like, self.scale)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.space.base_log_prob(x, self.scale)
