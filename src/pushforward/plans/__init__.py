"""Solvers of transport problems, from points or costs to plans."""

from .ascent import Ascent as Ascent
from .ascent import ascend as ascend
from .ascent import chi_square as chi_square
from .cost import squared_distances as squared_distances
from .entropic import Ended as Ended
from .entropic import EntropicPlan as EntropicPlan
from .exact import ExactPlan as ExactPlan
from .exact import exact as exact
from .exact import exact_of_costs as exact_of_costs
from .partial import partial as partial
from .scaling import Scaling as Scaling
from .sinkhorn import sinkhorn as sinkhorn
from .unbalanced import unbalanced as unbalanced

__all__ = [
    "Ascent",
    "Ended",
    "EntropicPlan",
    "ExactPlan",
    "Scaling",
    "ascend",
    "chi_square",
    "exact",
    "exact_of_costs",
    "partial",
    "sinkhorn",
    "squared_distances",
    "unbalanced",
]
