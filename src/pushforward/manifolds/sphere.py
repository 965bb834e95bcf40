"""The sphere."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import random
from ..nn.checks import check_count
from .base import Manifold, column, dot, length, ratio


class Sphere(Manifold):
    """The unit sphere S^n, points of R^(n+1) of length 1.

    exp_x(v) = cos|v| x + sin|v| v/|v|; log_x(y) has the length of the angle between x and y.  The uniform
    distribution on S^2 has the log-density -log(4 pi) = -2.531.  Raises ValueError unless n is at least 1.

    >>> north, east = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    >>> Sphere(2).distance(north, east), Sphere(2).exp(north, torch.pi / 2 * east)[:, 0]
    (tensor([1.5708]), tensor([1.]))
    """

    def __init__(self, n: int = 2):
        self.dim = check_count("n", n)
        self.event_shape = (self.dim + 1,)
        self.log_volume = math.log(2) + (n + 1) / 2 * math.log(math.pi) - math.lgamma((n + 1) / 2)

    def __repr__(self) -> str:
        return f"Sphere({self.dim})"

    def project(self, x: Tensor) -> Tensor:
        return x / length(x)[:, None]

    def project_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v - dot(x, v)[:, None] * x

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return dot(u, v)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        angle = length(v)[:, None]
        # sin|v| / |v|; the projection takes away what rounding adds to the length
        return self.project(angle.cos() * x + torch.sinc(angle / math.pi) * v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        towards = self.project_tangent(x, y - x)
        return column(ratio(self.distance(x, y), length(towards)), x) * towards

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The angle, 2 atan2(|x - y|, |x + y|), which keeps its digits at 0 and at pi."""
        return 2 * torch.atan2(length(x - y), length(x + y))

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        # a reflection, which keeps lengths however near y is to the antipode
        middle = x + y
        return v - ratio(2 * dot(middle, v), dot(middle, middle), 0.0)[:, None] * middle

    def uniform(self, n: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
        return self.project(random.normal((n, *self.event_shape), generator, like.dtype, like.device))

    def origin(self, like: Tensor) -> Tensor:
        return torch.nn.functional.pad(like.new_ones(1, 1), (self.dim, 0))

    def log_bump(self, width: float) -> float | None:
        """That of von Mises and Fisher, of concentration 1 / width^2; in closed form on the sphere of R^3."""
        if self.dim != 2:
            return None
        return math.log(2 * math.pi * width**2) + math.log(-math.expm1(-2 / width**2))

    def draw_bump(self, centres: Tensor, width: float, generator: torch.Generator | None) -> Tensor:
        # the cosine of the angle to the centre has a distribution function that is inverted in closed form
        u = random.uniform((len(centres),), generator, centres.dtype, centres.device)
        fall = width**2 * torch.log(u + (1 - u) * math.exp(-2 / width**2))
        aside = random.normal(centres.shape, generator, centres.dtype, centres.device)
        aside = self.project(self.project_tangent(centres, aside))
        cosine = (1 + fall).clamp(-1, 1)[:, None]
        return self.project(cosine * centres + (1 - cosine.square()).sqrt() * aside)

    def cut(self, x: Tensor, y: Tensor) -> Tensor:
        return length(x + y) < torch.finfo(x.dtype).eps ** 0.5
