"""Paths of tokens, whose rates of jumps follow from a posterior of the data."""

from .base import TokenPath as TokenPath
from .base import check_tokens as check_tokens
from .diffused import DiffusedTokens as DiffusedTokens
from .late import LateTimes as LateTimes
from .masked import MaskedTokens as MaskedTokens
from .metric import MetricTokens as MetricTokens
from .mixture import MixturePath as MixturePath
from .uniform import UniformTokens as UniformTokens
from .walk import WalkTokens as WalkTokens

__all__ = [
    "DiffusedTokens",
    "LateTimes",
    "MaskedTokens",
    "MetricTokens",
    "MixturePath",
    "TokenPath",
    "UniformTokens",
    "WalkTokens",
    "check_tokens",
]
