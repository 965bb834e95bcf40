"""Training a run: the stages of its recipe, one after the other, each of which can be resumed."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import RunConfig
from ..data import Dataset
from ..data.atoms import check_atoms
from ..data.split import split
from ..files import ensure_folder, write_json
from ..flows import Flow, Transformed
from ..random import derive_seed
from ..registry import Trust, trusting
from ..rows import Rows
from ..runs import RunFolder, begin, check_data, check_out, clear, clear_report, tidy_run
from ..settings import check_place, check_text
from ..training import (
    Result,
    has_state,
    is_first_process,
    launch,
    make_fabric,
    read_model,
    together,
)
from ..training.lock import locked
from .base import Recipe, Stage
from .crossed import cross_validate
from .defaults import check, recipe_of, resolve, told
from .job import Job
from .open import Run, load_dataset, open_run, place_of, reopen
from .parts import own_classes
from .spelling import as_argument, as_keywords
from .stage import fit, write_facts, write_models
from .start import Start, build_start
from .weights import calibrate, initialise, left_in

#: Share of `--minutes` that is for reading data and training; the rest is for the report.
TRAINED = 0.85

#: Folders of runs that nobody named, removed when Python ends.
_unnamed: list[tempfile.TemporaryDirectory[str]] = []


def train(
    data: Any = None,
    out: str | Path | None = None,
    *,
    target: Any = None,
    overwrite: bool = False,
    command: str | None = None,
    show_progress: bool = True,
    say: Callable[[str], None] = lambda text: None,
    trust: Sequence[Trust] = (),
    **settings: Any,
) -> Run:
    """Train a flow, as ``pushforward train`` does, or continue a run that stopped.

    data: a built-in name, a path, a DataFrame, an array, a tensor, a list of rows, a pair (x, y) with y the
        condition: labels or numbers ``(n,)``, several columns, or a mapping of them by name; or a whole
        :class:`~pushforward.config.RunConfig`.
    out: the run folder; None for one that is removed when Python ends.
    target: the same, where ``data`` is left out; beside a configuration, what stands for the target that it
        names, as it is or as a loaded :class:`~pushforward.data.Dataset`, which is taken for granted.
    trust: your own classes, or their names as ``module:Class``, that a teacher's run may name; those that the
        settings name are trusted.
    settings: the flags of the command line by their names: ``method="ot-cfm"``, ``steps=2000``, ``seed=1``,
        ``condition="species"``; the method and the data choose the others.

    Raises ValueError, with nothing written, for data or values that cannot be used, by the name of the
    argument; NonFiniteLoss where training diverges.

    >>> import pushforward
    >>> run = pushforward.train(torch.randn(200, 2), method="maf", steps=20, show_progress=False)
    >>> run.flow.sample(3).shape
    torch.Size([3, 2])
    """
    named = "target"
    if data is None:
        if target is None:
            raise ValueError(
                "data: expected a name, a path, rows, or a pair of rows and conditions, got None"
            )
        data, target, named = target, None, "target"
    elif target is None:
        named = "data"
    if isinstance(data, RunConfig):
        if settings:
            raise ValueError(f"{next(iter(settings))}: a configuration holds all settings, got both")
        config = data
    elif isinstance(data, str | Path):
        config = RunConfig.of(str(data), **settings)
    else:
        if target is not None:
            raise ValueError("target: goes with a configuration or a name, got data as well")
        config, target = RunConfig.of(type(data).__name__, **settings), data
    with as_keywords() if command is None else nullcontext(), trusting((*own_classes(config.model), *trust)):
        return _train(config, _folder(out), target, named, overwrite, command, show_progress, say)


def _folder(out: str | Path | None) -> RunFolder:
    if out is not None:
        check_text("--out", str(out))
        check_place("--out", Path(out), folder=True)
        return RunFolder(Path(out))
    _unnamed.append(tempfile.TemporaryDirectory(prefix="pushforward-"))
    return RunFolder(Path(_unnamed[-1].name) / "run")


def _train(
    config: RunConfig,
    folder: RunFolder,
    target: Any,
    named: str,
    overwrite: bool,
    command: str | None,
    show_progress: bool,
    say: Callable[[str], None],
) -> Run:
    began = time.monotonic()
    known = check(config)
    with as_argument(None if target is None else named):
        dataset = target if isinstance(target, Dataset) else load_dataset(config, target)
    config = resolve(config, dataset.schema, known)
    decision = check_out(folder.path, config, overwrite) if is_first_process() else ""
    recipe = recipe_of(config, known)
    stages = recipe.stages
    if decision == "extend" and len(stages) > 1:
        raise ValueError(f"{folder.path}: --steps and --minutes cannot change in a run of several stages")
    if decision == "extend" and config.optim.folds:
        raise ValueError(
            f"{folder.path}: --steps and --minutes cannot change in a run whose steps were cross-validated"
        )
    loaded = dataset
    if recipe.descends_density and is_first_process() and not dataset.preprocess.stochastic:
        check_atoms(dataset.schema.source, dataset.train.x.numpy(), dataset.schema.columns)
    dataset, validation = _set_apart(config, dataset)
    # whatever cannot be built is refused before anything is written
    teacher = None if config.model.teacher is None else _teacher(config, dataset)
    if teacher is None:
        start = build_start(recipe, dataset.train, dataset.preprocess)
    else:  # in the teacher's space, from the teacher's source
        start = Start(teacher.flow.source, teacher.flow.source)
        dataset = dataclasses.replace(dataset, preprocess=teacher.bijection)
    _check_coupling(recipe, start, len(dataset.train))
    last = recipe.stages[-1]
    last.flow(last.models(dataset.schema, start), dataset.schema, start)

    if config.compute.threads is not None:
        torch.set_num_threads(config.compute.threads)
    fabric = make_fabric(config.compute)
    whole = dataclasses.replace(loaded, preprocess=dataset.preprocess)
    outside = (start.initial, None if teacher is None else teacher.flow)
    with ExitStack() as held:
        if is_first_process():
            held.enter_context(locked(folder.path))
            decision = check_out(folder.path, config, overwrite)  # again: another run may have just ended
            if decision in ("resume", "extend"):
                check_data(folder, whole, *outside)
        held.enter_context(together())
        launch(fabric, config.compute, say)
        if fabric.global_rank == 0:
            _say(say, decision, config, folder, dataset, start)
            if decision == "new":
                clear(folder.path)
                begin(folder.path, config, whole, start.known, *outside)
            else:
                tidy_run(folder.path)
                if decision == "extend":  # of weights that will be gone
                    clear_report(folder.path)
                write_json(folder.path / "config.json", config.to_json())
        fabric.barrier()
        facts = {"command": command or "", "processes": fabric.world_size, "device": str(fabric.device)}
        start = start.to(fabric.device)
        job = Job(recipe, dataset, validation, start, fabric, folder, facts, show_progress, say)
        run_stages(job, teacher, began)
        fabric.barrier()
    return dataclasses.replace(reopen(folder.path, recipe=recipe), loaded=loaded)


def _say(
    say: Callable[[str], None],
    decision: str,
    config: RunConfig,
    folder: RunFolder,
    dataset: Dataset,
    start: Start,
) -> None:
    """Print in a few lines what the run will do."""
    if decision == "extend":
        say(f"continuing to {config.optim.steps} steps; the learning rate is scheduled for that length")
    elif decision == "resume":
        say(f"resuming the run in {folder.path}")
    say(told(config, dataset.schema))
    if start.note:
        say(f"starts from {start.note}")


def _set_apart(config: RunConfig, dataset: Dataset) -> tuple[Dataset, Rows]:
    """The data set without the training rows that choose the weights, and these."""
    share, rows = config.data.validation, dataset.train
    if not share:
        return dataset, rows.take(torch.arange(0))
    train, held = split(len(rows), share, derive_seed(config.seed, "validation"), dataset.schema.labels(rows))
    return dataclasses.replace(dataset, train=rows.take(train)), rows.take(held)


def _check_coupling(recipe: Recipe, start: Start, rows: int) -> None:
    coupling = recipe.coupling
    if coupling is None or start.source is None:
        return
    try:
        coupling.check_source(start.source, rows)
    except ValueError as error:
        raise ValueError(f"--coupling {recipe.model.coupling}: {error}") from None


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
