"""The path along geodesics of a manifold."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import random
from ..manifolds import Manifold
from ..tensors import expand_time
from .base import End, Path, PathPoint

#: How far, by the metric, a point goes that has no single geodesic to its partner.
MOVED = 1e-2


class GeodesicPath(Path):
    """x_t = exp_x0(t log_x0(x1)) (Chen & Lipman 2024, arXiv 2302.03660, eq. 15), at constant speed.

    The velocity is the initial one carried in parallel to x_t, which is exact up to t = 1.  Where x0 and x1
    are antipodal, or else at each other's cut locus, the geodesic is not unique: x0 is then moved by about
    0.01 in a random direction, and ``moved`` counts such pairs.

    >>> from pushforward.manifolds import Sphere
    >>> north, east = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    >>> GeodesicPath(Sphere(2)).sample(torch.tensor(0.5), north, east).x
    tensor([[0.7071, 0.0000, 0.7071]])
    """

    def __init__(self, manifold: Manifold):
        super().__init__()
        self.manifold = manifold
        self.moved = 0

    def sample(self, t: Tensor, *points: Tensor, generator: torch.Generator | None = None) -> PathPoint:
        """x_t and its velocity; raises ValueError for rows of another shape than the manifold's points."""
        x0, x1 = points
        space = self.manifold
        for name, x in (("x0", x0), ("x1", x1)):
            if tuple(x.shape[1:]) != space.event_shape:
                raise ValueError(f"{name}: expected points on {space}, got shape {tuple(x.shape)}")
        x0 = self._apart(x0, x1, generator)
        start = space.log(x0, x1)
        x = space.exp(x0, expand_time(t, x1) * start)
        return PathPoint(t, x, (x0, x1), space.transport(x0, x, start))

    def _apart(self, x0: Tensor, x1: Tensor, generator: torch.Generator | None) -> Tensor:
        """``x0``, where it has one geodesic to ``x1``, else beside it."""
        space = self.manifold
        rows = space.cut(x0, x1)
        count = int(rows.sum())
        if not count:
            return x0
        self.moved += count
        aside = space.project_tangent(x0, random.normal(x0.shape, generator, x0.dtype, x0.device))
        size = space.norm(x0, aside).reshape(-1, *[1] * (x0.ndim - 1))
        return torch.where(rows.reshape(size.shape), space.exp(x0, MOVED * aside / size), x0)

    def ends(self) -> tuple[End, End]:
        return End(1.0, 0.0, 0.0), End(0.0, 1.0, 0.0)
