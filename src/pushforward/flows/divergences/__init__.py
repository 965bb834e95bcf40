"""The divergence of a velocity field along a flow: exact, or estimated from random directions."""

from .base import Divergence as Divergence
from .exact import Exact as Exact
from .hutchinson import Hutchinson as Hutchinson
from .hutchpp import HutchPlusPlus as HutchPlusPlus

__all__ = ["Divergence", "Exact", "HutchPlusPlus", "Hutchinson"]
