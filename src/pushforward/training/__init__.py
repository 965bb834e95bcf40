"""Training: batches, the loop, averages, checkpoints."""

from .batches import PairedBatches as PairedBatches
from .batches import in_model_space as in_model_space
from .checkpoint import read_model as read_model
from .checkpoint import write_json as write_json
from .checkpoint import write_model as write_model
from .devices import gather_objects as gather_objects
from .devices import is_first_process as is_first_process
from .devices import make_fabric as make_fabric
from .ema import EMA as EMA
from .no_data import NoData as NoData
from .progress import progress as progress
from .trainer import Batches as Batches
from .trainer import NonFiniteLoss as NonFiniteLoss
from .trainer import Result as Result
from .trainer import Trainer as Trainer
from .trainer import read_metrics as read_metrics
