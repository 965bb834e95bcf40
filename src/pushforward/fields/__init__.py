"""Fields and their wrappers."""

from .around import Around as Around
from .around import BestLinear as BestLinear
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
from .convert import from_velocity as from_velocity
from .convert import to_velocity as to_velocity
from .drift import Drift as Drift
from .guidance import Guided as Guided
from .masked import Masked as Masked
from .offers import offered as offered
from .path_fields import DenoisingStep as DenoisingStep
from .path_fields import PathDrift as PathDrift
from .scaled import Scaled as Scaled

__all__ = [
    "AnyField",
    "Around",
    "BestLinear",
    "BridgeField",
    "BridgeOutput",
    "DenoisingStep",
    "Drift",
    "Field",
    "Guided",
    "Masked",
    "PREDICTIONS",
    "Parameterised",
    "PathDrift",
    "Prediction",
    "ReversedTime",
    "Scaled",
    "ScoreFromEta",
    "TwoHeads",
    "as_field",
    "check_prediction",
    "convert",
    "from_velocity",
    "offered",
    "to_velocity",
]
