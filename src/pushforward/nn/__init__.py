"""Networks: plain modules ``net(t, x, condition=None)``, and the embeddings that they contain."""

from .base import Network as Network
from .causal import CausalTransformer as CausalTransformer
from .columns import ColumnLayout as ColumnLayout
from .columns import ColumnNetwork as ColumnNetwork
from .conditioners import MaskedPerceptron as MaskedPerceptron
from .conditioners import OneByOne as OneByOne
from .conditioners import Perceptron as Perceptron
from .conv_conditioner import ConvConditioner as ConvConditioner
from .discriminator import Discriminator as Discriminator
from .embeddings import ConditionEmbedding as ConditionEmbedding
from .embeddings import ConditionSpec as ConditionSpec
from .embeddings import FourierFeatures as FourierFeatures
from .embeddings import TimeEmbedding as TimeEmbedding
from .lipschitz import LipschitzPerceptron as LipschitzPerceptron
from .mlp import MLP as MLP
from .pair_encoder import PairEncoder as PairEncoder
from .residual import ResidualMLP as ResidualMLP
from .tokens import TextTransformer as TextTransformer
from .tokens import TokenTransformer as TokenTransformer
from .unet import UNet as UNet

__all__ = [
    "CausalTransformer",
    "ColumnLayout",
    "ColumnNetwork",
    "ConditionEmbedding",
    "ConditionSpec",
    "ConvConditioner",
    "Discriminator",
    "FourierFeatures",
    "LipschitzPerceptron",
    "MLP",
    "MaskedPerceptron",
    "Network",
    "OneByOne",
    "PairEncoder",
    "Perceptron",
    "ResidualMLP",
    "TimeEmbedding",
    "TextTransformer",
    "TokenTransformer",
    "UNet",
]
