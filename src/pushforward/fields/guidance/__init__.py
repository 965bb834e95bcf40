"""Guidance: how the field that samples are drawn with is made of the one that was trained."""

from .as_input import AtWeight as AtWeight
from .as_input import GuidedByInput as GuidedByInput
from .as_input import hidden_rows as hidden_rows
from .as_input import weight_spec as weight_spec
from .as_input import with_weight as with_weight
from .autoguidance import Autoguidance as Autoguidance
from .base import Guidance as Guidance
from .base import with_and_without as with_and_without
from .classifier import ClassifierGuidance as ClassifierGuidance
from .classifier_free import ClassifierFree as ClassifierFree
from .guided import Guided as Guided
from .guided import as_guidance as as_guidance
from .measurements import KnownElements as KnownElements
from .measurements import LinearMeasurement as LinearMeasurement
from .measurements import Measurement as Measurement
from .posterior import MomentMatching as MomentMatching
from .posterior import PosteriorGuidance as PosteriorGuidance
from .posterior import PseudoInverse as PseudoInverse
from .zero_star import CFGZeroStar as CFGZeroStar

__all__ = [
    "AtWeight",
    "Autoguidance",
    "CFGZeroStar",
    "ClassifierFree",
    "ClassifierGuidance",
    "Guidance",
    "Guided",
    "GuidedByInput",
    "KnownElements",
    "LinearMeasurement",
    "Measurement",
    "MomentMatching",
    "PosteriorGuidance",
    "PseudoInverse",
    "as_guidance",
    "hidden_rows",
    "weight_spec",
    "with_and_without",
    "with_weight",
]
