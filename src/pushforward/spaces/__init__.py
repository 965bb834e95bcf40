"""Spaces that the columns of a table may be points of: places on earth, angles, rotations, shares, ..."""

from .base import Points as Points
from .base import Space as Space
from .sphere import LatLon as LatLon
from .sphere import SphereSpace as SphereSpace
from .torus import TorusSpace as TorusSpace
from .torus import Turns as Turns
from .whole import ball as ball
from .whole import hyperboloid as hyperboloid
from .whole import product as product
from .whole import rigid as rigid
from .whole import rotations as rotations
from .whole import simplex as simplex
from .whole import spd as spd

__all__ = [
    "LatLon",
    "Points",
    "Space",
    "SphereSpace",
    "TorusSpace",
    "Turns",
    "ball",
    "hyperboloid",
    "product",
    "rigid",
    "rotations",
    "simplex",
    "spd",
]
