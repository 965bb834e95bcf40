"""Losses that train fields."""

from .adversarial import Adversarial as Adversarial
from .base import Batch as Batch
from .base import Loss as Loss
from .base import Objective as Objective
from .base import Step as Step
from .base import row_mean as row_mean
from .bridge import BridgeMatching as BridgeMatching
from .columns import ColumnMatching as ColumnMatching
from .continuous import ContinuousLikelihood as ContinuousLikelihood
from .density_ratio import DensityRatio as DensityRatio
from .diffusion_weightings import KarrasWeighting as KarrasWeighting
from .diffusion_weightings import LikelihoodWeighting as LikelihoodWeighting
from .discrete import ELBO as ELBO
from .discrete import CrossEntropy as CrossEntropy
from .discrete import DiscreteMatching as DiscreteMatching
from .discrete import TokenLoss as TokenLoss
from .distillation import Distillation as Distillation
from .flow_maps import AlphaFlow as AlphaFlow
from .flow_maps import Consistency as Consistency
from .flow_maps import ContinuousConsistency as ContinuousConsistency
from .flow_maps import Eulerian as Eulerian
from .flow_maps import FlowMapMatching as FlowMapMatching
from .flow_maps import ImprovedMeanFlow as ImprovedMeanFlow
from .flow_maps import Lagrangian as Lagrangian
from .flow_maps import LogDetMatching as LogDetMatching
from .flow_maps import MapLoss as MapLoss
from .flow_maps import MapObjective as MapObjective
from .flow_maps import MapRows as MapRows
from .flow_maps import MeanFlow as MeanFlow
from .flow_maps import MomentMatching as MomentMatching
from .flow_maps import Penalised as Penalised
from .flow_maps import Semigroup as Semigroup
from .flow_maps import Shortcut as Shortcut
from .flow_maps import TwoSided as TwoSided
from .flow_matching import FlowMatching as FlowMatching
from .geodesic_matching import GeodesicMatching as GeodesicMatching
from .interpolant_losses import InterpolantMatching as InterpolantMatching
from .light_sb import LightSB as LightSB
from .light_sb import LightSBPotential as LightSBPotential
from .likelihood import MaximumLikelihood as MaximumLikelihood
from .noise_times import Discrete as Discrete
from .noise_times import LogNormalNoise as LogNormalNoise
from .noise_times import UniformLogSNR as UniformLogSNR
from .reverse_kl import ReverseKL as ReverseKL
from .sliced import SlicedScoreMatching as SlicedScoreMatching
from .times import Late as Late
from .times import LogitNormal as LogitNormal
from .times import Times as Times
from .times import Uniform as Uniform
from .times import UShaped as UShaped
from .variational import VariationalMatching as VariationalMatching
from .weightings import Equal as Equal
from .weightings import MinSNR as MinSNR
from .weightings import Power as Power
from .weightings import Weighting as Weighting

__all__ = [
    "ELBO",
    "Adversarial",
    "AlphaFlow",
    "Batch",
    "BridgeMatching",
    "Consistency",
    "ContinuousConsistency",
    "ColumnMatching",
    "ContinuousLikelihood",
    "CrossEntropy",
    "DensityRatio",
    "Discrete",
    "DiscreteMatching",
    "Distillation",
    "Equal",
    "Eulerian",
    "FlowMapMatching",
    "FlowMatching",
    "GeodesicMatching",
    "ImprovedMeanFlow",
    "InterpolantMatching",
    "KarrasWeighting",
    "Lagrangian",
    "Late",
    "LightSB",
    "LightSBPotential",
    "LikelihoodWeighting",
    "LogDetMatching",
    "LogNormalNoise",
    "LogitNormal",
    "Loss",
    "MapLoss",
    "MapObjective",
    "MapRows",
    "MaximumLikelihood",
    "MeanFlow",
    "MomentMatching",
    "MinSNR",
    "Objective",
    "Penalised",
    "Power",
    "ReverseKL",
    "Semigroup",
    "Shortcut",
    "SlicedScoreMatching",
    "Step",
    "Times",
    "TokenLoss",
    "TwoSided",
    "UShaped",
    "Uniform",
    "UniformLogSNR",
    "VariationalMatching",
    "Weighting",
    "row_mean",
]
