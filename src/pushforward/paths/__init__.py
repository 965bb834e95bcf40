"""Curves between paired points."""

from .base import Coefficients as Coefficients
from .base import End as End
from .base import Path as Path
from .base import PathPoint as PathPoint
from .gammas import Constant as Constant
from .gammas import Gamma as Gamma
from .interpolant import Interpolant as Interpolant
from .schedules import Linear as Linear
from .schedules import Schedule as Schedule
