"""Invertible maps with their log-determinants."""

from .base import Bijection as Bijection
from .base import Domain as Domain
from .base import Surjection as Surjection
from .compose import Chain as Chain
from .compose import Inverse as Inverse
from .conditional import Conditional as Conditional
from .interop import from_torch as from_torch
from .interop import to_torch as to_torch
from .layers.actnorm import ActNorm as ActNorm
from .layers.autoregressive import Autoregressive as Autoregressive
from .layers.conv1x1 import InvertibleConv1x1 as InvertibleConv1x1
from .layers.coupling import CouplingLayer as CouplingLayer
from .layers.elementwise import Elementwise as Elementwise
from .layers.haar import Haar as Haar
from .layers.lu import LULinear as LULinear
from .layers.multiscale import MultiScale as MultiScale
from .layers.orthogonal import Orthogonal as Orthogonal
from .layers.permutation import Permutation as Permutation
from .layers.permutation import Reverse as Reverse
from .layers.planar import Planar as Planar
from .layers.radial import Radial as Radial
from .layers.residual import Residual as Residual
from .layers.squeeze import Squeeze as Squeeze
from .layers.sylvester import Sylvester as Sylvester
from .layers.tarflow import TransformerAutoregressive as TransformerAutoregressive
from .numerics.roots import InverseFailed as InverseFailed
from .preprocessing.affine import Affine as Affine
from .preprocessing.blur import Blur as Blur
from .preprocessing.dequantise import Dequantise as Dequantise
from .preprocessing.logit import Sigmoid as Sigmoid
from .preprocessing.piecewise import PiecewiseLinear as PiecewiseLinear
from .preprocessing.whiten import Whiten as Whiten

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
    "to_torch",
]
