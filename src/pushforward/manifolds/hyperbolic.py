"""Hyperbolic space of curvature -1: the ball of Poincare and the hyperboloid of Lorentz."""

from __future__ import annotations

import torch
from torch import Tensor

from ..nn.checks import check_count
from .base import Manifold, dot, length, ratio


def _log_sinhc(r: Tensor) -> Tensor:
    """log(sinh r / r), r >= 0, without overflow."""
    small = r < 1e-2
    safe = torch.where(small, 1.0, r)
    far = safe + torch.log(-torch.expm1(-2 * safe) / (2 * safe))
    return torch.where(small, r.square() / 6 - r.square().square() / 180, far)


class Poincare(Manifold):
    """The ball |x| < 1 of R^n with the metric (2 / (1 - |x|^2))^2 |v|^2 (Nickel & Kiela 2017, 1705.08039).

    Raises ValueError unless n is at least 1.

    >>> Poincare(2).distance(torch.zeros(1, 2), torch.tensor([[0.5, 0.0]]))  # 2 atanh(1 / 2)
    tensor([1.0986])
    """

    origin_scale = 0.5

    def __init__(self, n: int = 2):
        self.dim = check_count("n", n)
        self.event_shape = (self.dim,)

    def __repr__(self) -> str:
        return f"Poincare({self.dim})"

    def _factor(self, x: Tensor) -> Tensor:
        size = length(x)
        return 2 / ((1 - size) * (1 + size))

    def project(self, x: Tensor) -> Tensor:
        """Points outside of the ball go just inside."""
        size, most = length(x), 1 - 4 * torch.finfo(x.dtype).eps
        return torch.where((size > most)[:, None], x * (most / size.clamp(min=most))[:, None], x)

    def project_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return self._factor(x).square() * dot(u, v)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        # Moebius addition in terms of tanh and cosh of the whole length: near the boundary that of a half
        # would be squared, and with it what is lost in its difference from 1
        factor, size = self._factor(x), length(v)
        far = factor * size
        scale = ratio(far.tanh(), size, factor)
        ahead = factor * (1 + scale * dot(x, v))
        return self.project((ahead[:, None] * x + scale[:, None] * v) / (ahead - 1 + 1 / far.cosh())[:, None])

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        factor, other, apart = self._factor(x), self._factor(y), y - x
        gap = length(apart)
        half = gap * (factor * other).sqrt() / 2  # sinh of half of the distance
        towards = apart - (factor / 2 * gap.square())[:, None] * x
        size = gap * (factor / other * (1 + half.square())).sqrt()  # of towards
        return ratio(2 * torch.asinh(half) / factor, size, 0.0)[:, None] * towards

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """2 asinh(|x - y| / sqrt((1 - |x|^2) (1 - |y|^2))), which keeps its digits near the boundary."""
        return 2 * torch.asinh(length(x - y) * (self._factor(x) * self._factor(y)).sqrt() / 2)

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """The gyration of y and -x, scaled by the metric."""
        x = -x
        yv, xv, yx, yy, xx = (dot(a, b)[:, None] for a, b in ((y, v), (x, v), (y, x), (y, y), (x, x)))
        along_y = xv * (1 + 2 * yx) - yv * xx
        along_x = -xv * yy - yv
        turned = v + 2 * (along_y * y + along_x * x) / (1 + 2 * yx + yy * xx)
        return turned * (self._factor(x) / self._factor(y))[:, None]

    def uniform(self, n: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
        raise self._infinite()

    def origin(self, like: Tensor) -> Tensor:
        return like.new_zeros(1, self.dim)

    def from_embedded(self, x: Tensor, w: Tensor) -> Tensor:
        """``w``, as long by the metric as ``w`` is: a bounded field never reaches the edge."""
        return w / self._factor(x)[:, None]

    def log_scale(self, x: Tensor) -> Tensor:
        return self.dim * self._factor(x).log()

    def exp_log_det(self, v: Tensor) -> Tensor:
        return (self.dim - 1) * _log_sinhc(2 * length(v))


class Lorentz(Manifold):
    """The hyperboloid x_0^2 = 1 + x_1^2 + ... + x_n^2, x_0 > 0, with the metric of Minkowski space.

    Points and vectors have n + 1 numbers (Nickel & Kiela 2018, arXiv 1806.03417).  Densities are per
    hyperbolic volume.  Raises ValueError unless n is at least 1.

    >>> space = Lorentz(2)
    >>> origin = space.origin(torch.zeros(()))
    >>> space.distance(origin, space.exp(origin, torch.tensor([[0.0, 3.0, 4.0]]))).round(decimals=3)
    tensor([5.])
    """

    def __init__(self, n: int = 2):
        self.dim = check_count("n", n)
        self.event_shape = (self.dim + 1,)

    def __repr__(self) -> str:
        return f"Lorentz({self.dim})"

    def project(self, x: Tensor) -> Tensor:
        """The point above x_1, ..., x_n."""
        rest = x[:, 1:]
        return torch.cat([torch.hypot(length(rest), torch.ones_like(x[:, 0]))[:, None], rest], 1)

    def project_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v + self.inner(x, x, v)[:, None] * x

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return dot(u[:, 1:], v[:, 1:]) - u[:, 0] * v[:, 0]

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        size = self.norm(x, v)
        return self.project(size.cosh()[:, None] * x + ratio(size.sinh(), size)[:, None] * v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        apart = y - x
        square = self.inner(x, apart, apart).clamp(min=0)
        half = square.sqrt() / 2  # sinh of half of the distance
        scale = ratio(torch.asinh(half), half * (1 + half.square()).sqrt())
        return scale[:, None] * (apart - (square / 2)[:, None] * x)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """2 asinh(|x - y| / 2) in the length of Minkowski space, which keeps its digits at 0."""
        return 2 * torch.asinh(self.norm(x, y - x) / 2)

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return v + (self.inner(y, y, v) / (1 - self.inner(x, x, y)))[:, None] * (x + y)

    def uniform(self, n: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
        raise self._infinite()

    def origin(self, like: Tensor) -> Tensor:
        return torch.nn.functional.pad(like.new_ones(1, 1), (0, self.dim))

    def from_embedded(self, x: Tensor, w: Tensor) -> Tensor:
        """``w`` without its first number, which is tangent at the origin, carried in parallel to ``x``."""
        origin = self.origin(x).expand_as(x)
        return self.transport(origin, x, self.project_tangent(origin, w))

    def log_scale(self, x: Tensor) -> Tensor:
        """Coordinates are x_1, ..., x_n: the projection keeps these."""
        return -x[:, 0].log()

    def exp_log_det(self, v: Tensor) -> Tensor:
        return (self.dim - 1) * _log_sinhc(length(v[:, 1:]))
