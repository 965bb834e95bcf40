"""Training: batches, the loop, averages, checkpoints."""

from .batches import Batches, ModelSpace
from .checkpoint import (
    STATE,
    Keeping,
    check_run,
    has_state,
    load_weights,
    read_facts,
    read_model,
    write_model,
)
from .devices import check_compute, gather_objects, is_first_process, make_fabric
from .ema import EMA
from .metrics import NonFiniteLoss, read_metrics
from .no_data import NoData
from .pairs import pairs
from .pools import Plans
from .processes import LostProcess, launch, together
from .progress import progress
from .trainer import Result, Trainer
from .validation import JUDGINGS, Judge, Validation, affordable

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
