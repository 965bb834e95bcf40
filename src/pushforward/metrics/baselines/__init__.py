"""Densities without a network, which a trained flow is compared with and may start from.

All are fitted to standardised rows and mapped back with the log-determinant, so that they do not depend on
the units of the columns.
"""

from .bits import bits_per_dim as bits_per_dim
from .blend import fit_blend as fit_blend
from .gaussian import fit_gaussian as fit_gaussian
from .gaussian import linear_gaussian as linear_gaussian
from .kernel import KernelDensity as KernelDensity
from .mixture import fit_mixture as fit_mixture
from .ngrams import NGrams as NGrams

__all__ = [
    "KernelDensity",
    "NGrams",
    "bits_per_dim",
    "fit_blend",
    "fit_gaussian",
    "fit_mixture",
    "linear_gaussian",
]
