"""Opening a run folder."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import registry
from ..config import RunConfig
from ..contents import State
from ..data import Dataset, Schema
from ..data import load as load_data
from ..data.dataset import sharp
from ..files import read_tensors
from ..flows import Transformed, load_flow
from ..registry import Trust
from ..runs import RunFolder
from ..training import STATE, check_run, has_state, load_weights, read_facts, read_metrics, read_model
from ..training.checkpoint import check_like
from ..training.devices import find_device
from .base import Recipe, Stage, family
from .limits import to_hold
from .parts import Given, Parts, hint
from .start import Start
from .weights import left_in

#: Files of a run that hold its weights.
WEIGHTS = ("model.safetensors", "ema.safetensors", STATE)


@dataclass(frozen=True)
class Run:
    """A run folder opened: configuration, data, trained flow, history."""

    path: Path
    config: RunConfig
    recipe: Recipe
    schema: Schema
    flow: Transformed
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    loaded: Dataset | None = None
    #: classes that are no part of this library and may be made again for this run
    trust: tuple[Trust, ...] = ()

    @property
    def device(self) -> torch.device:
        """The device of the flow."""
        return next(self.flow.parameters()).device

    @property
    def command(self) -> str:
        """The command that made the run."""
        return self.summary.get("command", "")

    def crossed(self) -> Tensor | None:
        """Log-densities ``(n,)`` of the training rows under flows that had not seen them, in data units.

        NaN where a row was not asked about; None for a run without cross-validation.
        """
        file = self.path / "choice.safetensors"
        if not file.exists():
            return None
        found = read_tensors(file)
        if "log_prob" not in found:
            raise ValueError(f"{file}: log_prob: is missing")
        check_like(f"{file}: log_prob", found["log_prob"], torch.empty(self.schema.rows_train).double())
        return found["log_prob"]

    @property
    def dataset(self) -> Dataset:
        """The data, loaded again from where they came from.

        Raises ValueError if they are missing or have other columns or another condition.
        """
        if self.loaded is not None:
            return self.loaded
        found = load_dataset(self.config)
        for name in ("kind", "event_shape", "columns", "condition", "alphabet"):
            mine, theirs = getattr(self.schema, name), getattr(found.schema, name)
            if mine != theirs:
                raise ValueError(
                    f"{self.path}: data.json: schema.{name}: expected that of {found.schema.source}, "
                    f"{theirs!s:.100}, got {mine!s:.100}; the data or the run have changed"
                )
        return found


def moves(config: RunConfig) -> bool:
    """Whether a configuration starts from data."""
    return config.data.source not in (None, "normal", "baseline")


def load_dataset(config: RunConfig, target: Any = None) -> Dataset:
    """The data of a configuration, or ``target`` read with its settings."""
    options = {"seed": config.seed, **dataclasses.asdict(config.data)}
    del options["source"], options["validation"]
    # where the source is data too, distances between the two are in deviations of the columns
    if config.data.preprocess == "auto" and moves(config):
        options["preprocess"] = "standardise"
    elif config.data.preprocess == "auto":
        options["preprocess"] = family(config.model.method).preprocess
    return load_data(config.target if target is None else target, **options)


def place_of(folder: RunFolder, recipe: Recipe, stage: Stage) -> RunFolder:
    """The folder of a stage: the run folder for the last one, ``stages/`` for those before."""
    return folder if stage.name == recipe.stages[-1].name else RunFolder(folder.path / "stages" / stage.name)


def open_run(
    path: str | Path,
    *,
    averaged: bool = True,
    device: str = "cpu",
    stage: str | None = None,
    trust: Sequence[Trust] = (),
    network: nn.Module | None = None,
) -> Run:
    """Open a run folder; ``averaged=False`` takes the last weights instead of their average.

    ``device``: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto`` for CUDA where there is one.
    ``stage`` opens what an earlier stage left: ``train``, ``reflow-1``, ...  A run that is not finished, or
    is being trained, has the weights of its newest checkpoint, and a warning says so.  ``trust``: your own
    classes, or their names as ``module:Class``, that the run may name; a folder that names others is refused,
    and nothing of it is imported or run.  ``network``: one like that which was given to
    :func:`~pushforward.train`, of which the run folder holds the weights alone.

    Raises ValueError for a folder that is missing, damaged or of a newer version, a stage it lacks, and a
    device that this machine does not have.
    """
    run = reopen(path, averaged=averaged, device=device, stage=stage, trust=trust, network=network)
    if not run.summary["finished"]:
        step, total = run.summary.get("step", 0), run.config.optim.steps
        reached = f"step {step:,}" + (f" of {total:,}" if total else "")
        reached += f" of stage {run.summary['stage']}" if len(run.recipe.stages) > 1 else ""
        warnings.warn(
            f"{run.path} is not finished: these are the weights of {reached}; the same command continues it",
            UserWarning,
            stacklevel=2,
        )
    return run


def reopen(
    path: str | Path,
    *,
    averaged: bool = True,
    device: str = "cpu",
    stage: str | None = None,
    trust: Sequence[Trust] = (),
    network: nn.Module | None = None,
    recipe: Recipe | None = None,
) -> Run:
    """:func:`open_run` without the warning that a run is not finished.

    recipe: that of the run, where it is known already.
    """
    where = find_device(device)
    folder = RunFolder(Path(path))
    config = folder.config()
    with registry.trusting(trust) as trusted:
        recipe = recipe or _recipe(config, folder.path / "config.json", Given(network))
    schema = folder.schema()
    try:
        this = _newest(folder, recipe) if stage is None else recipe.stage(stage)
    except ValueError as error:
        raise ValueError(f"{folder.path}: {error}") from None
    place = place_of(folder, recipe, this)
    source = folder.source()
    start, preprocess, dtype = Start(source, source, folder.known()), folder.preprocess(), folder.dtype()
    stored = next((f for name in WEIGHTS if (f := place.path / name).exists()), place.path / WEIGHTS[0])
    with registry.trusting(trusted), to_hold(stored):
        models = this.models(schema, start)
        inner = this.flow(models, schema, start)
    flow = Transformed(inner.to(recipe.dtype), sharp(preprocess), dtype)
    folder.check_sum()
    summary = {"stage": this.name, **place.summary(recipe.optim)}
    if summary["stage"] != this.name:
        raise ValueError(
            f"{place.path / 'run.json'}: stage: expected {this.name} by config.json, got {summary['stage']}"
        )
    identity = folder.identity(recipe.seed, recipe.model, this.name)
    facts = _checkpoint(place, summary, models, averaged, identity)
    if facts is None:
        last, average = place.path / "model.safetensors", left_in(place.path, recipe.optim.ema)
        weights = average if averaged else last
        if not last.exists() and not average.exists():
            raise ValueError(f"{place.path}: has no model yet; run the same `pushforward train` again")
        if not weights.exists():
            raise ValueError(f"{weights}: is missing{'; --last-weights does not need it' * averaged}")
        read_model(weights, models)
    else:
        summary |= {"step": facts["step"], "kept_step": facts["step"], "seconds": facts["seconds"]}
    # a stage that is not asked for by name is the newest, and that of a finished run is the last
    summary["finished"] = summary["finished"] and (stage is not None or place == folder)
    flow.eval().requires_grad_(False).to(where)
    return Run(folder.path, config, recipe, schema, flow, read_metrics(place.path), summary, trust=trusted)


def _recipe(config: RunConfig, file: Path, given: Given) -> Recipe:
    """The recipe of a configuration.

    Raises ValueError, by ``file`` and key, for a component that is neither registered nor trusted, options
    that it does not take, and null where the configuration has not been resolved.
    """
    model = config.model
    try:
        made = family(model.method)
    except ValueError as error:
        raise ValueError(f"{file}: model.method: {error}{hint(error)}") from None
    if model.teacher is not None and not made.uses_teacher(model):
        raise ValueError(f"{file}: model.teacher: goes with reflow or distil, got neither")
    for key in made.needs:
        if getattr(model, key) is None:
            raise ValueError(f"{file}: model.{key}: expected a text, got null")
    given.check(model.network, f"{file}: model.network")
    parts = Parts.of(config, file=str(file), given=given)
    try:
        return made(parts)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _newest(folder: RunFolder, recipe: Recipe) -> Stage:
    """The last stage that has come to weights."""
    for stage in reversed(recipe.stages):
        place = place_of(folder, recipe, stage).path
        if has_state(place) or (place / "model.safetensors").exists():
            return stage
    return recipe.stages[-1]


def _checkpoint(
    place: RunFolder, summary: dict[str, Any], models: nn.ModuleDict, averaged: bool, run: str
) -> State | None:
    """Load the weights of the last checkpoint and return its facts, where it is newer than those that were
    written when training ended; None where it is not."""
    if summary["finished"] or not has_state(place.path):
        return None
    facts = read_facts(place.path)
    if summary.get("ended") and summary.get("step") == facts["step"]:
        return None
    check_run(place.path, facts, run)
    return load_weights(place.path, models, averaged)


def load(
    path: str | Path,
    *,
    averaged: bool = True,
    device: str = "cpu",
    stage: str | None = None,
    trust: Sequence[Trust] = (),
    network: nn.Module | None = None,
) -> Any:
    """The trained flow of a run folder, or a flow in one file: ``pushforward.load("runs/demo").sample(16)``.

    ``device`` may be ``auto``; ``stage`` is that of an earlier stage of a run of several.  A file is one that
    :func:`~pushforward.save` wrote.  Neither runs code that is not of this library, unless ``trust`` names
    it: your own classes, or their names as ``module:Class``, that the run or the file may hold.  A run
    that was trained with a network of your own needs one like it as ``network``.  Raises ValueError as
    :func:`open_run` and :func:`~pushforward.flows.load_flow`.
    """
    if Path(path).is_file():
        return load_flow(path, [registry.trusted_class(each) for each in trust], find_device(device))
    return open_run(path, averaged=averaged, device=device, stage=stage, trust=trust, network=network).flow
