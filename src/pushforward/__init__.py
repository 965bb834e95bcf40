"""Learn to carry one distribution into another, and use what was learnt.

Draw a pair from a coupling, join it by a path, let an objective regress a field on it, follow the field
with a solver; what results is a flow, which pushes the source to the data and pulls the data back.

Names are imported when first used, so that ``import pushforward`` is cheap and has no side effects.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

_WHERE = {
    "bijections": "Affine Bijection Chain Dequantise Inverse Sigmoid Surjection",
    "couplings": (
        "ConditionalOT Coupling DatasetOT GivenPairs Independent MinibatchOT Pairing PartialOT "
        "SemidiscreteOT SinkhornOT UnbalancedOT"
    ),
    "estimators": "FlowDensity FlowOutlierDetector FlowTable",
    "fields": "BridgeField Drift Field Guided Parameterised ReversedTime Scaled ScoreFromEta TwoHeads",
    "flows": (
        "ContinuousFlow DenoisingFlow DiffusionFlow Flow FlowMapFlow InvertibleFlow LatentFlow Transformed "
        "save tune_sampler"
    ),
    "nn": "MLP ResidualMLP UNet",
    "objectives": (
        "Batch BridgeMatching Distillation FlowMatching InterpolantMatching LightSB "
        "LightSBPotential Loss Objective Step"
    ),
    "oracles": "FlowMapOracle GaussianBridge GaussianMixtureOracle TwoMoons",
    "paths": (
        "Brownian Follmer Gamma Interpolant Linear LipmanOT MapPath Path Polynomial Quadratic "
        "Schedule SineSquared Trigonometric VarianceExploding VariancePreserving"
    ),
    "plugins": "register",
    "recipes": "distil load train",
    "rows": "Rows",
    "solvers": (
        "AB2 DDIM ODE RK4 SDE Adjoint Bosh3 Checkpointed Denoise Dopri5 Dopri8 DPMSolver DPMSolverSDE "
        "EDMStochastic Euler EulerMaruyama Heun Midpoint Solution Solver StochasticHeun Tsit5 UniPC"
    ),
    "sources": "Empirical GaussianMixture Normal Source",
    "training": "Trainer",
}
_NAMES = {name: module for module, names in _WHERE.items() for name in names.split()}
#: What ``from pushforward import *`` brings.
# type checkers want a list written out; a test holds this one to the lines that they read
__all__ = ["__version__", *_NAMES]  # type: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from .bijections import Affine as Affine
    from .bijections import Bijection as Bijection
    from .bijections import Chain as Chain
    from .bijections import Dequantise as Dequantise
    from .bijections import Inverse as Inverse
    from .bijections import Sigmoid as Sigmoid
    from .bijections import Surjection as Surjection
    from .couplings import ConditionalOT as ConditionalOT
    from .couplings import Coupling as Coupling
    from .couplings import DatasetOT as DatasetOT
    from .couplings import GivenPairs as GivenPairs
    from .couplings import Independent as Independent
    from .couplings import MinibatchOT as MinibatchOT
    from .couplings import Pairing as Pairing
    from .couplings import PartialOT as PartialOT
    from .couplings import SemidiscreteOT as SemidiscreteOT
    from .couplings import SinkhornOT as SinkhornOT
    from .couplings import UnbalancedOT as UnbalancedOT
    from .estimators import FlowDensity as FlowDensity
    from .estimators import FlowOutlierDetector as FlowOutlierDetector
    from .estimators import FlowTable as FlowTable
    from .fields import BridgeField as BridgeField
    from .fields import Drift as Drift
    from .fields import Field as Field
    from .fields import Guided as Guided
    from .fields import Parameterised as Parameterised
    from .fields import ReversedTime as ReversedTime
    from .fields import Scaled as Scaled
    from .fields import ScoreFromEta as ScoreFromEta
    from .fields import TwoHeads as TwoHeads
    from .flows import ContinuousFlow as ContinuousFlow
    from .flows import DenoisingFlow as DenoisingFlow
    from .flows import DiffusionFlow as DiffusionFlow
    from .flows import Flow as Flow
    from .flows import FlowMapFlow as FlowMapFlow
    from .flows import InvertibleFlow as InvertibleFlow
    from .flows import LatentFlow as LatentFlow
    from .flows import Transformed as Transformed
    from .flows import save as save
    from .flows import tune_sampler as tune_sampler
    from .nn import MLP as MLP
    from .nn import ResidualMLP as ResidualMLP
    from .nn import UNet as UNet
    from .objectives import Batch as Batch
    from .objectives import BridgeMatching as BridgeMatching
    from .objectives import Distillation as Distillation
    from .objectives import FlowMatching as FlowMatching
    from .objectives import InterpolantMatching as InterpolantMatching
    from .objectives import LightSB as LightSB
    from .objectives import LightSBPotential as LightSBPotential
    from .objectives import Loss as Loss
    from .objectives import Objective as Objective
    from .objectives import Step as Step
    from .oracles import FlowMapOracle as FlowMapOracle
    from .oracles import GaussianBridge as GaussianBridge
    from .oracles import GaussianMixtureOracle as GaussianMixtureOracle
    from .oracles import TwoMoons as TwoMoons
    from .paths import Brownian as Brownian
    from .paths import Follmer as Follmer
    from .paths import Gamma as Gamma
    from .paths import Interpolant as Interpolant
    from .paths import Linear as Linear
    from .paths import LipmanOT as LipmanOT
    from .paths import MapPath as MapPath
    from .paths import Path as Path
    from .paths import Polynomial as Polynomial
    from .paths import Quadratic as Quadratic
    from .paths import Schedule as Schedule
    from .paths import SineSquared as SineSquared
    from .paths import Trigonometric as Trigonometric
    from .paths import VarianceExploding as VarianceExploding
    from .paths import VariancePreserving as VariancePreserving
    from .plugins import register as register
    from .recipes import distil as distil
    from .recipes import load as load
    from .recipes import train as train
    from .rows import Rows as Rows
    from .solvers import AB2 as AB2
    from .solvers import DDIM as DDIM
    from .solvers import ODE as ODE
    from .solvers import RK4 as RK4
    from .solvers import SDE as SDE
    from .solvers import Adjoint as Adjoint
    from .solvers import Bosh3 as Bosh3
    from .solvers import Checkpointed as Checkpointed
    from .solvers import Denoise as Denoise
    from .solvers import Dopri5 as Dopri5
    from .solvers import Dopri8 as Dopri8
    from .solvers import DPMSolver as DPMSolver
    from .solvers import DPMSolverSDE as DPMSolverSDE
    from .solvers import EDMStochastic as EDMStochastic
    from .solvers import Euler as Euler
    from .solvers import EulerMaruyama as EulerMaruyama
    from .solvers import Heun as Heun
    from .solvers import Midpoint as Midpoint
    from .solvers import Solution as Solution
    from .solvers import Solver as Solver
    from .solvers import StochasticHeun as StochasticHeun
    from .solvers import Tsit5 as Tsit5
    from .solvers import UniPC as UniPC
    from .sources import Empirical as Empirical
    from .sources import GaussianMixture as GaussianMixture
    from .sources import Normal as Normal
    from .sources import Source as Source
    from .training import Trainer as Trainer


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'pushforward' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
