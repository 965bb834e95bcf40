"""The fit of one stage of a run, and the files of its folder."""

from __future__ import annotations

import dataclasses
import platform
from typing import Any

import torch
from torch import nn

from .._version import __version__
from ..files import write_json
from ..objectives import Batch
from ..runs import RunFolder, planned
from ..tensors import event_size
from ..training import (
    Batches,
    Keeping,
    NonFiniteLoss,
    Result,
    Trainer,
    Validation,
    has_state,
    write_model,
)
from .base import Stage
from .choice import Choice, learnt_of
from .job import Job
from .judge import build_judge, ranks_better


def fit(
    job: Job,
    place: RunFolder,
    stage: Stage,
    models: nn.ModuleDict,
    data: tuple[Batches, Batch | None],
    choice: Choice | None = None,
) -> Result:
    """Train ``models`` in the folder ``place``, or go on there, and write what came of it.

    What an unfinished stage leaves is its state; weights are written when it ends.

    data: batches to train on, and one to validate with.  choice: what cross-validation chose, where it did.
    Raises NonFiniteLoss where training diverges; ``run.json`` then says that it has not ended.
    """
    recipe, optim = job.recipe, job.recipe.optim
    batches, validation = data
    if recipe.parts.compute.compile:
        for model in models.values():
            model.compile()
    judge, cost = None, 0
    columns = event_size(job.dataset.schema.event_shape)
    if choice is None and stage.from_data and ranks_better(recipe, columns, bool(job.start.note)):
        judge, cost = build_judge(job, stage, models, often=True) or (None, 0)
    trainer = Trainer(
        stage.objective(),
        models,
        batches,
        optim if choice is None else dataclasses.replace(optim, patience=0),
        seed=recipe.seed,
        fabric=job.fabric,
        validation=Validation(validation, judge, cost),
        keeping=Keeping(
            place.path,
            job.folder.identity(recipe.seed, recipe.model, stage.name),
            () if choice is None else choice.curve,
        ),
    )
    stop_at, title = None if choice is None else choice.steps, "training" if job.show_progress else None
    facts = {**job.facts, "stage": stage.name, "start": job.start.note}
    try:
        result = trainer.fit(stop_at=stop_at, seconds=job.seconds, title=title)
    except NonFiniteLoss:
        write_facts(place, models, facts, job.first)
        raise
    finally:
        batches.close()
    facts |= {"ended": result.ended, "planned": planned(optim)}
    facts |= {"step": result.step, "kept_step": result.kept, "seconds": round(result.seconds, 2)}
    if job.start.note:
        learnt = None if choice is None else choice.learnt
        judged = trainer.validator.judged
        if learnt is None and result.kept in judged and 0 in judged:
            learnt = learnt_of(judged[result.kept] - judged[0], "validation rows")
        facts["learnt"] = learnt
    # who is interrupted before the first step has no checkpoint
    if job.first and (result.finished or not has_state(place.path)):
        write_models(place, trainer.models, None if trainer.ema is None else trainer.ema.models)
    write_facts(place, models, facts, job.first)
    job.fabric.barrier()
    return result


def write_models(folder: RunFolder, models: nn.ModuleDict, average: nn.ModuleDict | None = None) -> None:
    """Write ``models`` and their ``average``, where they are finite."""
    if all(bool(parameter.isfinite().all()) for parameter in models.parameters()):
        write_model(folder.path / "model.safetensors", models)
        if average is not None:
            write_model(folder.path / "ema.safetensors", average)


def write_facts(folder: RunFolder, models: nn.ModuleDict, facts: dict[str, Any], first: bool) -> None:
    """Write ``run.json``, how a stage has come out; the ``first`` process does."""
    versions = {
        "pushforward": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    size = {"parameters": sum(p.numel() for p in models.parameters()), "threads": torch.get_num_threads()}
    if first:
        write_json(folder.path / "run.json", {**facts, **size, "versions": versions})
