"""Fields and their wrappers."""

from .around import Around as Around
from .around import BestLinear as BestLinear
from .around import OfNormalData as OfNormalData
from .base import AnyField as AnyField
from .base import Field as Field
from .base import as_field as as_field
from .bridge import BridgeField as BridgeField
from .bridge import BridgeOutput as BridgeOutput
from .bridge import TwoHeads as TwoHeads
from .convert import PREDICTIONS as PREDICTIONS
from .convert import Parameterised as Parameterised
from .convert import Prediction as Prediction
from .convert import ReversedTime as ReversedTime
from .convert import ScoreFromEta as ScoreFromEta
from .convert import check_prediction as check_prediction
from .convert import convert as convert
from .convert import divisor as divisor
from .convert import from_velocity as from_velocity
from .convert import to_velocity as to_velocity
from .converters import FromSbi as FromSbi
from .converters import from_diffusers as from_diffusers
from .converters import from_flow_matching as from_flow_matching
from .converters import from_torchcfm as from_torchcfm
from .drift import Drift as Drift
from .few_steps import FromConsistency as FromConsistency
from .few_steps import FromMeanFlow as FromMeanFlow
from .few_steps import FromTrigFlow as FromTrigFlow
from .few_steps import ToConsistency as ToConsistency
from .few_steps import ToMeanFlow as ToMeanFlow
from .few_steps import ToTrigFlow as ToTrigFlow
from .flow_map import AnyFlowMap as AnyFlowMap
from .flow_map import Diagonal as Diagonal
from .flow_map import FlowMap as FlowMap
from .flow_map import Straight as Straight
from .flow_map import TwoTimes as TwoTimes
from .flow_map import as_flow_map as as_flow_map
from .flow_map import jump as jump
from .guidance import AtWeight as AtWeight
from .guidance import Autoguidance as Autoguidance
from .guidance import CFGZeroStar as CFGZeroStar
from .guidance import ClassifierFree as ClassifierFree
from .guidance import ClassifierGuidance as ClassifierGuidance
from .guidance import Guidance as Guidance
from .guidance import Guided as Guided
from .guidance import GuidedByInput as GuidedByInput
from .guidance import KnownElements as KnownElements
from .guidance import LinearMeasurement as LinearMeasurement
from .guidance import Measurement as Measurement
from .guidance import MomentMatching as MomentMatching
from .guidance import PosteriorGuidance as PosteriorGuidance
from .guidance import PseudoInverse as PseudoInverse
from .guidance import as_guidance as as_guidance
from .guidance import hidden_rows as hidden_rows
from .guidance import weight_spec as weight_spec
from .guidance import with_and_without as with_and_without
from .guidance import with_weight as with_weight
from .latent import AtLatent as AtLatent
from .latent import latent_spec as latent_spec
from .latent import with_latent as with_latent
from .log_det import LogDetHead as LogDetHead
from .log_det import WithLogDet as WithLogDet
from .log_det import log_det_of as log_det_of
from .masked import Masked as Masked
from .offers import offered as offered
from .on_manifold import OnManifold as OnManifold
from .path_fields import DenoisingStep as DenoisingStep
from .path_fields import PathDrift as PathDrift
from .piecewise import Piecewise as Piecewise
from .preconditioned import Preconditioned as Preconditioned
from .scaled import Scaled as Scaled
from .schedule_change import ScheduleChange as ScheduleChange
from .tokens import PosteriorVelocity as PosteriorVelocity
from .tokens import TokenPosterior as TokenPosterior

__all__ = [
    "AtWeight",
    "GuidedByInput",
    "hidden_rows",
    "weight_spec",
    "with_weight",
    "AnyField",
    "AtLatent",
    "AnyFlowMap",
    "Around",
    "Autoguidance",
    "BestLinear",
    "BridgeField",
    "BridgeOutput",
    "CFGZeroStar",
    "ClassifierFree",
    "ClassifierGuidance",
    "DenoisingStep",
    "Diagonal",
    "Drift",
    "Field",
    "FlowMap",
    "FromConsistency",
    "FromMeanFlow",
    "FromSbi",
    "FromTrigFlow",
    "Guidance",
    "Guided",
    "KnownElements",
    "LinearMeasurement",
    "LogDetHead",
    "Masked",
    "Measurement",
    "MomentMatching",
    "OfNormalData",
    "OnManifold",
    "PREDICTIONS",
    "Parameterised",
    "PathDrift",
    "Piecewise",
    "PosteriorGuidance",
    "PosteriorVelocity",
    "Prediction",
    "PseudoInverse",
    "Preconditioned",
    "ReversedTime",
    "Scaled",
    "ScheduleChange",
    "ScoreFromEta",
    "Straight",
    "ToConsistency",
    "ToMeanFlow",
    "ToTrigFlow",
    "TokenPosterior",
    "TwoHeads",
    "TwoTimes",
    "WithLogDet",
    "as_field",
    "as_flow_map",
    "as_guidance",
    "check_prediction",
    "convert",
    "divisor",
    "from_diffusers",
    "from_flow_matching",
    "from_torchcfm",
    "from_velocity",
    "latent_spec",
    "jump",
    "log_det_of",
    "offered",
    "to_velocity",
    "with_and_without",
    "with_latent",
]
