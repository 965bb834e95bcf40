"""Cross-validation of a run: the best number of steps for rows that are not trained on."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn

from ..files import check_sum, ensure_folder, read_json, remove, summed, write_json, write_tensors
from ..objectives import Batch, Objective, Step
from ..random import seeded
from ..runs import RunFolder
from ..training import Judge, Keeping, Trainer, Validation
from .base import Stage
from .choice import Choice, choose
from .ending import lost_at_end
from .job import Job
from .judge import build_judge
from .start import Start
from .weights import calibrate, initialise

#: Parts of all steps after which held-out rows are looked at, and after how many worse ones a fold ends.
GRID, WORSE = (0.08, 0.2, 0.4, 0.7, 1.0), 2


def cross_validate(job: Job, stage: Stage) -> Choice | None:
    """Train once for each fold without its rows, and choose the steps that are best for these.

    Kept in the run folder, so that a resumed run does not choose again; a run that was stopped in a fold goes
    on from that fold's checkpoint.  None where it was interrupted.  Of a run with a time budget each fold may
    take as long as the training that follows.
    """
    file = job.folder.path / "choice.json"
    if not file.exists() and not _cross_validate(job, stage, file):
        return None
    job.fabric.barrier()
    if job.first:
        for number in range(len(job.start.folds)):
            remove(_place(job, number))
        with contextlib.suppress(OSError):  # where nothing else is in it
            (job.folder.path / "stages").rmdir()
    data = read_json(file)
    choice = Choice.from_json(data, str(file))
    check_sum(data, str(file))
    total = job.recipe.optim.steps
    if total is not None and choice.steps > total:
        raise ValueError(f"{file}: steps: expected at most {total}, got {choice.steps}")
    return choice


def _place(job: Job, number: int) -> Path:
    """The folder of the checkpoint of a fold, until the steps are chosen."""
    return job.folder.path / "stages" / f"fold-{number + 1}"


def _cross_validate(job: Job, stage: Stage, file: Path) -> bool:
    """Do so, and let the first process write what it chose; whether it came to an end."""
    total = job.recipe.optim.steps
    assert total is not None
    steps = sorted({0, *(max(1, round(part * total)) for part in GRID)})
    found: list[Tensor] = []
    losses: list[Tensor] = []
    density = True
    for number, (held, start) in enumerate(job.start.folds):
        scores, exact, lost = _fold(job, stage, number, held, start, steps)
        if scores is None:
            return False
        found.append(scores)
        losses.append(scores.new_zeros(scores.shape[1]) if lost is None else lost)
        density = density and exact
    if not job.first:
        return True
    scores = torch.cat(found, 1)
    choice = choose(steps, scores, density, job.recipe.data.source == "baseline", torch.cat(losses))
    if density:
        crossed = torch.full((len(job.dataset.train),), torch.nan, dtype=torch.float64)
        for (held, _), part in zip(job.start.folds, found):
            # a judge may have asked about the first rows alone
            crossed[held[: part.shape[1]]] = part[steps.index(choice.steps)]
        write_tensors(job.folder.path / "choice.safetensors", {"log_prob": crossed})
    write_json(file, summed(choice.to_json()))
    return True


def _fold(
    job: Job, stage: Stage, number: int, held: Tensor, start: Start, steps: list[int]
) -> tuple[Tensor | None, bool, Tensor | None]:
    """Scores ``(len(steps), rows)`` of the rows ``held`` out, whether they are log-densities, and what the
    baseline loses at the end of the flow."""
    rest = torch.ones(len(job.dataset.train), dtype=torch.bool)
    rest[held] = False
    place = RunFolder(_place(job, number))
    if job.first:
        ensure_folder(place.path.parent)
        ensure_folder(place.path)
    job.fabric.barrier()
    fold = dataclasses.replace(
        job,
        dataset=dataclasses.replace(
            job.dataset,
            train=job.dataset.train.take(rest.nonzero()[:, 0]),
            preprocess=start.preprocess or job.dataset.preprocess,
        ),
        validation=job.dataset.train.take(held),
        start=start,
        folder=place,
        telling=dataclasses.replace(job.telling, say=lambda text: None),
    )
    recipe = job.recipe
    models = stage.models(job.dataset.schema, start)
    calibrate(models, fold.dataset.train)
    initialise(fold, stage, models)
    found = build_judge(fold, stage, models) if start.note else None
    judge = None if found is None else found[0]
    objective, (batches, validation) = recipe.objective(stage, start), stage.batches(fold, None)
    trainer = Trainer(
        objective,
        models,
        batches,
        dataclasses.replace(recipe.optim, patience=WORSE),
        seed=recipe.seed,
        fabric=job.fabric,
        validation=Validation(
            None if judge is not None else validation,
            judge or by_loss(objective, validation, recipe.seed),
            at=steps,
        ),
        keeping=Keeping(place.path, job.folder.identity(recipe.seed, recipe.model, place.path.name)),
    )
    title = f"fold {number + 1} of {len(job.start.folds)}" if job.telling.show_progress else None
    try:
        result = trainer.fit(seconds=job.seconds, title=title)
    finally:
        batches.close()
    if not result.finished:
        return None, True, None
    if not job.first:  # who does not validate has no scores
        return torch.empty(len(steps), 0), judge is not None, None
    # a fold that ended early had become worse, and is taken to stay so
    judged, reached = trainer.validator.judged, trainer.validator.reached
    last = max(judged)
    scores = [judged[reached.get(step, last)] for step in steps]
    lost = None if judge is None else lost_at_end(fold, stage, models, len(scores[0]))
    return torch.stack(scores), judge is not None, lost


def by_loss(objective: Objective, validation: Batch | None, seed: int) -> Judge:
    """Minus the loss of each validation pair under fixed draws, where there is no density to judge by."""
    assert validation is not None, "a fold holds rows out"

    def judge(models: nn.ModuleDict) -> Tensor:
        step = Step(generator=seeded(seed, "validation", device=validation.target.x.device))
        return -objective.loss(models, validation, step).per_sample

    return judge
