"""Losses that train flow maps."""

from .alpha_flow import AlphaFlow as AlphaFlow
from .base import MapLoss as MapLoss
from .base import MapRows as MapRows
from .consistency import Consistency as Consistency
from .continuous_consistency import ContinuousConsistency as ContinuousConsistency
from .eulerian import Eulerian as Eulerian
from .improved_mean_flow import ImprovedMeanFlow as ImprovedMeanFlow
from .lagrangian import Lagrangian as Lagrangian
from .log_det import LogDetMatching as LogDetMatching
from .matching import FlowMapMatching as FlowMapMatching
from .matching import MapObjective as MapObjective
from .mean_flow import MeanFlow as MeanFlow
from .moment_matching import MomentMatching as MomentMatching
from .penalties import Penalised as Penalised
from .semigroup import Semigroup as Semigroup
from .shortcut import Shortcut as Shortcut
from .two_sided import TwoSided as TwoSided

__all__ = [
    "AlphaFlow",
    "Consistency",
    "ContinuousConsistency",
    "Eulerian",
    "FlowMapMatching",
    "ImprovedMeanFlow",
    "Lagrangian",
    "LogDetMatching",
    "MapLoss",
    "MapObjective",
    "MapRows",
    "MeanFlow",
    "MomentMatching",
    "Penalised",
    "Semigroup",
    "Shortcut",
    "TwoSided",
]
