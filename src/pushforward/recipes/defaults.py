"""The defaults of a configuration, resolved in one place, and checks that need no data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .. import registry
from ..config import ModelConfig, RunConfig
from ..data import Schema
from ..data.prose import is_prose
from ..data.sources import is_path
from ..entries import METHODS
from ..fields import as_guidance
from ..settings import Number, check_settings, shown, spelt
from ..solvers import ODE
from ..training import check_compute
from .base import Recipe, family
from .parts import Given, Parts
from .sizes import CHOSEN, by_size, is_small

#: Rows that each fold of a cross-validation holds out at least.
LEAST_HELD = 2

#: What a method that says nothing else is made of.
GENERIC: dict[str, Any] = {
    "coupling": "independent",
    "path": "linear",
    "gamma": "0",
    "prediction": "velocity",
    "reflow": 0,
}


def recipe_of(config: RunConfig, known: Parts | None = None) -> Recipe:
    """The recipe of a configuration; components that ``known`` parts have too are not parsed again.

    Raises ValueError for a component that is unknown, refuses its options, or does not go with the others.
    """
    return family(config.model.method)(Parts.of(config, known))


def by_target(config: RunConfig) -> RunConfig:
    """The configuration with the method that its own is on text, where its target is some."""
    method = METHODS.get(config.model.method)
    if method is None or not method.on_text or not is_path(config.target):
        return config
    if not is_prose(Path(config.target).expanduser()):
        return config
    return dataclasses.replace(config, model=dataclasses.replace(config.model, method=method.on_text))


def by_method(config: RunConfig) -> RunConfig:
    """Fill in what follows from the method alone: its own defaults, then :data:`GENERIC`.

    Values that the configuration gives are kept.  Raises ValueError for an unknown method.
    """
    method = registry.lookup("method", config.model.method)
    values = {**GENERIC, **{key: value for key, value in method.defaults.items() if key != "flow"}}
    return dataclasses.replace(config, model=_filled(config.model, values))


def resolve(config: RunConfig, schema: Schema, known: Parts | None = None) -> RunConfig:
    """Fill in all that the configuration leaves to the method and to the size of the data.

    known: the parts of the configuration as it is, which :func:`check` returns.  The command line,
    :func:`pushforward.train` and the estimators all resolve here.  Raises ValueError for settings that these
    data do not allow.
    """
    config = by_method(config)
    if schema.kind == "text" and family(config.model.method).preprocess != "tokens":
        others = " or ".join(method.on_text for method in METHODS.values() if method.on_text)
        raise ValueError(
            f"--method {config.model.method}: {schema.source} is text, which is tokens; take {others}"
        )
    _check_with_data(config, schema, known)
    recipe, small = family(config.model.method), is_small(schema)
    values = by_size(schema) | recipe.by_size(schema, small)
    model, data, optim = recipe.adapted(config.model, schema, small), config.data, config.optim
    values["source"] = "baseline" if small and _starts_anywhere(config, schema, known) else "normal"
    if optim.patience == 0 or model.teacher is not None:
        values["folds"] = 0
    if optim.folds == 0 and small:
        values["validation"] = 0.2
    if optim.folds:
        values["validation"] = 0.0
    return dataclasses.replace(
        config,
        data=_filled(data, values),
        model=_filled(model, values),
        optim=_filled(optim, values),
        compute=_filled(config.compute, values),
    )


def _check_with_data(config: RunConfig, schema: Schema, known: Parts | None) -> None:
    model, folds, rows = config.model, config.optim.folds or 0, schema.rows_train
    if folds * LEAST_HELD > rows:
        raise ValueError(
            f"--folds {folds}: expected at least {LEAST_HELD} training rows a fold, so at most "
            f"{rows // LEAST_HELD} for {rows:,} rows"
        )
    parts, flag = Parts.of(config, known), f"--guidance {spelt(model.guidance)}"
    if parts.weights is None or not family(model.method).ranged:
        if parts.guidance == 1 or not as_guidance(parts.guidance).compares_absent:
            return
    if schema.condition is None:
        raise ValueError(f"{flag}: guidance needs a condition; give --condition")
    if model.drop_condition == 0:
        raise ValueError(f"{flag} and --drop-condition 0: guidance needs hidden conditions")


def _filled(part: Any, values: dict[str, Any]) -> Any:
    missing = {key: value for key, value in values.items() if getattr(part, key, "") is None}
    return dataclasses.replace(part, **missing)


def _starts_anywhere(config: RunConfig, schema: Schema, known: Parts | None) -> bool:
    """Whether the flow may start from baselines: it has no learnt or hidden source of its own, and where the
    path asks for a normal source there are no conditions, which closed forms do not know."""
    recipe = recipe_of(config, known)
    if not recipe.parts.given.starts_at_zero:
        return False
    if recipe.normal_source and (schema.condition is not None or not recipe.closed_forms):
        return False
    entry = METHODS[config.model.method]
    return config.model.base is None and config.model.teacher is None and entry.starts_anywhere


def label(config: RunConfig) -> str:
    """The name of what a resolved configuration trains: the method that has exactly these parts.

    If there is none, the parts themselves: a name that flags override is not repeated.

    >>> label(by_method(RunConfig.of("moons", method="ot-cfm")))
    'ot-cfm'
    >>> label(by_method(RunConfig.of("moons", method="ot-cfm", coupling="independent", path="vp")))
    'flow-matching (path vp)'
    """
    entry = registry.lookup("method", config.model.method)
    named = family(config.model.method).label(config.model)
    if named is not None:
        return named
    parts = {key: getattr(config.model, key) for key in GENERIC}
    for name, method in METHODS.items():
        if method.recipe == entry.recipe and {**GENERIC, **method.defaults} == parts:
            return name
    told = ", ".join(f"{key} {value}" for key, value in parts.items() if value != GENERIC[key])
    return f"{entry.recipe} ({told})"


def label_of(stored: Mapping[str, Any]) -> str:
    """The label of a configuration as ``config.json`` has it.  Raises ValueError for what is none."""
    return label(by_method(RunConfig.from_json(dict(stored))))


def told(config: RunConfig, schema: Schema) -> str:
    """The settings that were chosen for the data, in one line."""
    model, optim, data = config.model, config.optim, config.data
    what = model.flow or model.network
    n, rows = schema.rows_train, schema.row.replace(" ", "s ", 1)
    chosen = f"{optim.folds} folds choose the step" if optim.folds else "the last weights are kept"
    if data.validation and optim.patience:
        held = round(data.validation * n)
        chosen = f"{held:,} validation rows choose the weights, patience {optim.patience}"
    if optim.minutes is not None:
        chosen = f"{optim.minutes:g} minutes at most; {chosen}"
    return (
        f"{label(config)} for {n:,} {rows}: {what}, at most {optim.steps:,} steps of "
        f"{optim.batch:,}, rate {optim.lr:g}, decay {optim.weight_decay:g}, average {optim.ema:g}; {chosen}"
    )


def _flag(name: str) -> str:
    """A setting as the command line has it."""
    return f"--{name.replace('_', '-')}"


def _spelt(name: str) -> str:
    """A flag, or the data, which have none."""
    return "DATA" if name == "target" else _flag(name)


def check(config: RunConfig, given: Given | None = None) -> Parts:
    """The parts that are known without data; ``given`` are those that were given in Python.

    Raises ValueError, which names the flag, for values that are wrong for any data.
    """
    check_settings(config, _spelt)
    told, config = config, by_method(config)
    model, data, optim, compute = config.model, config.data, config.optim, config.compute
    parts = Parts.of(config, given=given)
    parts.given.check(model.network, "--network")
    if model.gamma is not None and registry.is_number(model.gamma):
        Number(0, 1000).check("--gamma", float(model.gamma))
    if registry.is_number(data.noise):
        Number(0, 100).check("--noise", float(data.noise))
    elif data.noise not in ("auto", "scott"):
        raise ValueError(f"--noise: expected a number, auto or scott, got {shown(data.noise)}")
    check_compute(compute)
    if optim.folds == 1:
        raise ValueError("--folds: expected 0 or at least 2, got 1")
    if optim.folds and data.validation:
        raise ValueError("--folds and --validation: expected one of them, got both")
    recipe = family(model.method)
    if data.space is not None:
        registry.component("space", data.space).build()
        if not recipe.on_manifolds:
            others = " or ".join(method.on_spaces for method in METHODS.values() if method.on_spaces)
            raise ValueError(
                f"--space {data.space}: --method {model.method} is for vectors; take --method {others}"
            )
    recipe.refuse(parts)
    if compute.compile and not recipe.compiles:
        raise ValueError(
            f"--compile: --method {model.method} trains by derivatives of its network in x, which run "
            "as they are; leave it out"
        )
    _check_solvers(parts)
    if not _is_resolved(told):
        _check_ignored(model, told.model)
    if data.source == "baseline" and not METHODS[model.method].starts_anywhere:
        raise ValueError(f"--source baseline: --method {model.method} has a source of its own")
    return parts


def _check_ignored(model: ModelConfig, told: ModelConfig) -> None:
    """Raise ValueError for a setting that was ``told`` and that the method has no use for.

    What the method or the defaults say themselves is no such thing.
    """
    filled = by_method(RunConfig(target="", model=ModelConfig(method=model.method))).model
    for key in family(model.method).refused():
        value = getattr(told, key)
        if value is not None and value != getattr(filled, key):
            spelling = f"{_flag(key)}{'' if value is True else f' {value}'}"
            raise ValueError(f"{spelling}: does not go with --method {model.method}; leave it out")


def _is_resolved(config: RunConfig) -> bool:
    """Whether nothing is left open that :func:`resolve` fills, for methods that ignore it too."""
    parts = zip((config.model, config.optim), CHOSEN)
    return all(getattr(part, name) is not None for part, names in parts for name in names)


def _check_solvers(parts: Parts) -> None:
    """Raise ValueError, which names the flag, for a solver that cannot solve in the precision of the run."""
    for flag in ("solver", "train_solver"):
        solver = parts.build(flag)
        if solver is None or solver.solves is not ODE:  # a recipe says what it is to solve
            continue
        try:
            solver.solve(ODE(lambda t, x: torch.zeros_like(x)), torch.ones(1, 1, dtype=parts.dtype), 0.0, 1.0)
        except ValueError as error:
            raise ValueError(f"{_flag(flag)} {getattr(parts.model, flag)}: {error}") from None
