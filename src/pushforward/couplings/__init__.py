"""Rules that pair source rows with target rows."""

from ..rows import Rows as Rows
from ..rows import as_rows as as_rows
from .base import Coupling as Coupling
from .base import Pairing as Pairing
from .conditional_ot import ConditionalOT as ConditionalOT
from .dataset_ot import DatasetOT as DatasetOT
from .given import GivenPairs as GivenPairs
from .independent import Independent as Independent
from .minibatch_ot import MinibatchOT as MinibatchOT
from .partial import PartialOT as PartialOT
from .semidiscrete import SemidiscreteOT as SemidiscreteOT
from .sinkhorn import SinkhornOT as SinkhornOT
from .unbalanced import UnbalancedOT as UnbalancedOT

__all__ = [
    "ConditionalOT",
    "Coupling",
    "DatasetOT",
    "GivenPairs",
    "Independent",
    "MinibatchOT",
    "Pairing",
    "PartialOT",
    "Rows",
    "SemidiscreteOT",
    "SinkhornOT",
    "UnbalancedOT",
    "as_rows",
]
