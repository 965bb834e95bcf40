"""Products of manifolds, and rigid motions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..tensors import event_size
from .base import Manifold
from .euclidean import Euclidean
from .rotations import SpecialOrthogonal


class Product(Manifold):
    """Pairs, triples, ... of points, one of each manifold, flat one after the other: ``(B, d)``.

    Squares of distances add up, volumes multiply.  Raises ValueError without manifolds.

    >>> from pushforward.manifolds import Sphere
    >>> Product(Sphere(2), Euclidean(1)).event_shape
    (4,)
    """

    def __init__(self, *parts: Manifold):
        if not parts:
            raise ValueError("parts: expected at least one manifold, got none")
        self.parts = list(parts)
        self.sizes = [event_size(part.event_shape) for part in parts]
        self.dim, self.event_shape = sum(part.dim for part in parts), (sum(self.sizes),)
        volumes = [part.log_volume for part in parts]
        known = [volume for volume in volumes if volume is not None]
        self.log_volume = sum(known) if len(known) == len(volumes) else None

    def __repr__(self) -> str:
        return f"Product({', '.join(map(repr, self.parts))})"

    @property
    def embedded_shape(self) -> tuple[int, ...]:
        return (sum(event_size(part.embedded_shape) for part in self.parts),)

    def split(self, x: Tensor) -> list[Tensor]:
        """The points of each manifold, in its shape."""
        cut = x.split(self.sizes, 1)
        return [one.reshape(len(x), *part.event_shape) for one, part in zip(cut, self.parts)]

    def join(self, points: list[Tensor]) -> Tensor:
        """The inverse of :meth:`split`."""
        return torch.cat([point.flatten(1) for point in points], 1)

    def _each(self, function: Callable[..., Tensor], *values: Tensor) -> list[Tensor]:
        return [function(part, *those) for part, *those in zip(self.parts, *map(self.split, values))]

    def project(self, x: Tensor) -> Tensor:
        return self.join(self._each(lambda part, a: part.project(a), x))

    def project_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return self.join(self._each(lambda part, a, b: part.project_tangent(a, b), x, v))

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return torch.stack(self._each(lambda part, a, b, c: part.inner(a, b, c), x, u, v)).sum(0)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.join(self._each(lambda part, a, b: part.exp(a, b), x, v))

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return self.join(self._each(lambda part, a, b: part.log(a, b), x, y))

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        each = self._each(lambda part, a, b: part.distance(a, b), x, y)
        return torch.linalg.vector_norm(torch.stack(each), dim=0)

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return self.join(self._each(lambda part, a, b, c: part.transport(a, b, c), x, y, v))

    def uniform(self, n: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
        return self.join([part.uniform(n, generator, like) for part in self.parts])

    def draw(self, n: int, generator: torch.Generator | None, like: Tensor, scale: float = 1.0) -> Tensor:
        return self.join([part.draw(n, generator, like, scale) for part in self.parts])

    def base_log_prob(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return torch.stack(self._each(lambda part, a: part.base_log_prob(a, scale), x)).sum(0)

    def origin(self, like: Tensor) -> Tensor:
        return self.join([part.origin(like) for part in self.parts])

    def embed(self, x: Tensor) -> Tensor:
        return self.join(self._each(lambda part, a: part.embed(a), x))

    def from_embedded(self, x: Tensor, w: Tensor) -> Tensor:
        cut = w.split([event_size(part.embedded_shape) for part in self.parts], 1)
        shaped = [one.reshape(len(w), *part.embedded_shape) for one, part in zip(cut, self.parts)]
        return self.join([p.from_embedded(a, b) for p, a, b in zip(self.parts, self.split(x), shaped)])

    def log_scale(self, x: Tensor) -> Tensor:
        return torch.stack(self._each(lambda part, a: part.log_scale(a), x)).sum(0)

    def log_bump(self, width: float) -> float | None:
        each = [part.log_bump(width) for part in self.parts]
        known = [one for one in each if one is not None]
        return sum(known) if len(known) == len(each) else None

    def draw_bump(self, centres: Tensor, width: float, generator: torch.Generator | None) -> Tensor:
        drawn = [part.draw_bump(one, width, generator) for part, one in zip(self.parts, self.split(centres))]
        return self.join(drawn)

    def cut(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack(self._each(lambda part, a, b: part.cut(a, b), x, y)).any(0)

    def off(self, x: Tensor) -> Tensor:
        return torch.stack(self._each(lambda part, a: part.off(a), x)).amax(0)


def SpecialEuclidean() -> Product:
    """Rigid motions SE(3): a rotation, nine numbers row by row, then a shift of three, ``(B, 12)``.

    The metric is that of the product: geodesics turn at a constant rate and move along straight lines.

    >>> SpecialEuclidean().dim, SpecialEuclidean().event_shape
    (6, (12,))
    """
    return Product(SpecialOrthogonal(), Euclidean(3))
