"""The abstract manifold: points, tangent vectors and geodesics, all in coordinates of tensors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from .. import random
from ..tensors import event_size, sum_event


class Manifold(ABC):
    """A Riemannian manifold whose points and tangent vectors are events of ``event_shape``, batch first.

    Functions take and return ``(B, *event_shape)``; sizes and distances are ``(B,)``.  They can be
    differentiated, and dtype and device follow the input.

    event_shape: of a point and of a tangent vector.  embedded_shape: of :meth:`embed`.  dim: of the manifold.
    log_volume: the logarithm of its whole volume; None where that is infinite.
    """

    event_shape: tuple[int, ...]
    dim: int
    log_volume: float | None = None
    #: length, in coordinates, of a tangent vector of length 1 at the origin
    origin_scale: ClassVar[float] = 1.0

    @property
    def embedded_shape(self) -> tuple[int, ...]:
        """The shape of a point as a network sees it."""
        return self.event_shape

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """The point of the manifold that stands for ``x``; a point stays as it is.

        Its derivative at a point leaves tangent vectors as they are.
        """

    @abstractmethod
    def project_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """The tangent vector at ``x`` that stands for ``v``; a tangent vector stays as it is."""

    @abstractmethod
    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """The metric at ``x`` of two tangent vectors, ``(B,)``."""

    @abstractmethod
    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Where the geodesic from ``x`` with velocity ``v`` is at time 1."""

    @abstractmethod
    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The inverse: the velocity at ``x`` of the shortest geodesic to ``y``."""

    @abstractmethod
    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """``v``, tangent at ``x``, carried in parallel along the shortest geodesic to ``y``."""

    @abstractmethod
    def uniform(self, n: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """``n`` draws of the uniform distribution, of the dtype and on the device of ``like``.

        Raises ValueError where the volume is infinite.
        """

    @abstractmethod
    def origin(self, like: Tensor) -> Tensor:
        """One point ``(1, *event_shape)``, about which wrapped normal distributions lie."""

    def norm(self, x: Tensor, v: Tensor) -> Tensor:
        """The length of ``v``, ``(B,)``."""
        return self.inner(x, v, v).clamp(min=0).sqrt()

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The length of the shortest geodesic, ``(B,)``."""
        return self.norm(x, self.log(x, y))

    def embed(self, x: Tensor) -> Tensor:
        """Points as a network sees them, ``(B, *embedded_shape)``, without jumps that the manifold lacks."""
        return x

    def from_embedded(self, x: Tensor, w: Tensor) -> Tensor:
        """The tangent vector at ``x`` that stands for a network's ``w`` ``(B, *embedded_shape)``."""
        return self.project_tangent(x, w)

    def log_scale(self, x: Tensor) -> Tensor:
        """log of the Riemannian volume over that of the coordinates, ``(B,)``.

        The divergence of a field v(project(x)) in the coordinates belongs to the volume of these, so that
        log-densities per Riemannian volume need the difference of this at both ends of a trajectory.
        """
        return x.new_zeros(len(x))

    def exp_log_det(self, v: Tensor) -> Tensor:
        """log|det| of exp at the origin at the tangent vector ``v``, by orthonormal bases, ``(B,)``.

        Manifolds of infinite volume need it, for their wrapped normal distribution.
        """
        return v.new_zeros(len(v))

    def draw(self, n: int, generator: torch.Generator | None, like: Tensor, scale: float = 1.0) -> Tensor:
        """``n`` draws of the base distribution, of the dtype and on the device of ``like``.

        It is uniform where the volume is finite, else exp at the origin of normal vectors of deviation
        ``scale``.
        """
        if self.log_volume is not None:
            return self.uniform(n, generator, like)
        z = random.normal((n, *self.event_shape), generator, like.dtype, like.device)
        origin = self.origin(like).expand_as(z)
        return self.exp(origin, scale * self.origin_scale * self.project_tangent(origin, z))

    def base_log_prob(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """The log-density of :meth:`draw` per volume, ``(B,)``."""
        if self.log_volume is not None:
            return x.new_full((len(x),), -self.log_volume)
        origin = self.origin(x).expand_as(x)
        v = self.log(origin, x)
        square, d = self.inner(origin, v, v) / scale**2, self.dim
        normal = -0.5 * square - d * (0.5 * math.log(2 * math.pi) + math.log(scale))
        return normal - self.exp_log_det(v)

    def log_bump(self, width: float) -> float | None:
        """log of the integral of exp(-|embed(x) - embed(y)|^2 / (2 width^2)) over y; None where not known."""
        return None

    def draw_bump(self, centres: Tensor, width: float, generator: torch.Generator | None) -> Tensor:
        """A draw about each of ``centres``, of the density that is proportional to it.

        Raises ValueError where :meth:`log_bump` is not known.
        """
        raise ValueError(f"manifold: no kernel is known on {self!r}")

    def cut(self, x: Tensor, y: Tensor) -> Tensor:
        """Which pairs are joined by no single shortest geodesic, up to rounding: booleans ``(B,)``."""
        return torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def off(self, x: Tensor) -> Tensor:
        """How far off the manifold ``x`` is, ``(B,)``: the largest change that :meth:`project` makes."""
        return (x - self.project(x)).abs().flatten(1).amax(1)

    def check(self, x: Tensor, name: str = "x") -> Tensor:
        """``x``, or a ValueError that says how far off the manifold it is, and its first such row.

        >>> from pushforward.manifolds import Sphere
        >>> Sphere(2).check(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 2.0]]))
        Traceback (most recent call last):
        ValueError: x: expected points on Sphere(2), got 1 of 2 rows off it, by up to 1; the first is row 2
        """
        if tuple(x.shape[1:]) != self.event_shape:
            shape = ", ".join(map(str, ("rows", *self.event_shape)))
            raise ValueError(f"{name}: expected points on {self}, shape ({shape}), got {tuple(x.shape)}")
        off = self.off(x.detach()) if len(x) else x.new_zeros(0)
        # a fourth of the digits may be lost on the way here, in files and in single precision
        wrong = ~(off <= torch.finfo(x.dtype).eps ** 0.5)
        if not bool(wrong.any()):
            return x
        raise ValueError(
            f"{name}: expected points on {self}, got {int(wrong.sum()):,} of {len(x):,} rows off it, by up "
            f"to {float(off.nan_to_num(torch.inf).max()):.3g}; the first is row {int(wrong.nonzero()[0]) + 1}"
        )

    def _infinite(self) -> ValueError:
        return ValueError(f"{self}: the volume is infinite, and there is no uniform distribution")


def dot(u: Tensor, v: Tensor) -> Tensor:
    """The sum of products over events, ``(B,)``."""
    return sum_event(u * v)


def column(value: Tensor, x: Tensor) -> Tensor:
    """``(B,)`` as ``(B, 1, ..., 1)``, to multiply events."""
    return value.reshape(-1, *([1] * (x.ndim - 1)))


def length(v: Tensor) -> Tensor:
    """The Euclidean length of events, ``(B,)``."""
    return torch.linalg.vector_norm(v.flatten(1), dim=1) if event_size(v.shape[1:]) else v.new_zeros(len(v))


def ratio(value: Tensor, by: Tensor, at_zero: float | Tensor = 1.0) -> Tensor:
    """``value / by``, and its limit where ``by`` is 0; derivatives are finite there too."""
    zero = by == 0
    return torch.where(zero, at_zero, value / torch.where(zero, 1.0, by))
