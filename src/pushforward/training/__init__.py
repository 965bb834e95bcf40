"""Training: batches, the loop, averages, checkpoints."""

from .batches import Batches as Batches
from .batches import ModelSpace as ModelSpace
from .checkpoint import STATE as STATE
from .checkpoint import Keeping as Keeping
from .checkpoint import check_run as check_run
from .checkpoint import has_state as has_state
from .checkpoint import load_weights as load_weights
from .checkpoint import read_facts as read_facts
from .checkpoint import read_model as read_model
from .checkpoint import write_model as write_model
from .checks import check_optim as check_optim
from .devices import check_compute as check_compute
from .devices import gather_objects as gather_objects
from .devices import is_first_process as is_first_process
from .devices import make_fabric as make_fabric
from .ema import EMA as EMA
from .metrics import NonFiniteLoss as NonFiniteLoss
from .metrics import read_metrics as read_metrics
from .no_data import NoData as NoData
from .pairs import pairs as pairs
from .pools import Plans as Plans
from .processes import LostProcess as LostProcess
from .processes import launch as launch
from .processes import together as together
from .progress import progress as progress
from .trainer import Result as Result
from .trainer import Trainer as Trainer
from .validation import JUDGINGS as JUDGINGS
from .validation import Judge as Judge
from .validation import Validation as Validation
from .validation import affordable as affordable

__all__ = [
    "Batches",
    "EMA",
    "JUDGINGS",
    "Judge",
    "Keeping",
    "LostProcess",
    "ModelSpace",
    "NoData",
    "NonFiniteLoss",
    "Plans",
    "Result",
    "STATE",
    "Trainer",
    "Validation",
    "affordable",
    "check_compute",
    "check_optim",
    "check_run",
    "gather_objects",
    "has_state",
    "is_first_process",
    "make_fabric",
    "launch",
    "load_weights",
    "pairs",
    "progress",
    "read_facts",
    "read_metrics",
    "read_model",
    "together",
    "write_model",
]
