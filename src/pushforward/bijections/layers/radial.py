"""Radial layers: points move towards a centre or away from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...nn.checks import check_count
from ...tensors import Condition
from ..base import Bijection
from ..numerics.shapes import check_vectors
from ..numerics.slopes import STEEPEST, bounded


class Radial(Bijection):
    r"""y = x + k q (x - c) with q = r / (r + |x - c|), r > 0, k > -1, on vectors of ``dim`` numbers.

    log|det| = (dim - 1) log(1 + k q) + log(1 + k q^2) (Rezende & Mohamed 2015, arXiv 1505.05770,
    section 4.1, with alpha = r and beta = k r).  1 + k = exp(a), the slope at the centre, and r are kept
    within exp(-5) and exp(5), smoothly, so that the map is invertible at any parameters.  The inverse is
    the positive root of a quadratic.  The layer starts as the identity.  Raises ValueError for a ``dim``
    below 1 and for events that are no vectors of ``dim`` numbers.

    >>> Radial(2).forward(torch.ones(1, 2))
    tensor([[1., 1.]], grad_fn=...)
    """

    def __init__(self, dim: int):
        super().__init__()
        check_count("dim", dim)
        self.dim = dim
        self.centre = nn.Parameter(torch.zeros(dim))
        self.radius, self.slope = (nn.Parameter(torch.zeros(())) for _ in range(2))

    def _parts(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c, r and log(1 + k)."""
        radius, slope = (bounded(p.to(like.dtype), STEEPEST) for p in (self.radius, self.slope))
        return self.centre.to(like.dtype), radius.exp(), slope

    def _slopes(self, distance: Tensor, r: Tensor, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """k q, 1 + k q and log|det| at ``distance`` from the centre."""
        near, far = r / (r + distance), distance / (r + distance)
        # sums of positive terms, in which no digits cancel
        across = far + slope.exp() * near
        along = far * (1 + near) + slope.exp() * near.square()
        return slope.expm1() * near, across, (self.dim - 1) * across.log() + along.log()

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        check_vectors(x, self.dim)
        centre, r, slope = self._parts(x)
        offset = x - centre
        share, _, log_det = self._slopes(torch.linalg.vector_norm(offset, dim=1), r, slope)
        return x + share[:, None] * offset, log_det

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        check_vectors(y, self.dim)
        centre, r, slope = self._parts(y)
        offset = y - centre
        reach = torch.linalg.vector_norm(offset, dim=1)
        # reach = distance (distance + r (1 + k)) / (distance + r)
        half = 0.5 * (reach - r * slope.exp())
        root = (half.square() + r * reach).sqrt()
        distance = torch.where(half > 0, half + root, r * reach / (root - half.clamp(max=0)))
        share, across, log_det = self._slopes(distance, r, slope)
        return y - (share / across)[:, None] * offset, -log_det
