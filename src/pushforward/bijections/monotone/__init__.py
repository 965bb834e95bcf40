"""Families of increasing maps of one number, which bijections apply element by element."""

from .base import Monotone as Monotone
from .circular import CircularSpline as CircularSpline
from .network import MonotoneNetwork as MonotoneNetwork
from .scale_shift import ScaleShift as ScaleShift
from .shift import Shift as Shift
from .spline import RationalQuadratic as RationalQuadratic

__all__ = [
    "CircularSpline",
    "Monotone",
    "MonotoneNetwork",
    "RationalQuadratic",
    "ScaleShift",
    "Shift",
]
