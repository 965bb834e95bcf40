"""Curves between paired points."""

from .base import AntitheticPair as AntitheticPair
from .base import Coefficients as Coefficients
from .base import End as End
from .base import Path as Path
from .base import PathPoint as PathPoint
from .base import check_affine as check_affine
from .base import check_rising as check_rising
from .ddpm import DDPM as DDPM
from .diffusion_schedules import Cosine as Cosine
from .diffusion_schedules import Karras as Karras
from .diffusion_schedules import SubVariancePreserving as SubVariancePreserving
from .diffusions import Along as Along
from .diffusions import ConstantDiffusion as ConstantDiffusion
from .diffusions import DiffusionCoefficient as DiffusionCoefficient
from .diffusions import Memoryless as Memoryless
from .diffusions import Proportional as Proportional
from .gammas import Brownian as Brownian
from .gammas import Constant as Constant
from .gammas import Gamma as Gamma
from .gammas import Quadratic as Quadratic
from .gammas import SineSquared as SineSquared
from .geodesic import GeodesicPath as GeodesicPath
from .interpolant import Interpolant as Interpolant
from .map_path import MapPath as MapPath
from .points import EmbeddedTokens as EmbeddedTokens
from .points import SimplexTokens as SimplexTokens
from .points import TokenPoints as TokenPoints
from .schedules import Follmer as Follmer
from .schedules import Linear as Linear
from .schedules import LipmanOT as LipmanOT
from .schedules import Polynomial as Polynomial
from .schedules import Schedule as Schedule
from .schedules import Trigonometric as Trigonometric
from .schedules import VarianceExploding as VarianceExploding
from .schedules import VariancePreserving as VariancePreserving
from .signal import log_snr as log_snr
from .signal import time_of_log_snr as time_of_log_snr
from .tabulated import Tabulated as Tabulated
from .tokens import DiffusedTokens as DiffusedTokens
from .tokens import LateTimes as LateTimes
from .tokens import MaskedTokens as MaskedTokens
from .tokens import MetricTokens as MetricTokens
from .tokens import MixturePath as MixturePath
from .tokens import TokenPath as TokenPath
from .tokens import UniformTokens as UniformTokens
from .tokens import WalkTokens as WalkTokens
from .tokens import check_tokens as check_tokens

__all__ = [
    "Along",
    "AntitheticPair",
    "Brownian",
    "Coefficients",
    "Constant",
    "ConstantDiffusion",
    "DiffusionCoefficient",
    "Cosine",
    "DDPM",
    "EmbeddedTokens",
    "End",
    "Follmer",
    "Gamma",
    "GeodesicPath",
    "Interpolant",
    "Karras",
    "DiffusedTokens",
    "LateTimes",
    "Linear",
    "LipmanOT",
    "MapPath",
    "MaskedTokens",
    "Memoryless",
    "MetricTokens",
    "MixturePath",
    "Path",
    "PathPoint",
    "Polynomial",
    "Proportional",
    "Quadratic",
    "Schedule",
    "SimplexTokens",
    "SineSquared",
    "SubVariancePreserving",
    "Tabulated",
    "TokenPath",
    "TokenPoints",
    "Trigonometric",
    "UniformTokens",
    "WalkTokens",
    "VarianceExploding",
    "VariancePreserving",
    "check_affine",
    "check_rising",
    "log_snr",
    "time_of_log_snr",
    "check_tokens",
]
