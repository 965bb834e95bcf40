"""The stages of a run: the fit of each, and the files of its folder."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._version import __version__
from ..files import ensure_folder, write_json
from ..flows import Flow, Transformed
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
    read_model,
    write_model,
)
from .base import Stage
from .choice import Choice, learnt_of
from .crossed import cross_validate
from .ending import lost_at_end
from .job import Job
from .judge import build_judge, ranks_better
from .open import place_of
from .weights import calibrate, initialise, left_in

#: Share of `--minutes` that is for reading data and training; the rest is for the report.
TRAINED = 0.85


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
        recipe.objective(stage, job.start),
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
    stop_at = None if choice is None else choice.steps
    title = "training" if job.telling.show_progress else None
    facts = {**job.facts, "stage": stage.name, "start": job.start.note}
    try:
        result = trainer.fit(stop_at=stop_at, seconds=job.seconds, title=title)
    except NonFiniteLoss:
        write_facts(place, models, facts, job.first)
        raise
    finally:
        batches.close()
    facts |= {"ended": result.ended, "planned": planned(optim)}
    counts, told = stage.counted(result.history, job.fabric.world_size)
    if told and result.finished and job.first:
        job.say(told)
    facts |= {**counts, "step": result.step, "kept_step": result.kept, "seconds": round(result.seconds, 2)}
    if job.start.note:
        learnt = None if choice is None else choice.learnt
        facts["learnt"] = learnt or _learnt(job, stage, models, trainer.validator.judged, result.kept)
    # who is interrupted before the first step has no checkpoint
    if job.first and (result.finished or not has_state(place.path)):
        write_models(place, trainer.models, None if trainer.ema is None else trainer.ema.models)
    write_facts(place, models, facts, job.first)
    job.fabric.barrier()
    return result


def _learnt(
    job: Job, stage: Stage, models: nn.ModuleDict, judged: Mapping[int, Tensor], kept: int
) -> dict[str, object] | None:
    """What the ``kept`` step gains on rows held out over the baselines; None where these were not judged."""
    if kept not in judged or 0 not in judged:
        return None
    gain = judged[kept] - judged[0]
    lost = lost_at_end(job, stage, models, len(gain))
    return learnt_of(gain if lost is None else gain - lost, "validation rows")


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


def _seconds(job: Job, folds: int, began: float) -> float | None:
    """The share of a time budget for each fit of a stage; None without a budget.

    Stages have equal shares, less what has gone since ``began``; folds and the fit after them likewise.
    """
    minutes = job.recipe.optim.minutes
    if minutes is None:
        return None
    share = TRAINED * 60 * minutes / len(job.recipe.stages) - (time.monotonic() - began)
    return max(share / (folds + 1), 1e-3)


def run_stages(job: Job, teacher: Transformed | None, began: float) -> Result | None:
    """Do, go on with or skip every stage of the run; the models of each start the next.

    began: when the command did, on the monotonic clock.
    """
    recipe, start = job.recipe, job.start
    stages = recipe.stages
    models: nn.ModuleDict | None = None
    flow = None if teacher is None else teacher.flow
    result: Result | None = None
    for number, stage in enumerate(stages):
        place = place_of(job.folder, recipe, stage)
        if job.first and place != job.folder:
            ensure_folder(place.path.parent)
            ensure_folder(place.path)
        models = _models(job, place, stage, models)
        if not (place != job.folder and place.finished(recipe.optim)):
            if len(stages) > 1:
                job.say(f"stage {number + 1} of {len(stages)}: {stage.name}")
            result = _do(job, place, stage, models, flow, began)
            if result is None or not result.finished:
                return result
            began = time.monotonic()
        read_model(left_in(place.path, recipe.optim.ema), models)
        flow = stage.flow(models, job.dataset.schema, start)
    return result


def _models(job: Job, place: RunFolder, stage: Stage, before: nn.ModuleDict | None) -> nn.ModuleDict:
    """The models of a stage, with the weights of the stage ``before`` where they are the same networks."""
    fresh = stage.models(job.dataset.schema, job.start)
    if before is not None and _same(before, fresh):
        fresh.load_state_dict(before.state_dict())
    else:
        calibrate(fresh, job.dataset.train)
        if not has_state(place.path):
            initialise(job, stage, fresh)
    return fresh


def _do(
    job: Job, place: RunFolder, stage: Stage, models: nn.ModuleDict, flow: Flow | None, began: float
) -> Result | None:
    """Train one stage; None where folds were stopped."""
    folds = len(job.start.folds) if stage.from_data else 0
    pairs = None if stage.from_data else stage.batches(job, flow)
    job = dataclasses.replace(job, seconds=_seconds(job, folds, began))
    choice = None
    if folds:
        if job.first and not has_state(place.path):  # what the flow starts from, while there is nothing else
            write_models(job.folder, models, models if job.recipe.optim.ema else None)
            facts = {**job.facts, "stage": stage.name, "start": job.start.note, "step": 0}
            write_facts(job.folder, models, facts, job.first)
        choice = cross_validate(job, stage)
        if choice is None:
            return None
    return fit(job, place, stage, models, pairs or stage.batches(job, flow), choice)


def _same(models: nn.ModuleDict, other: nn.ModuleDict) -> bool:
    return list(models.state_dict()) == list(other.state_dict())
