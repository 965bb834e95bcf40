"""Training a run: the stages of its recipe, one after the other, each of which can be resumed."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import RunConfig
from ..data import Dataset
from ..data.atoms import check_atoms
from ..files import write_json
from ..flows import Flow, Transformed
from ..objectives import Objective
from ..random import derive_seed
from ..registry import Trust, trusting
from ..rows import Rows
from ..runs import RunFolder, begin, check_data, check_out, clear, clear_report, tidy_run
from ..settings import check_place, check_text
from ..sources import Source
from ..training import is_first_process, launch, make_fabric, together
from ..training.lock import locked
from .base import Recipe
from .defaults import by_target, check, recipe_of, resolve, told
from .job import Job, Telling
from .open import Run, load_dataset, reopen
from .parts import Given, own_classes
from .spelling import as_argument, as_keywords
from .stage import run_stages
from .start import Start, build_start

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

    Two settings may be given as they are: ``network=MyNetwork(...)``, a module that is called with times,
    rows and conditions, of which every training starts with a copy, and ``objective=MyObjective(...)``, in
    place of the method's wherever a flow learns from data.  Give them again to resume;
    :func:`~pushforward.load` takes the network.

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
    given = _given(settings)
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
    config, telling = by_target(given.named(config)), Telling(command or "", say, show_progress)
    with as_keywords() if command is None else nullcontext(), trusting((*own_classes(config.model), *trust)):
        began, folder = time.monotonic(), _folder(out)
        known = check(config, given)
        with as_argument(None if target is None else named):
            loaded = target if isinstance(target, Dataset) else load_dataset(config, target)
        config = resolve(config, loaded.schema, known)
        return _train(config, recipe_of(config, known), loaded, folder, overwrite, telling, began)


def _given(settings: dict[str, Any]) -> Given:
    """Take from ``settings`` what is given as it is.  Raises ValueError for an objective that is none."""
    network, objective = settings.get("network"), settings.pop("objective", None)
    if objective is not None and not isinstance(objective, Objective):
        raise ValueError(f"objective: expected an Objective, got a {type(objective).__name__}")
    if not isinstance(network, nn.Module):
        return Given(None, objective)
    del settings["network"]
    return Given(network, objective)


def _folder(out: str | Path | None) -> RunFolder:
    if out is not None:
        check_text("--out", str(out))
        check_place("--out", Path(out), folder=True)
        return RunFolder(Path(out))
    _unnamed.append(tempfile.TemporaryDirectory(prefix="pushforward-"))
    return RunFolder(Path(_unnamed[-1].name) / "run")


def _train(
    config: RunConfig,
    recipe: Recipe,
    loaded: Dataset,
    folder: RunFolder,
    overwrite: bool,
    telling: Telling,
    began: float,
) -> Run:
    decision = check_out(folder.path, config, overwrite) if is_first_process() else ""
    _check_extension(decision, folder, recipe)
    ready = prepare(recipe, loaded)
    if config.compute.threads is not None:
        torch.set_num_threads(config.compute.threads)
    fabric = make_fabric(config.compute)
    with ExitStack() as held:
        if is_first_process():
            held.enter_context(locked(folder.path))
            decision = check_out(folder.path, config, overwrite)  # again: another run may have just ended
            if decision in ("resume", "extend"):
                check_data(folder, ready.whole, *ready.outside)
        held.enter_context(together())
        launch(fabric, config.compute, telling.say)
        if fabric.global_rank == 0:
            _say(telling.say, decision, config, folder, ready)
            if decision == "new":
                clear(folder.path)
                begin(folder.path, config, ready.whole, ready.start.known, *ready.outside)
            else:
                tidy_run(folder.path)
                if decision == "extend":  # of weights that will be gone
                    clear_report(folder.path)
                write_json(folder.path / "config.json", config.to_json())
        fabric.barrier()
        start = ready.start.to(fabric.device)
        job = Job(recipe, ready.dataset, ready.validation, start, fabric, folder, telling)
        run_stages(job, ready.teacher, began)
        fabric.barrier()
    return dataclasses.replace(reopen(folder.path, recipe=recipe), loaded=loaded)


def _check_extension(decision: str, folder: RunFolder, recipe: Recipe) -> None:
    """Raise ValueError for a longer run of what is planned for its length."""
    fixed = "of several stages" if len(recipe.stages) > 1 else "whose steps were cross-validated"
    if decision == "extend" and (len(recipe.stages) > 1 or recipe.optim.folds):
        raise ValueError(f"{folder.path}: --steps and --minutes cannot change in a run {fixed}")


def _say(
    say: Callable[[str], None], decision: str, config: RunConfig, folder: RunFolder, ready: Prepared
) -> None:
    """Print in a few lines what the run will do."""
    if decision == "extend":
        say(f"continuing to {config.optim.steps} steps; the learning rate is scheduled for that length")
    elif decision == "resume":
        say(f"resuming the run in {folder.path}")
    say(told(config, ready.dataset.schema))
    if ready.start.note:
        say(f"starts from {ready.start.note}")


@dataclass(frozen=True)
class Prepared:
    """All that a run is made of, checked and built before anything is written.

    dataset: its ``train`` rows are trained on.  whole: the data set as it was loaded, in the same space.
    validation: rows that choose the weights.  teacher: the flow that reflow starts from.
    """

    dataset: Dataset
    whole: Dataset
    validation: Rows
    start: Start
    teacher: Transformed | None

    @property
    def outside(self) -> tuple[Source | None, Flow | None]:
        """What the flow starts from and a teacher, which a run folder keeps beside its data."""
        return self.start.initial, None if self.teacher is None else self.teacher.flow


def prepare(recipe: Recipe, loaded: Dataset) -> Prepared:
    """What a recipe makes of a data set.  Raises ValueError for what cannot be built."""
    if recipe.descends_density and is_first_process() and not loaded.preprocess.stochastic:
        check_atoms(loaded.schema.source, loaded.train.x.numpy(), loaded.schema.columns)
    dataset, validation = _set_apart(recipe, loaded)
    teacher = None if recipe.model.teacher is None else _teacher(recipe.model.teacher, dataset)
    if teacher is None:
        start = build_start(recipe, dataset.train, dataset.preprocess)
    else:  # in the teacher's space, from the source of what it teaches
        taught = recipe.taught_by(teacher.flow)
        start = Start(taught.source, taught.source, teacher=taught)
        dataset = dataclasses.replace(dataset, preprocess=teacher.bijection)
    _check_coupling(recipe, start, len(dataset.train))
    last = recipe.stages[-1]
    last.flow(last.models(dataset.schema, start), dataset.schema, start)
    whole = dataclasses.replace(loaded, preprocess=dataset.preprocess)
    return Prepared(dataset, whole, validation, start, teacher)


def _set_apart(recipe: Recipe, dataset: Dataset) -> tuple[Dataset, Rows]:
    """The data set without the training rows that choose the weights, and these."""
    share, rows = recipe.data.validation, dataset.train
    if not share:
        return dataset, rows.take(torch.arange(0))
    train, held = dataset.set_apart(share, derive_seed(recipe.seed, "validation"))
    return dataclasses.replace(dataset, train=rows.take(train)), rows.take(held)


def _check_coupling(recipe: Recipe, start: Start, rows: int) -> None:
    coupling = recipe.coupling
    if coupling is None or start.source is None:
        return
    try:
        coupling.check_source(start.source, rows)
    except ValueError as error:
        raise ValueError(f"--coupling {recipe.model.coupling}: {error}") from None


def _teacher(path: str, dataset: Dataset) -> Transformed:
    """The flow of a teacher.  Raises ValueError where it is of other data, or its training has not ended."""
    run = reopen(path)
    if not run.summary["finished"]:  # its weights, of which this run keeps a digest, would change
        raise ValueError(f"--teacher {path}: is not finished; the same command continues it")
    mine, theirs = dataset.schema, run.schema
    if (mine.event_shape, mine.columns) != (theirs.event_shape, theirs.columns):
        raise ValueError(
            f"--teacher {path}: was trained on {theirs.source}, with rows of shape "
            f"{theirs.event_shape}; expected {mine.event_shape} like {mine.source}"
        )
    if mine.condition != theirs.condition:
        raise ValueError(f"--teacher {path}: expected the same --condition as here")
    return run.flow
