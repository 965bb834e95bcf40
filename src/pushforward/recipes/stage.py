"""One stage of a run: its objective, batches and validation, the fit, and what it leaves in its folder."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .._version import __version__
from ..bijections import Blur, Chain
from ..config import RunConfig
from ..couplings import ConditionalOT, Coupling, MinibatchOT, Rows, SemidiscreteOT
from ..data import Dataset
from ..files import read_tensors, write_json, write_tensors
from ..objectives import Batch, Objective
from ..random import seeded
from ..runs import RunFolder, planned
from ..sources import Empirical
from ..tensors import event_size
from ..training import (
    Batches,
    NonFiniteLoss,
    PairedBatches,
    Result,
    Trainer,
    gather_objects,
    has_state,
    write_model,
)
from .build import build_coupling, build_objective, model_dtype
from .choice import Choice, learnt_of
from .judge import build_judge, ranks_better
from .start import Start

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Rows whose loss is taken at each validation.
VALIDATION_ROWS = 2000


@dataclass(frozen=True)
class Job:
    """What the stages of a run share.

    dataset: its ``train`` rows are trained on.  validation: rows that choose the weights.  start: what the
    flow starts from.
    """

    config: RunConfig
    dataset: Dataset
    validation: Rows
    start: Start
    fabric: Fabric
    folder: RunFolder
    facts: dict[str, Any]
    show_progress: bool
    say: Callable[[str], None]
    #: that each fit may take, None for as many as it takes
    seconds: float | None = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.fabric.global_rank == 0

    def options(self, jitter: float = 0.0) -> dict[str, Any]:
        """What batches of data rows need; ``jitter`` is noise in the space of the model."""
        preprocess = self.dataset.preprocess
        return {
            "preprocess": Chain(Blur(jitter), preprocess) if jitter else preprocess,
            "dtype": model_dtype(self.config),
            "device": self.fabric.device,
            "seed": self.config.seed,
        }


def from_data(job: Job) -> tuple[Objective, PairedBatches, Batch | None]:
    """Objective, batches and validation pairs of training from data."""
    config, size = job.config, batch_size(job.config)
    assert config.optim.steps is not None and config.model.reuse is not None
    options, jittered = job.options(), job.options(config.optim.jitter or 0.0)
    scored, start = min(len(job.validation), VALIDATION_ROWS), job.start.source
    if start is None:
        batches = PairedBatches(None, job.dataset.train, size=size, **jittered)
        held = PairedBatches(None, job.validation, size=scored, **options)(0) if scored else None
        return build_objective(config), batches, held
    coupling = build_coupling(config)
    rows = PairedBatches(start, job.dataset.train, size=size, **options).whole_target()
    coupling = fitted(job, coupling, rows)
    if rows.condition is not None and coupling.looks and not isinstance(coupling, ConditionalOT):
        job.say(f"note: --coupling {config.model.coupling} ignores the condition, which biases it; see c2ot")
    source = start
    if coupling.pairing is not None and isinstance(start, Empirical):
        source = Rows(start.rows)
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
        **jittered,
    )
    validation = None
    if scored:
        # held-out rows are not among those that a coupling of whole data sets was fitted to
        held = MinibatchOT() if coupling.whole or coupling.pairing is not None else coupling
        batch = PairedBatches(start, job.validation, held, size=scored, plan=scored, steps=1, **options)
        validation = batch(0)
        batch.close()
    return build_objective(config), batches, validation


def fit(
    job: Job,
    place: RunFolder,
    name: str,
    objective: Objective,
    models: nn.ModuleDict,
    batches: Batches,
    validation: Batch | None,
    choice: Choice | None = None,
) -> Result:
    """Train ``models`` in the folder ``place``, or go on there, and write what came of it.

    What an unfinished stage leaves is its state; weights are written when it ends.

    choice: what cross-validation chose, where it did.  Raises NonFiniteLoss where training diverges;
    ``run.json`` then says that it has not ended.
    """
    if job.config.compute.compile:
        for model in models.values():
            model.compile()
    judge, cost = None, 0
    columns = event_size(job.dataset.schema.event_shape)
    if choice is None and name == "train" and ranks_better(job.config, columns, bool(job.start.note)):
        found = build_judge(
            job.config, job.dataset, job.validation, job.start.initial, name, models, often=True
        )
        judge, cost = found or (None, 0)
    trainer = Trainer(
        objective,
        models,
        batches,
        job.config.optim if choice is None else dataclasses.replace(job.config.optim, patience=0),
        seed=job.config.seed,
        fabric=job.fabric,
        folder=place.path,
        validation=validation,
        judge=judge,
        judge_cost=cost,
        seconds=job.seconds,
        stop_at=None if choice is None else choice.steps,
        history=() if choice is None else choice.curve,
        run=job.folder.identity(job.config, name),
        show_progress=job.show_progress,
    )
    facts = {**job.facts, "stage": name, "start": job.start.note}
    try:
        result = trainer.fit()
    except NonFiniteLoss:
        write_facts(place, models, facts, job.first)
        raise
    finally:
        close(batches)
    facts |= {"ended": result.ended, "planned": planned(job.config)}
    facts |= {"step": result.step, "kept_step": result.kept, "seconds": round(result.seconds, 2)}
    if job.start.note:
        learnt = None if choice is None else choice.learnt
        if learnt is None and result.kept in trainer.judged and 0 in trainer.judged:
            learnt = learnt_of(trainer.judged[result.kept] - trainer.judged[0], "validation rows")
        facts["learnt"] = learnt
    # who is interrupted before the first step has no checkpoint
    if job.first and (result.finished or not has_state(place.path)):
        write_models(place, trainer.models, None if trainer.ema is None else trainer.ema.models)
    write_facts(place, models, facts, job.first)
    job.fabric.barrier()
    return result


def close(batches: Batches) -> None:
    """Stop what makes batches in the background."""
    if isinstance(batches, PairedBatches):
        batches.close()


def fitted(job: Job, coupling: Coupling, target: Rows) -> Coupling:
    """The coupling as fitted to the whole data; what it found is kept in the run folder for resuming."""
    start = job.start.source
    assert start is not None
    source = Rows(start.rows) if isinstance(start, Empirical) else start
    if not isinstance(coupling, SemidiscreteOT):
        return coupling.fit(source, target, seeded(job.config.seed, "coupling"))
    file = job.folder.path / "coupling.safetensors"
    if job.first and not file.exists():
        job.say(f"fitting the plan to all {len(target):,} rows")
        coupling = coupling.fit(start, target, seeded(job.config.seed, "coupling"))
        job.say(f"chi^2 {coupling.info['chi_square']:.3f} after {coupling.info['seconds']:.0f} s")
        write_tensors(file, coupling.state_dict())
    job.fabric.barrier()
    # also where it has just been fitted: numbers read back are those of a resumed run
    coupling.load_state_dict(read_tensors(file))
    return coupling


def batch_size(config: RunConfig) -> int:
    """Rows of a step over all processes, of a resolved configuration."""
    assert config.optim.batch is not None, "resolve the configuration first"
    return config.optim.batch


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
