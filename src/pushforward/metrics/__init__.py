"""Distances between two samples, straightness of trajectories, and baselines to compare a model with."""

from .base import DISTANCE as DISTANCE
from .base import Better as Better
from .base import Metric as Metric
from .baselines import KernelDensity as KernelDensity
from .baselines import NGrams as NGrams
from .baselines import bits_per_dim as bits_per_dim
from .baselines import fit_blend as fit_blend
from .baselines import fit_gaussian as fit_gaussian
from .baselines import fit_mixture as fit_mixture
from .baselines import linear_gaussian as linear_gaussian
from .classifiers import TwoSampleAccuracy as TwoSampleAccuracy
from .classifiers import label_accuracy as label_accuracy
from .classifiers import two_sample_accuracy as two_sample_accuracy
from .composition import composition_error as composition_error
from .composition import composition_gap as composition_gap
from .distances import EnergyDistance as EnergyDistance
from .distances import distances as distances
from .distances import energy_distance as energy_distance
from .distances import memorisation_share as memorisation_share
from .distances import memorisation_threshold as memorisation_threshold
from .distances import nearest as nearest
from .importance import Importance as Importance
from .importance import importance as importance
from .plans import plan_entropy as plan_entropy
from .trajectories import normalised_path_energy as normalised_path_energy
from .trajectories import optimal_cost as optimal_cost
from .trajectories import path_energy as path_energy
from .trajectories import straightness as straightness
from .trajectories import total_curvature as total_curvature
from .trajectories import transport_cost as transport_cost
from .transport import SlicedWasserstein as SlicedWasserstein
from .transport import Wasserstein as Wasserstein
from .transport import sliced_wasserstein as sliced_wasserstein
from .transport import wasserstein as wasserstein

__all__ = [
    "DISTANCE",
    "Better",
    "EnergyDistance",
    "Importance",
    "KernelDensity",
    "Metric",
    "NGrams",
    "SlicedWasserstein",
    "TwoSampleAccuracy",
    "Wasserstein",
    "bits_per_dim",
    "composition_error",
    "composition_gap",
    "distances",
    "energy_distance",
    "fit_blend",
    "fit_gaussian",
    "fit_mixture",
    "importance",
    "label_accuracy",
    "linear_gaussian",
    "memorisation_share",
    "memorisation_threshold",
    "nearest",
    "normalised_path_energy",
    "optimal_cost",
    "path_energy",
    "plan_entropy",
    "sliced_wasserstein",
    "straightness",
    "total_curvature",
    "transport_cost",
    "two_sample_accuracy",
    "wasserstein",
]
