"""Spaces of which the rows of a table are points."""

from .base import table

__all__ = ["SPACES"]

# fmt: off
SPACES = table(
    "pushforward.spaces",
    ("sphere", "SphereSpace", "unit vectors; with lat and lon, two columns in degrees, places on earth"),
    ("torus", "TorusSpace", "angles in radians, or with unit=degrees in degrees"),
    ("simplex", "simplex", "shares that add up to 1, Fisher-Rao metric"),
    ("poincare", "ball", "hyperbolic space, the ball of Poincare"),
    ("lorentz", "hyperboloid", "hyperbolic space, the hyperboloid of Lorentz"),
    ("rotations", "rotations", "rotation matrices of space, nine columns"),
    ("rigid", "rigid", "rigid motions, a rotation and a shift, twelve columns"),
    ("spd", "spd", "symmetric positive definite matrices, affine-invariant metric"),
    ("product", "product", "any manifold or product: product,of=Product(Sphere(2), Torus(1))"),
)
