"""Flows: what carries the source to the data and back."""

from .base import Flow as Flow
from .base import InvertibleFlow as InvertibleFlow
from .continuous import ContinuousFlow as ContinuousFlow
from .distribution import FlowDistribution as FlowDistribution
from .divergence import divergence as divergence
from .one_step import OneStep as OneStep
from .stochastic import DiffusionFlow as DiffusionFlow
from .transformed import Transformed as Transformed
