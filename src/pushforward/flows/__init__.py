"""Flows, which carry the source to the data and back."""

from .as_bijection import FlowBijection as FlowBijection
from .base import DensityFlow as DensityFlow
from .base import Flow as Flow
from .bijective import BijectiveFlow as BijectiveFlow
from .bounds import multi_sample_bound as multi_sample_bound
from .columns import ColumnFlow as ColumnFlow
from .consistency import ConsistencyFlow as ConsistencyFlow
from .continuous import ContinuousFlow as ContinuousFlow
from .denoising import DenoisingFlow as DenoisingFlow
from .discrete import DiscreteFlow as DiscreteFlow
from .distribution import FlowDistribution as FlowDistribution
from .divergence import divergence as divergence
from .divergences import Divergence as Divergence
from .divergences import Exact as Exact
from .divergences import Hutchinson as Hutchinson
from .divergences import HutchPlusPlus as HutchPlusPlus
from .estimates import log_prob_and_error as log_prob_and_error
from .flow_map import Defect as Defect
from .flow_map import FlowMapFlow as FlowMapFlow
from .image_flows import glow as glow
from .image_flows import tarflow as tarflow
from .invertible import InvertibleFlow as InvertibleFlow
from .latent import LatentFlow as LatentFlow
from .normalizing import iaf as iaf
from .normalizing import maf as maf
from .normalizing import nice as nice
from .normalizing import nsf as nsf
from .normalizing import nsf_ar as nsf_ar
from .normalizing import realnvp as realnvp
from .residual_flow import residual as residual
from .rounded import RoundedFlow as RoundedFlow
from .rounded import RoundingError as RoundingError
from .saving import load_flow as load_flow
from .saving import save as save
from .score_bound import nll_bound as nll_bound
from .stochastic import DiffusionFlow as DiffusionFlow
from .transformed import Transformed as Transformed
from .tuning import Tuned as Tuned
from .tuning import tune_sampler as tune_sampler
from .vae import VAE as VAE

__all__ = [
    "nll_bound",
    "BijectiveFlow",
    "ConsistencyFlow",
    "ColumnFlow",
    "ContinuousFlow",
    "Defect",
    "DenoisingFlow",
    "DensityFlow",
    "DiffusionFlow",
    "DiscreteFlow",
    "Divergence",
    "Exact",
    "Flow",
    "FlowBijection",
    "FlowDistribution",
    "FlowMapFlow",
    "HutchPlusPlus",
    "Hutchinson",
    "InvertibleFlow",
    "LatentFlow",
    "RoundedFlow",
    "RoundingError",
    "Transformed",
    "Tuned",
    "VAE",
    "divergence",
    "glow",
    "iaf",
    "load_flow",
    "log_prob_and_error",
    "maf",
    "multi_sample_bound",
    "nice",
    "nsf",
    "nsf_ar",
    "realnvp",
    "residual",
    "save",
    "tarflow",
    "tune_sampler",
]
