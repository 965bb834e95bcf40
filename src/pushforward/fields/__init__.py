"""Fields and their wrappers."""

from .base import Field as Field
from .convert import PREDICTIONS as PREDICTIONS
from .convert import Parameterised as Parameterised
from .convert import Prediction as Prediction
from .convert import ReversedTime as ReversedTime
from .convert import from_velocity as from_velocity
from .convert import to_velocity as to_velocity
from .guidance import Guided as Guided
