"""Losses that train fields."""

from .base import Batch as Batch
from .base import Loss as Loss
from .base import Objective as Objective
from .base import Step as Step
from .base import row_mean as row_mean
from .flow_matching import FlowMatching as FlowMatching
from .times import Late as Late
from .times import Times as Times
from .times import Uniform as Uniform
