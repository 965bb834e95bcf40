"""The weights that a stage starts with, and those that it left."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..config import RunConfig
from ..couplings import Rows
from ..flows import BijectiveFlow
from ..nn import ConditionEmbedding
from ..training import in_model_space
from .build import by_likelihood, model_dtype
from .stage import Job

#: Training rows that a flow's data-driven initialisation sees.
INITIAL_ROWS = 512


def calibrate(models: nn.Module, rows: Rows) -> None:
    """Tell the networks' embeddings of continuous conditions the mean and deviation of the data's."""
    for module in models.modules():
        if isinstance(module, ConditionEmbedding) and rows.condition is not None:
            module.calibrate(rows.condition)


def initialise(job: Job, models: nn.ModuleDict) -> None:
    """Let a normalizing flow take from the first training rows what it takes from data.

    One that starts from baselines takes nothing: it is to begin at the identity.
    """
    flow = models["flow"] if by_likelihood(job.config) else None
    if isinstance(flow, BijectiveFlow) and not job.start.note:
        first = job.dataset.train.take(torch.arange(min(len(job.dataset.train), INITIAL_ROWS)))
        rows = in_model_space(first, job.dataset.preprocess, model_dtype(job.config), job.config.seed)
        flow.initialise(rows.x, rows.condition)


def left_in(folder: Path, config: RunConfig) -> Path:
    """The weights that a stage left: their average, where the configuration has one."""
    return folder / ("model.safetensors" if config.optim.ema == 0 else "ema.safetensors")
