"""Losses that train fields."""

from .base import Batch as Batch
from .base import Loss as Loss
from .base import Objective as Objective
from .base import Step as Step
from .base import row_mean as row_mean
from .bridge import BridgeMatching as BridgeMatching
from .distillation import Distillation as Distillation
from .flow_matching import FlowMatching as FlowMatching
from .interpolant_losses import InterpolantMatching as InterpolantMatching
from .light_sb import LightSB as LightSB
from .light_sb import LightSBPotential as LightSBPotential
from .likelihood import MaximumLikelihood as MaximumLikelihood
from .reverse_kl import ReverseKL as ReverseKL
from .times import Late as Late
from .times import LogitNormal as LogitNormal
from .times import Times as Times
from .times import Uniform as Uniform
from .times import UShaped as UShaped
from .weightings import Equal as Equal
from .weightings import MinSNR as MinSNR
from .weightings import Power as Power
from .weightings import Weighting as Weighting

__all__ = [
    "Batch",
    "BridgeMatching",
    "Distillation",
    "Equal",
    "FlowMatching",
    "InterpolantMatching",
    "Late",
    "LightSB",
    "LightSBPotential",
    "LogitNormal",
    "Loss",
    "MaximumLikelihood",
    "MinSNR",
    "Objective",
    "Power",
    "ReverseKL",
    "Step",
    "Times",
    "UShaped",
    "Uniform",
    "Weighting",
    "row_mean",
]
