"""Invertible maps with their log-determinants."""

from .actnorm import ActNorm as ActNorm
from .affine import Affine as Affine
from .autoregressive import Autoregressive as Autoregressive
from .base import Bijection as Bijection
from .base import Domain as Domain
from .base import Surjection as Surjection
from .base import is_stochastic as is_stochastic
from .blur import Blur as Blur
from .compose import Chain as Chain
from .compose import Inverse as Inverse
from .conditional import Conditional as Conditional
from .conv1x1 import InvertibleConv1x1 as InvertibleConv1x1
from .coupling import CouplingLayer as CouplingLayer
from .dequantise import Dequantise as Dequantise
from .elementwise import Elementwise as Elementwise
from .haar import Haar as Haar
from .interop import from_torch as from_torch
from .interop import to_torch as to_torch
from .logit import Sigmoid as Sigmoid
from .lu import LULinear as LULinear
from .multiscale import MultiScale as MultiScale
from .orthogonal import Orthogonal as Orthogonal
from .permutation import Permutation as Permutation
from .permutation import Reverse as Reverse
from .piecewise import PiecewiseLinear as PiecewiseLinear
from .planar import Planar as Planar
from .radial import Radial as Radial
from .residual import Residual as Residual
from .roots import InverseFailed as InverseFailed
from .squeeze import Squeeze as Squeeze
from .sylvester import Sylvester as Sylvester
from .tarflow import TransformerAutoregressive as TransformerAutoregressive
from .untouched import untouched as untouched
from .whiten import Whiten as Whiten

__all__ = [
    "ActNorm",
    "Affine",
    "Autoregressive",
    "Bijection",
    "Blur",
    "Chain",
    "Conditional",
    "CouplingLayer",
    "Dequantise",
    "Domain",
    "Elementwise",
    "Haar",
    "Inverse",
    "InverseFailed",
    "InvertibleConv1x1",
    "LULinear",
    "MultiScale",
    "Orthogonal",
    "Permutation",
    "PiecewiseLinear",
    "Planar",
    "Radial",
    "Residual",
    "Reverse",
    "Sigmoid",
    "Squeeze",
    "Surjection",
    "Sylvester",
    "TransformerAutoregressive",
    "Whiten",
    "from_torch",
    "is_stochastic",
    "to_torch",
    "untouched",
]
