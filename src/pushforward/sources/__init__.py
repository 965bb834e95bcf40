"""Distributions at t = 0, and others that can be sampled."""

from .base import Source as Source
from .blend import Blend as Blend
from .empirical import Empirical as Empirical
from .kernels import Kernels as Kernels
from .learnt_mixture import LearntMixture as LearntMixture
from .linear_shift import LinearShift as LinearShift
from .mapped import Mapped as Mapped
from .mixture import GaussianMixture as GaussianMixture
from .normal import Normal as Normal
from .on_manifold import ManifoldBase as ManifoldBase
from .positive_sphere import PositiveSphere as PositiveSphere
from .student_t import StudentT as StudentT
from .tokens import TokenSource as TokenSource

__all__ = [
    "Blend",
    "Empirical",
    "GaussianMixture",
    "Kernels",
    "LearntMixture",
    "LinearShift",
    "ManifoldBase",
    "Mapped",
    "Normal",
    "PositiveSphere",
    "Source",
    "StudentT",
    "TokenSource",
]
