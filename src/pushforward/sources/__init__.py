"""Laws at t = 0."""

from .base import Source as Source
from .empirical import Empirical as Empirical
from .mixture import GaussianMixture as GaussianMixture
from .normal import Normal as Normal
