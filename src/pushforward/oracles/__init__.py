"""Closed forms to hold code against: distributions for which everything is known exactly."""

from .bridge import GaussianBridge as GaussianBridge
from .mixture import GaussianMixtureOracle as GaussianMixtureOracle
from .mixture import OracleOutput as OracleOutput
from .moons import TwoMoons as TwoMoons

__all__ = [
    "GaussianBridge",
    "GaussianMixtureOracle",
    "OracleOutput",
    "TwoMoons",
]
