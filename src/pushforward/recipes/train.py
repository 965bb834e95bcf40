"""Training a run: the stages of its recipe, one after the other, each of which can be resumed."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import nn

from .._version import __version__
from ..bijections import is_stochastic
from ..config import RunConfig
from ..couplings import (
    ConditionalOT,
    Coupling,
    DatasetOT,
    MinibatchOT,
    Rows,
    SemidiscreteOT,
    check_source,
)
from ..data import Dataset
from ..data.atoms import check_atoms
from ..flows import BijectiveFlow, Transformed
from ..nn import ConditionEmbedding
from ..objectives import Batch, Objective
from ..random import seeded
from ..runs import RunFolder, check_out
from ..sources import Empirical, Source
from ..training import (
    Batches,
    NonFiniteLoss,
    PairedBatches,
    Result,
    Trainer,
    gather_objects,
    in_model_space,
    is_first_process,
    make_fabric,
    read_model,
    write_json,
    write_model,
)
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

#: Held-out rows scored at each validation.
VALIDATION_ROWS = 2000
#: Training rows that a flow's data-driven initialisation sees.
INITIAL_ROWS = 512


@dataclass(frozen=True)
class Job:
    """What the stages of a run share: ``source`` is the law of x0, ``start`` that of the flow at t = 0,
    None for models that have their own."""

    config: RunConfig
    dataset: Dataset
    source: Source | None
    start: Source | None
    fabric: Fabric
    folder: RunFolder
    facts: dict[str, Any]
    show_progress: bool
    say: Callable[[str], None]

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.fabric.global_rank == 0

    def options(self) -> dict[str, Any]:
        """What batches of data rows need."""
        return {
            "preprocess": self.dataset.preprocess,
            "dtype": model_dtype(self.config),
            "device": self.fabric.device,
            "seed": self.config.seed,
        }


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
                objective, batches, validation = _first_stage(job)
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
                    size=_batch(job.config),
                    seed=job.config.seed,
                    dtype=model_dtype(job.config),
                    device=job.fabric.device,
                )
                validation = Batch((validation.marginals[0], validation.target.to(job.fabric.device)))
            result = _fit(job, place, name, objective, models, batches, validation)
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


def _first_stage(job: Job) -> tuple[Objective, PairedBatches, Batch | None]:
    """Objective, batches and validation of training from data."""
    config, size = job.config, _batch(job.config)
    assert config.optim.steps is not None and config.model.reuse is not None
    options = job.options()
    scored = min(len(job.dataset.test), VALIDATION_ROWS)
    if job.source is None:
        batches = PairedBatches(None, job.dataset.train, size=size, **options)
        held = PairedBatches(None, job.dataset.test, size=scored, **options)(0) if scored else None
        return build_objective(config), batches, held
    coupling = build_coupling(config)
    rows = PairedBatches(job.source, job.dataset.train, size=size, **options).whole_target()
    coupling = fitted(job, coupling, rows)
    if rows.condition is not None and coupling.looks and not isinstance(coupling, ConditionalOT):
        job.say(f"note: --coupling {config.model.coupling} ignores the condition, which biases it; see c2ot")
    source = job.source
    if coupling.pairing is not None and isinstance(source, Empirical):
        source = Rows(source.rows)
    gather = gather_objects(job.fabric)
    batches = PairedBatches(
        source,
        job.dataset.train,
        coupling,
        size=size,
        plan=config.model.plan,
        reuse=config.model.reuse,
        steps=config.optim.steps,
        gather=gather,
        **options,
    )
    validation = None
    if scored:
        # held-out rows are not among those that a coupling of whole data sets was fitted to
        held = MinibatchOT() if coupling.whole or coupling.pairing is not None else coupling
        batch = PairedBatches(
            job.source, job.dataset.test, held, size=scored, plan=scored, steps=1, **options
        )
        validation = batch(0)
        batch.close()
    return build_objective(config), batches, validation


def _fit(
    job: Job,
    place: RunFolder,
    name: str,
    objective: Objective,
    models: nn.ModuleDict,
    batches: Batches,
    validation: Batch | None,
) -> Result:
    if job.config.compute.compile:
        for model in models.values():
            model.compile()
    trainer = Trainer(
        objective,
        models,
        batches,
        job.config.optim,
        seed=job.config.seed,
        fabric=job.fabric,
        folder=place.path,
        validation=validation,
        show_progress=job.show_progress,
    )
    facts = {**job.facts, "stage": name}
    try:
        result = trainer.fit()
    except NonFiniteLoss:
        write_result(place, trainer, {**facts, "finished": False})
        raise
    finally:
        if isinstance(batches, PairedBatches):
            batches.close()
    facts |= {"finished": result.finished, "step": result.step, "seconds": round(result.seconds, 2)}
    write_result(place, trainer, facts)
    job.fabric.barrier()
    return result


def fitted(job: Job, coupling: Coupling, target: Rows) -> Coupling:
    """The coupling as fitted to the whole data; what it found is kept in the run folder for resuming."""
    assert job.source is not None
    source = Rows(job.source.rows) if isinstance(job.source, Empirical) else job.source
    if not isinstance(coupling, SemidiscreteOT):
        return coupling.fit(source, target, seeded(job.config.seed, "coupling"))
    file = job.folder.path / "coupling.safetensors"
    if job.first and not file.exists():
        job.say(f"fitting the plan to all {len(target):,} rows")
        coupling = coupling.fit(job.source, target, seeded(job.config.seed, "coupling"))
        job.say(f"chi^2 {coupling.info['chi_square']:.3f} after {coupling.info['seconds']:.0f} s")
        save_file(coupling.state_dict(), file)
    job.fabric.barrier()
    # also where it has just been fitted: numbers read back are those of a resumed run
    coupling.load_state_dict(load_file(file))
    return coupling


def _batch(config: RunConfig) -> int:
    assert config.optim.batch is not None, "resolve the configuration first"
    return config.optim.batch


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


def write_result(folder: RunFolder, trainer: Trainer, facts: dict[str, Any]) -> None:
    """Write the weights, where they are finite, and ``run.json``; the first process does."""
    if trainer.fabric.global_rank != 0:
        return
    models = trainer.models
    if all(bool(parameter.isfinite().all()) for parameter in models.parameters()):
        write_model(folder.path / "model.safetensors", models)
        if trainer.ema is not None:
            write_model(folder.path / "ema.safetensors", trainer.ema.models)
    versions = {
        "pushforward": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    write_json(
        folder.path / "run.json",
        {
            **facts,
            "parameters": sum(p.numel() for p in models.parameters()),
            "threads": torch.get_num_threads(),
            "versions": versions,
        },
    )


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
