"""Manifolds: exp, log, distances, projections and volumes, one class each."""

from .base import Manifold as Manifold
from .euclidean import Euclidean as Euclidean
from .hyperbolic import Lorentz as Lorentz
from .hyperbolic import Poincare as Poincare
from .product import Product as Product
from .product import SpecialEuclidean as SpecialEuclidean
from .rotations import SpecialOrthogonal as SpecialOrthogonal
from .simplex import Simplex as Simplex
from .spd import SPD as SPD
from .sphere import Sphere as Sphere
from .texts import manifold_of as manifold_of
from .torus import Torus as Torus

__all__ = [
    "Euclidean",
    "Lorentz",
    "Manifold",
    "Poincare",
    "Product",
    "SPD",
    "Simplex",
    "SpecialEuclidean",
    "SpecialOrthogonal",
    "Sphere",
    "Torus",
    "manifold_of",
]
