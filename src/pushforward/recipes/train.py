"""Training a run: the stages of its recipe, one after the other, each of which can be resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..bijections import is_stochastic
from ..config import RunConfig
from ..couplings import DatasetOT, Rows, SemidiscreteOT, check_source
from ..data import Dataset
from ..data.atoms import check_atoms
from ..flows import BijectiveFlow, Transformed
from ..nn import ConditionEmbedding
from ..objectives import Batch
from ..runs import RunFolder, check_out
from ..sources import Empirical
from ..training import PairedBatches, Result, in_model_space, is_first_process, make_fabric, read_model
from .build import (
    build_coupling,
    build_models,
    build_objective,
    build_source,
    by_likelihood,
    inner_flow,
    model_dtype,
    stages,
    start_law,
)
from .defaults import check, resolve
from .open import Run, load_dataset, open_run
from .reflow import Pairs, draw_pairs, held_out, straight_objective
from .stage import Job, batch_size, fit, from_data

#: Training rows that a flow's data-driven initialisation sees.
INITIAL_ROWS = 512


def train(
    config: RunConfig,
    out: str | Path,
    *,
    target: Any = None,
    overwrite: bool = False,
    command: str | None = None,
    show_progress: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Run:
    """Train what ``config`` describes into the run folder ``out``, or go on where that run stopped.

    ``target`` stands for ``config.target`` where the data are in memory, as they are or as a loaded
    :class:`~pushforward.data.Dataset`, which is taken for granted.  Raises ValueError, with nothing
    written, for data or values that cannot be used, such as repeated values under a likelihood;
    NonFiniteLoss where training diverges.
    """
    check(config)
    folder = RunFolder(Path(out))
    dataset = target if isinstance(target, Dataset) else load_dataset(config, target)
    config = resolve(config, dataset.schema)
    decision = check_out(folder.path, config, overwrite) if is_first_process() else ""
    names = stages(config)
    if decision == "extend" and len(names) > 1:
        raise ValueError(f"{folder.path}: --steps cannot change in a run of several stages")
    teacher = None if config.model.teacher is None else _teacher(config, dataset)
    if by_likelihood(config):
        source = start = None
        if dataset is not target and is_first_process() and not is_stochastic(dataset.preprocess):
            x = torch.cat([dataset.train.x, dataset.test.x])
            check_atoms(dataset.schema.source, x.numpy(), dataset.schema.columns)
    elif teacher is None:
        source = build_source(config, dataset.train, dataset.preprocess)
        start = start_law(config, source, dataset.train, dataset.preprocess)
    else:  # in the teacher's space, from the teacher's source
        source = start = teacher.flow.source
        dataset = dataclasses.replace(dataset, preprocess=teacher.bijection)
    # whatever cannot be built is refused before anything is written
    coupling = build_coupling(config)
    if isinstance(coupling, DatasetOT) and not isinstance(source, Empirical):
        raise ValueError(f"--coupling {config.model.coupling}: expected the rows of a data set as --source")
    if isinstance(coupling, SemidiscreteOT) and source is not None:
        check_source(source, len(dataset.train))
    build_objective(config)
    models = build_models(config, dataset.schema, names[-1])
    inner_flow(config, dataset.schema, models, start, names[-1])

    if config.compute.threads is not None:
        torch.set_num_threads(config.compute.threads)
    fabric = make_fabric(config.compute)
    fabric.launch()
    if fabric.global_rank == 0:
        if decision == "new":
            folder.remove()
        elif decision == "extend":
            say(f"going on to {config.optim.steps} steps; the learning rate is planned anew for that length")
        elif decision == "resume":
            say(f"resuming the run in {folder.path}")
        folder.begin(config, dataset.schema, dataset.preprocess, start, dataset.train)
    fabric.barrier()

    facts = {"command": command or "", "processes": fabric.world_size, "device": str(fabric.device)}
    device = fabric.device
    source, start = (None if law is None else law.to(device) for law in (source, start))
    job = Job(config, dataset, source, start, fabric, folder, facts, show_progress, say)
    result = run_stages(job, teacher)
    assert result is not None
    fabric.barrier()
    return dataclasses.replace(open_run(folder.path), loaded=dataset)


def run_stages(job: Job, teacher: Transformed | None) -> Result | None:
    """Do, go on with or skip every stage of the run; the models of each start the next."""
    names = stages(job.config)
    models: nn.ModuleDict | None = None
    flow = None if teacher is None else teacher.flow
    pairs: Pairs | None = None
    result: Result | None = None
    for number, name in enumerate(names):
        last = number == len(names) - 1
        place = RunFolder(job.folder.path if last else job.folder.path / "stages" / name)
        place.path.mkdir(parents=True, exist_ok=True)
        fresh = build_models(job.config, job.dataset.schema, name)
        if models is not None and _same(models, fresh):
            fresh.load_state_dict(models.state_dict())
        else:
            calibrate(fresh, job.dataset.train)
            if not (place.path / "state").exists():
                initialise(job, fresh)
        models = fresh
        if not last and place.finished():
            read_model(_weights(place.path), models)
        else:
            if len(names) > 1:
                job.say(f"stage {number + 1} of {len(names)}: {name}")
            if name == "train":
                objective, batches, validation = from_data(job)
            else:
                if pairs is None or name != "distil":
                    assert flow is not None
                    pairs = draw_pairs(
                        job.config, job.dataset, flow, job.folder, name, job.fabric, job.show_progress
                    )
                kept, validation = held_out(pairs, job.config.seed)
                objective = straight_objective(job.config, name)
                batches = PairedBatches(
                    Rows(kept.source),
                    kept.target,
                    kept.coupling,
                    size=batch_size(job.config),
                    seed=job.config.seed,
                    dtype=model_dtype(job.config),
                    device=job.fabric.device,
                )
                validation = Batch((validation.marginals[0], validation.target.to(job.fabric.device)))
            result = fit(job, place, name, objective, models, batches, validation)
            if not result.finished:
                if not last and job.first:
                    _copy_result(place, job.folder)
                return result
            read_model(_weights(place.path), models)
        flow = inner_flow(job.config, job.dataset.schema, models, job.start, name)
    return result


def initialise(job: Job, models: nn.ModuleDict) -> None:
    """Let a normalizing flow take from the first training rows what it takes from data."""
    flow = models["flow"] if by_likelihood(job.config) else None
    if isinstance(flow, BijectiveFlow):
        first = job.dataset.train.take(torch.arange(min(len(job.dataset.train), INITIAL_ROWS)))
        rows = in_model_space(first, job.dataset.preprocess, model_dtype(job.config), job.config.seed)
        flow.initialise(rows.x, rows.condition)


def _same(models: nn.ModuleDict, other: nn.ModuleDict) -> bool:
    return list(models.state_dict()) == list(other.state_dict())


def _weights(path: Path) -> Path:
    ema = path / "ema.safetensors"
    return ema if ema.exists() else path / "model.safetensors"


def _teacher(config: RunConfig, dataset: Dataset) -> Transformed:
    """The flow that reflow starts from.  Raises ValueError where it is of other data."""
    assert config.model.teacher is not None
    run = open_run(config.model.teacher)
    mine, theirs = dataset.schema, run.schema
    if (mine.event_shape, mine.columns) != (theirs.event_shape, theirs.columns):
        raise ValueError(
            f"--teacher {config.model.teacher}: was trained on {theirs.source}, with rows of shape "
            f"{theirs.event_shape}; expected {mine.event_shape} like {mine.source}"
        )
    if (mine.condition is None) != (theirs.condition is None):
        raise ValueError(f"--teacher {config.model.teacher}: expected the same --condition as here")
    return run.flow


def _copy_result(place: RunFolder, folder: RunFolder) -> None:
    """Let the run folder load with what an interrupted earlier stage has reached."""
    for name in ("model.safetensors", "ema.safetensors", "run.json"):
        if (place.path / name).exists():
            (folder.path / name).write_bytes((place.path / name).read_bytes())


def calibrate(models: nn.Module, rows: Rows) -> None:
    """Tell the networks' embeddings of continuous conditions the mean and deviation of the data's."""
    for module in models.modules():
        if isinstance(module, ConditionEmbedding) and rows.condition is not None:
            module.calibrate(rows.condition)
