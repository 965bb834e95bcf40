"""Kernel densities on manifolds, and the base distribution of one, in data units."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from ... import random
from ...bijections import Bijection
from ...manifolds import Manifold
from ...tensors import Condition

#: Widths that are tried, in embedded coordinates; and pairs of rows that are looked at together.
WIDTHS = [0.002 * 1.35**i for i in range(22)]
PAIRS = 2**22


class Density(Protocol):
    """A density of points of a manifold."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities ``(n,)`` per volume of the manifold."""
        ...

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Points ``(n, *event)``."""
        ...


class ManifoldKernels:
    """The mean of kernels about ``points`` ``(n, *event)``: a kernel density estimate on a manifold.

    A bump is proportional to exp(-|embed(x) - embed(y)|^2 / (2 width^2)): that of von Mises and Fisher on the
    sphere, of von Mises in every angle on a torus.  The ``width`` is that of :data:`WIDTHS` under which
    points are likeliest that are left out one by one, at most ``queries`` of them.  Raises ValueError for a
    manifold whose kernels are not known in closed form.

    >>> from pushforward.manifolds import Sphere
    >>> north = Sphere(2).project(torch.tensor([0.0, 0.0, 1.0]) + 0.1 * torch.randn(200, 3))
    >>> 0.03 < ManifoldKernels(Sphere(2), north).width < 0.2
    True
    """

    def __init__(
        self,
        manifold: Manifold,
        points: Tensor,
        queries: int = 1000,
        generator: torch.Generator | None = None,
    ):
        if manifold.log_bump(1.0) is None:
            raise ValueError(f"no kernel of {manifold} is known in closed form")
        self.manifold, self.points = manifold, points
        self.centres = manifold.embed(points).flatten(1)
        order = random.uniform((len(points),), generator, torch.float64).argsort()[:queries]
        squares = torch.cdist(self.centres[order], self.centres).square()
        squares[torch.arange(len(order)), order] = torch.inf
        scores = [float(self._mean(squares, width, len(points) - 1).mean()) for width in WIDTHS]
        self.width = WIDTHS[max(range(len(WIDTHS)), key=scores.__getitem__)]

    def _mean(self, squares: Tensor, width: float, count: int) -> Tensor:
        log_bump = self.manifold.log_bump(width)
        assert log_bump is not None
        return (-squares / (2 * width**2)).logsumexp(1) - math.log(count) - log_bump

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities ``(n,)`` per volume of the manifold."""
        seen = self.manifold.embed(x).flatten(1)
        parts = seen.split(max(1, PAIRS // len(self.centres)))
        squares = (torch.cdist(part, self.centres).square() for part in parts)
        return torch.cat([self._mean(each, self.width, len(self.centres)) for each in squares])

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Points ``(n, *event)``."""
        chosen = random.uniform((n,), generator, torch.float64) * len(self.points)
        return self.manifold.draw_bump(self.points[chosen.long()], self.width, generator)


class OnChart:
    """A ``density`` of points of a manifold as one of rows in data units, whatever their condition.

    chart: from points to rows.  note: what the fit chose.
    """

    def __init__(self, density: Density, chart: Bijection, note: str = ""):
        self.density, self.chart, self.note = density, chart, note

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """Log-densities ``(n,)`` of rows ``(n, d)``."""
        points, log_det = self.chart.inverse_and_log_det(x)
        return self.density.log_prob(points) + log_det

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Rows ``(n, d)``."""
        return self.chart.forward(self.density.sample(n, generator=generator))
