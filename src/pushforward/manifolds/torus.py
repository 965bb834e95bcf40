"""The flat torus."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import random
from ..nn.checks import check_count
from .base import Manifold, dot


class Torus(Manifold):
    """n angles in radians, in [0, 2 pi), with the metric of R^n.

    A network sees the cosines and sines ``(B, 2 n)``, which have no jump at 2 pi, and its vector is taken
    along the circles.  Raises ValueError unless n is at least 1.

    >>> Torus(1).log(torch.tensor([[0.1]]), torch.tensor([[6.2]])).round(decimals=4)
    tensor([[-0.1832]])
    """

    def __init__(self, n: int = 2):
        self.dim = check_count("n", n)
        self.event_shape = (self.dim,)
        self.log_volume = n * math.log(2 * math.pi)

    def __repr__(self) -> str:
        return f"Torus({self.dim})"

    @property
    def embedded_shape(self) -> tuple[int, ...]:
        return (2 * self.dim,)

    def project(self, x: Tensor) -> Tensor:
        turned = x.remainder(2 * math.pi)
        # of a tiny negative angle the remainder is rounded to a whole turn
        return torch.where(turned >= 2 * math.pi, turned - 2 * math.pi, turned)

    def project_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return dot(u, v)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.project(x + v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return (y - x + math.pi).remainder(2 * math.pi) - math.pi

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return v

    def uniform(self, n: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
        return 2 * math.pi * random.uniform((n, self.dim), generator, like.dtype, like.device)

    def origin(self, like: Tensor) -> Tensor:
        return like.new_zeros(1, self.dim)

    def embed(self, x: Tensor) -> Tensor:
        return torch.cat([x.cos(), x.sin()], 1)

    def from_embedded(self, x: Tensor, w: Tensor) -> Tensor:
        across, up = w.chunk(2, 1)
        return x.cos() * up - x.sin() * across

    def log_bump(self, width: float) -> float | None:
        """That of von Mises in every angle, of concentration 1 / width^2."""
        k = torch.tensor(width**-2, dtype=torch.float64)
        return self.dim * (math.log(2 * math.pi) + float(torch.special.i0e(k).log()))

    def draw_bump(self, centres: Tensor, width: float, generator: torch.Generator | None) -> Tensor:
        # by the distribution function on a grid that is fine about the centre
        ends = torch.linspace(-1, 1, 4001, dtype=torch.float64)
        spread = min(math.pi, 10 * width)
        angle = spread * ends
        mass = torch.cumulative_trapezoid((-(1 - angle.cos()) / width**2).exp(), angle)
        mass = torch.cat([mass.new_zeros(1), mass]) / mass[-1]
        u = random.uniform(centres.shape, generator, torch.float64).to(mass)
        place = torch.searchsorted(mass, u).clamp(1, len(mass) - 1)
        low, high = mass[place - 1], mass[place]
        share = (u - low) / (high - low).clamp(min=1e-300)
        turn = angle[place - 1] + share * (angle[place] - angle[place - 1])
        return self.project(centres + turn.to(centres))

    def cut(self, x: Tensor, y: Tensor) -> Tensor:
        near = torch.finfo(x.dtype).eps ** 0.5
        return ((self.log(x, y).abs() - math.pi).abs() < near).any(1)

    def off(self, x: Tensor) -> Tensor:
        """0 for any finite angles, which all stand for points."""
        return (x - x).abs().amax(1)
