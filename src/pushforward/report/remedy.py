"""The command that may improve a model, by the kind of its headline."""

from __future__ import annotations

import dataclasses
import math
import shlex
from pathlib import Path
from typing import Any

from .. import registry
from ..config import ModelConfig, flatten
from ..entries import DATASETS, METHODS
from ..recipes import Run, by_method, recipe_of
from ..recipes.base import family
from .headline import Kind
from .rules import ROWS
from .validation import ValidationLoss

#: How many times as many steps a model gets that underfits.
MORE = 4
#: Noise that keeps samples off training rows, in deviations of a table's columns or in the space of the
#: model; and decay that keeps weights small.
NOISE, JITTER, DECAY = "0.05", "0.1", "0.1"


def remedy(kind: Kind, run: Run, loss: ValidationLoss | None = None) -> str:
    """A full command that trains, for a headline of ``kind``; empty where there is none."""
    config = run.config
    repeats = bool(run.schema.duplicates) and not config.data.deduplicate and not _counts(run)
    stopped = loss is not None and loss.stopped
    longer = {"steps": str(MORE * max(config.optim.steps or 0, 100))}
    start = {"source": "baseline"} if _may_start(run) else {}
    match kind:
        case "good":
            return ""
        case "undecided" if len(run.dataset.test) < ROWS:
            return _held_out(run)
        case _ if repeats:
            change = {"deduplicate": ""}
        case "copies" | "overfits" if not config.optim.patience and loss is not None:
            change = {"patience": "10"}
        case "undecided" | "copies":
            change = _noise(run) or _decay(run)
        case "overfits":
            change = start if start and config.optim.weight_decay else _decay(run) or _noise(run)
        case "underfits" if not stopped:
            change = longer
        case _:
            change = start or ({} if stopped else longer)
    if not change:
        return ""
    several = config.model.reflow or config.model.distil
    goes_on = "steps" in change and not (several or stopped or config.optim.folds)
    return train_command(run, change, run.path if goes_on else _beside(run.path, change))


def _counts(run: Run) -> bool:
    """Whether the data are a table of whole numbers, whose rows repeat by chance."""
    x = run.dataset.train.x
    return run.schema.kind == "table" and bool((x == x.round()).all())


def _may_start(run: Run) -> bool:
    """Whether baselines can be what the run starts from, and are not yet."""
    config = by_method(run.config)
    entry, model = METHODS[config.model.method], config.model
    if run.config.data.source not in (None, "normal") or run.summary.get("start"):
        return False
    if run.schema.kind != "table" or not entry.starts_anywhere or model.base or model.teacher:
        return False
    return run.schema.condition is None or not recipe_of(config).normal_source


def _noise(run: Run) -> dict[str, str]:
    """Noise on training rows, which tables have in their own units; nothing where there is some."""
    if family(run.config.model.method).preprocess == "tokens":  # which take none
        return {}
    if run.schema.kind == "table" and run.config.data.noise in ("auto", "0"):
        return {"noise": NOISE}
    return {} if run.config.optim.jitter else {"jitter": JITTER}


def _decay(run: Run) -> dict[str, str]:
    return {} if (run.config.optim.weight_decay or 0.0) >= float(DECAY) else {"weight-decay": DECAY}


def _held_out(run: Run) -> str:
    rows = len(run.dataset.train) + len(run.dataset.test)
    share = math.ceil(20 * ROWS / rows) / 20
    if share > 0.5:
        return ""
    change = {"holdout": f"{max(share, 0.2):g}"}
    return train_command(run, change, _beside(run.path, change))


def _beside(path: Path, change: dict[str, str]) -> Path:
    return path.with_name(f"{path.name}-{next(iter(change))}")


def train_command(run: Run, change: dict[str, str], out: Path) -> str:
    """The command of ``run`` with other flags and another folder; the flags alone for data in memory."""
    change = {**change, "out": str(out)}
    words = shlex.split(run.command) if run.command else []
    if words[:2] not in (["pushforward", "train"], ["pushforward", "distil"]):
        words = _from_config(run)
    flags = [word for name, value in change.items() for word in (f"--{name}", value) if word]
    if not words:
        return shlex.join(flags[:-2])
    kept, skip = [], False
    for word in words:
        name = word.partition("=")[0].removeprefix("--").replace("_", "-")
        if word.startswith("--") and name in (*change, "no-deduplicate", "overwrite"):
            skip = "=" not in word and name not in ("deduplicate", "no-deduplicate", "overwrite")
        elif skip:
            skip = False
        else:
            kept.append(word)
    return shlex.join([*kept, *flags])


def _from_config(run: Run) -> list[str]:
    """The command that a configuration stands for; empty where data or parts were given in memory."""
    config = run.config
    known = Path(config.target).exists() or config.target in DATASETS
    if not known or run.recipe.parts.given.any:
        return []
    method = config.model.method
    model = dataclasses.replace(ModelConfig(), method=method, **registry.lookup("method", method).defaults)
    usual = flatten(type(config)(target=config.target, model=model).to_json())
    words = ["pushforward", "train", config.target, "--method", method]
    for name, value in flatten(config.to_json()).items():
        told = value is not None and value != usual.get(name)
        if told and not name.startswith(("compute.", "format")):
            words += _flag(name.rpartition(".")[2].replace("_", "-"), value)
    return words


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{'' if value else 'no-'}{name}"]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{name}", *(str(entry) for entry in values)]
