"""Spaces whose points stand in the columns as they are."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..manifolds import (
    SPD,
    Lorentz,
    Manifold,
    Poincare,
    Simplex,
    SpecialEuclidean,
    SpecialOrthogonal,
    manifold_of,
)
from .base import Space


class Whole(Space):
    """Points of the manifold that ``make`` makes for a number of columns, one number in each."""

    def __init__(self, make: Callable[[int], Manifold]):
        self.make = make

    def manifold(self, columns: int) -> Manifold:
        return self.make(columns)


def simplex() -> Space:
    """Shares that add up to 1, such as parts of a whole, by the metric of Fisher and Rao."""
    return Whole(lambda columns: Simplex(columns - 1))


def ball() -> Space:
    """The hyperbolic space as the ball of Poincare: rows of a length below 1."""
    return Whole(Poincare)


def hyperboloid() -> Space:
    """The hyperbolic space as the hyperboloid of Lorentz, the first column its time."""
    return Whole(lambda columns: Lorentz(columns - 1))


def rotations() -> Space:
    """Rotations of space: the nine numbers of a matrix, row by row."""
    return Whole(lambda columns: _of(SpecialOrthogonal(), columns))


def rigid() -> Space:
    """Rigid motions: the nine numbers of a rotation, row by row, then the shift."""
    return Whole(lambda columns: _of(SpecialEuclidean(), columns))


def spd() -> Space:
    """Symmetric positive definite matrices, n times n numbers row by row."""
    return Whole(lambda columns: _of(SPD(max(1, math.isqrt(columns))), columns))


def product(of: str) -> Space:
    """The manifold ``of``, as Python writes it: ``product,of=Product(Sphere(2), Torus(1))``.

    >>> product("Product(Sphere(2), Torus(1))").manifold(4)
    Product(Sphere(2), Torus(1))
    """
    manifold = manifold_of(of)
    return Whole(lambda columns: _of(manifold, columns))


def _of(manifold: Manifold, columns: int) -> Manifold:
    size = math.prod(manifold.event_shape)
    if columns != size:
        raise ValueError(f"expected {size} columns for a point on {manifold}, got {columns}")
    return manifold
