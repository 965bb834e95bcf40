"""Distillation: a flow map for a few steps, learnt from the velocity of any trained run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..registry import Trust
from .base import family
from .open import Run, reopen
from .parts import is_given
from .train import train

#: Settings of the model that a map takes from its teacher, where they are not given.
TAKEN = ("coupling", "plan", "reuse", "path", "gamma", "network", "drop_condition", "guidance")
#: The path, and the source, of maps of a teacher whose path starts from data plus noise.
PLAIN = {"path": "linear", "gamma": "0", "source": "normal"}


def distil(
    teacher: str | Path,
    out: str | Path | None = None,
    *,
    method: str = "flow-map",
    data: Any = None,
    trust: Sequence[Trust] = (),
    **settings: Any,
) -> Run:
    """Train a flow map on the velocity of the run ``teacher``, as ``pushforward distil`` does.

    Data, their split, coupling, path, network, guidance and precision are those of the teacher unless
    ``settings`` say otherwise, so that its weights are where the map begins.  A teacher whose path starts
    from data plus noise is converted to the linear path, see :func:`~pushforward.recipes.teachers.teach`.

    method: one of those that train a flow map.  data: rows, where the teacher's were in memory.  out, trust
    and settings: those of :func:`~pushforward.train`, which it is with ``teacher=...`` and these defaults.

    Raises ValueError as that, and for a teacher that is damaged, has not ended, or follows no velocity.

    >>> import pushforward
    >>> quick = {"network": "mlp,width=8", "steps": 4, "rows": 60, "folds": 0, "show_progress": False}
    >>> teacher = pushforward.train("moons", **quick)
    >>> run = pushforward.distil(teacher.path, method="meanflow", steps=4, show_progress=False)
    >>> run.flow.sample(3).shape
    torch.Size([3, 2])
    """
    if out is not None and Path(out).resolve() == Path(teacher).resolve():
        raise ValueError(f"--out {out}: is the folder of the teacher; take another one")
    known = reopen(teacher, trust=trust)
    try:
        _ = known.flow.core.velocity
    except ValueError as error:
        raise ValueError(f"{teacher}: {error}, which a teacher needs") from None
    made = _settings(known, method) | settings
    config = RunConfig.of(known.config.target, **{k: v for k, v in made.items() if k not in _BESIDE})
    if not family(method).uses_teacher(config.model):
        raise ValueError(f"--method {method}: learns from no teacher; expected flow-map, meanflow, ...")
    told = {name: value for name, value in made.items() if name in _BESIDE}
    return train(config, out, target=data, trust=trust, **told)


#: Arguments of :func:`~pushforward.train` beside the settings.
_BESIDE = ("overwrite", "command", "show_progress", "say")


def _settings(known: Run, method: str) -> dict[str, Any]:
    """The settings of a map that is distilled from a run, before any are given."""
    config = known.config
    model = {name: getattr(config.model, name) for name in TAKEN}
    data = {f.name: getattr(config.data, f.name) for f in dataclasses.fields(config.data)}
    if is_given(model["network"]):
        del model["network"]
    if _from_data_plus_noise(known):
        model |= {name: PLAIN[name] for name in ("path", "gamma")}
        data["source"] = PLAIN["source"]
    found = {**data, **{name: value for name, value in model.items() if value is not None}}
    plain = {"seed": config.seed, "precision": config.compute.precision}
    return {**found, **plain, "method": method, "teacher": str(known.path)}


def _from_data_plus_noise(known: Run) -> bool:
    """Whether the path of a run starts from data plus noise, as those of diffusions do."""
    ends = known.recipe.ends
    return ends is not None and ends[0].target_scale != 0
