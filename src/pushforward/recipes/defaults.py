"""What a configuration leaves open, and what no data could make right."""

from __future__ import annotations

import dataclasses
from typing import Any

from .. import registry
from ..config import RunConfig
from ..data import Schema

#: What ``None`` stands for in a configuration, by kind of data.  The dearer the network, the less often a
#: planned pair need be used for plans to keep up with training.
DEFAULTS: dict[str, dict[str, Any]] = {
    "table": {
        "network": "resmlp,width=128,depth=3",
        "steps": 8_000,
        "batch": 512,
        "lr": 2e-3,
        "times": "late,power=3",
        "threads": 1,
        "reuse": 32,
        "pairs": 50_000,
    },
    "array": {
        "network": "resmlp",
        "steps": 8_000,
        "batch": 256,
        "lr": 1e-3,
        "times": "uniform",
        "reuse": 16,
        "pairs": 20_000,
    },
    "image": {
        "network": "unet",
        "steps": 3_000,
        "batch": 64,
        "lr": 2e-3,
        "times": "uniform",
        "reuse": 4,
        "pairs": 10_000,
    },
}


#: Validations without a better one after which maximum likelihood stops: unlike a regression on noise it
#: learns its rows by heart.
PATIENCE = 10


def resolve(config: RunConfig, schema: Schema) -> RunConfig:
    """Fill in what the configuration leaves to the kind of data and the method."""
    values = DEFAULTS[schema.kind]
    if registry.lookup("method", config.model.method).objective == "maximum-likelihood":
        values = {**values, "patience": PATIENCE}

    def fill(part: Any) -> Any:
        missing = {k: v for k, v in values.items() if getattr(part, k, "") is None}
        return dataclasses.replace(part, **missing)

    return dataclasses.replace(
        config, model=fill(config.model), optim=fill(config.optim), compute=fill(config.compute)
    )


def check(config: RunConfig) -> None:
    """Refuse values that no data could make right.  Raises ValueError that names the flag."""
    model, optim, compute = config.model, config.optim, config.compute
    registry.lookup("method", model.method)
    for kind in ("flow", "base", "network", "coupling", "path", "times", "weighting"):
        spec = getattr(model, kind)
        if spec is not None:
            registry.parse(kind, spec)
    if not registry.is_number(model.gamma):
        registry.parse("gamma", model.gamma)
    for name, value, low in (
        ("steps", optim.steps, 1),
        ("batch", optim.batch, 1),
        ("warmup", optim.warmup, 0),
        ("log-every", optim.log_every, 1),
        ("checkpoint-every", optim.checkpoint_every, 1),
        ("validate-every", optim.validate_every, 1),
        ("plan", model.plan, 1),
        ("reuse", model.reuse, 1),
        ("reflow", model.reflow, 0),
        ("patience", optim.patience, 0),
        ("pairs", model.pairs, 32),
        ("devices", compute.devices, 1),
        ("nodes", compute.nodes, 1),
        ("threads", compute.threads, 1),
    ):
        if value is not None and value < low:
            raise ValueError(f"--{name}: expected at least {low}, got {value}")
    for name, value, low, high in (
        ("lr", optim.lr, 0.0, float("inf")),
        ("clip", optim.clip, 0.0, float("inf")),
        ("weight-decay", optim.weight_decay, 0.0, float("inf")),
        ("ema", optim.ema, 0.0, 1.0),
        ("drop-condition", model.drop_condition, 0.0, 1.0),
        ("holdout", config.data.holdout, 0.0, 0.9),
    ):
        if value is not None and not low <= value <= high:
            raise ValueError(f"--{name}: expected a number in [{low:g}, {high:g}], got {value}")
    likelihood = registry.lookup("method", model.method).objective == "maximum-likelihood"
    if (model.flow is not None) != likelihood:
        known = ", ".join(registry.FLOWS)
        raise ValueError(f"--flow {model.flow}: goes with the methods {known}, got --method {model.method}")
    if model.base is not None and not likelihood:
        raise ValueError(
            f"--base {model.base}: is for normalizing flows ({', '.join(registry.FLOWS)}), got --method "
            f"{model.method}, which starts from --source"
        )
    if likelihood and (model.reflow or model.distil or model.teacher or config.data.source != "normal"):
        raise ValueError(
            f"--method {model.method}: a normalizing flow has its own source and no paths; "
            "leave out --source, --reflow, --distil and --teacher"
        )
    if model.teacher is not None and not (model.reflow or model.distil):
        raise ValueError("--teacher: a teacher is for reflow and distillation; say --reflow 1 or --distil")
