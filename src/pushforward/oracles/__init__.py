"""Closed forms to test code against: distributions with exactly known fields, scores and densities."""

from .bridge import GaussianBridge as GaussianBridge
from .flow_map import FlowMapOracle as FlowMapOracle
from .mixture import GaussianMixtureOracle as GaussianMixtureOracle
from .mixture import OracleOutput as OracleOutput
from .moons import TwoMoons as TwoMoons
from .tokens import TokenOracle as TokenOracle
from .tokens import TokenTable as TokenTable

__all__ = [
    "FlowMapOracle",
    "GaussianBridge",
    "GaussianMixtureOracle",
    "OracleOutput",
    "TokenOracle",
    "TokenTable",
    "TwoMoons",
]
