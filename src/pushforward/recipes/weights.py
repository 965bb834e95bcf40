"""The weights at the start and at the end of a stage."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..rows import Rows
from ..training import ModelSpace
from .base import Stage
from .job import Job

#: Training rows that a flow's data-driven initialisation sees.
INITIAL_ROWS = 512


def calibrate(models: nn.Module, rows: Rows) -> None:
    """Show the conditions to modules with a method ``calibrate``, as embeddings that standardise have."""
    if rows.condition is None:
        return
    for module in models.modules():
        take = getattr(module, "calibrate", None)
        if callable(take):
            take(rows.condition)


def initialise(job: Job, stage: Stage, models: nn.ModuleDict) -> None:
    """Let a stage take from the first training rows what it takes from data.

    One that starts from baselines takes nothing: it is to begin at the identity.
    """
    if stage.from_data and not job.start.note:
        first = job.dataset.train.take(torch.arange(min(len(job.dataset.train), INITIAL_ROWS)))
        recipe = job.recipe
        space = ModelSpace(job.dataset.preprocess, recipe.dtype)
        stage.initialise(models, space.rows(first, recipe.seed))


def left_in(folder: Path, ema: float | None) -> Path:
    """The weights that a stage left: their average, where it has one (``ema``)."""
    return folder / ("model.safetensors" if ema == 0 else "ema.safetensors")
