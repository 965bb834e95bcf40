"""Invertible maps with their log-determinants."""

from .affine import Affine as Affine
from .autoregressive import Autoregressive as Autoregressive
from .base import Bijection as Bijection
from .base import Domain as Domain
from .base import Surjection as Surjection
from .base import is_stochastic as is_stochastic
from .compose import Chain as Chain
from .compose import Inverse as Inverse
from .coupling import Coupling as Coupling
from .dequantise import Dequantise as Dequantise
from .elementwise import Elementwise as Elementwise
from .logit import Sigmoid as Sigmoid
from .roots import InverseFailed as InverseFailed
