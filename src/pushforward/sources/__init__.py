"""Laws at t = 0."""

from .base import Source as Source
from .empirical import Empirical as Empirical
from .learnt_mixture import LearntMixture as LearntMixture
from .mixture import GaussianMixture as GaussianMixture
from .normal import Normal as Normal
from .student_t import StudentT as StudentT
