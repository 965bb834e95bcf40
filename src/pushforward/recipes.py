"""Recipes: from a configuration and data to a trained flow in a run folder, and back."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import registry
from ._version import __version__
from .bijections import Bijection
from .config import RunConfig
from .couplings import Rows
from .data import Dataset, Schema
from .data import load as load_data
from .fields import Parameterised
from .flows import ContinuousFlow, Transformed
from .nn import ConditionEmbedding
from .objectives import FlowMatching
from .paths import Interpolant
from .random import derive_seed
from .runs import RunFolder, check_out
from .sources import Normal
from .training import (
    NonFiniteLoss,
    PairedBatches,
    Trainer,
    is_first_process,
    make_fabric,
    read_metrics,
    read_model,
    write_json,
    write_model,
)

#: What ``None`` stands for in a configuration, by kind of data.
DEFAULTS: dict[str, dict[str, Any]] = {
    "table": {
        "network": "resmlp,width=128,depth=3",
        "steps": 8_000,
        "batch": 512,
        "lr": 2e-3,
        "times": "late,power=3",
        "threads": 1,
    },
    "array": {"network": "resmlp", "steps": 8_000, "batch": 256, "lr": 1e-3, "times": "uniform"},
    "image": {"network": "unet", "steps": 3_000, "batch": 64, "lr": 2e-3, "times": "uniform"},
}

#: Held-out rows scored at each validation.
VALIDATION_ROWS = 2000

#: How far from t = 0 or t = 1 a flow stops where its prediction gives no velocity there.
MARGIN = 1e-3


def resolve(config: RunConfig, schema: Schema) -> RunConfig:
    """Fill in what the configuration leaves to the kind of data."""
    values = DEFAULTS[schema.kind]

    def fill(part: Any) -> Any:
        missing = {k: v for k, v in values.items() if getattr(part, k, "") is None}
        return dataclasses.replace(part, **missing)

    return dataclasses.replace(
        config, model=fill(config.model), optim=fill(config.optim), compute=fill(config.compute)
    )


def check(config: RunConfig) -> None:
    """Refuse values that no data could make right.  Raises ValueError that names the flag."""
    registry.lookup("method", config.model.method)
    for kind in ("network", "coupling", "path", "times", "solver"):
        spec = getattr(config.model, kind)
        if spec is not None:
            registry.parse(kind, spec)
    optim, compute = config.optim, config.compute
    for name, value, low in (
        ("steps", optim.steps, 1),
        ("batch", optim.batch, 1),
        ("warmup", optim.warmup, 0),
        ("log-every", optim.log_every, 1),
        ("checkpoint-every", optim.checkpoint_every, 1),
        ("validate-every", optim.validate_every, 1),
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
        ("drop-condition", config.model.drop_condition, 0.0, 1.0),
        ("holdout", config.data.holdout, 0.0, 0.9),
    ):
        if value is not None and not low <= value <= high:
            raise ValueError(f"--{name}: expected a number in [{low:g}, {high:g}], got {value}")


def build_path(config: RunConfig) -> Interpolant:
    """The path of a configuration."""
    return Interpolant(registry.create("path", config.model.path), config.model.gamma)


def model_dtype(config: RunConfig) -> torch.dtype:
    """The dtype of the model's weights and of the space it works in."""
    return torch.float64 if config.compute.precision == "64-true" else torch.float32


def build_network(config: RunConfig, schema: Schema) -> nn.Module:
    """The network of a configuration, its weights drawn from the seed."""
    spec = None if schema.condition is None else schema.condition.network_spec
    assert config.model.network is not None, "resolve the configuration first"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "network"))
        return registry.create("network", config.model.network, schema.event_shape, spec)


def build_flow(
    config: RunConfig, schema: Schema, network: nn.Module, preprocess: Bijection, dtype: torch.dtype
) -> Transformed:
    """The flow that a network makes with the configuration's path, solver and preprocessing."""
    path = build_path(config)
    start, _ = path.ends()
    scale = (start.source_scale**2 + start.noise_scale**2) ** 0.5
    if start.target_scale != 0:
        raise ValueError(f"--path {config.model.path}: does not start from its source at t = 0")
    kind = config.model.prediction
    interval = (0.0 if kind in ("velocity", "data") else MARGIN, 1.0 - MARGIN if kind == "data" else 1.0)
    field = network if kind == "velocity" else Parameterised(network, kind, path)
    spec = None if schema.condition is None else schema.condition.network_spec
    flow = ContinuousFlow(
        field,
        registry.create("solver", config.model.solver),
        Normal(schema.event_shape, scale),
        condition_shape=spec if isinstance(spec, tuple) else (),
        guidance=config.model.guidance,
        interval=interval,
    ).to(model_dtype(config))
    return Transformed(flow, preprocess, dtype)


@dataclass(frozen=True)
class Run:
    """A run folder opened: configuration, data, trained flow, history."""

    path: Path
    config: RunConfig
    schema: Schema
    flow: Transformed
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    loaded: Dataset | None = None

    @property
    def device(self) -> torch.device:
        """Where the flow is."""
        return next(self.flow.parameters()).device

    @property
    def command(self) -> str:
        """The command that made the run."""
        return self.summary.get("command", "")

    @property
    def dataset(self) -> Dataset:
        """The data, loaded again from where they came from.  Raises ValueError where they are gone."""
        return self.loaded or load_dataset(self.config)


def load_dataset(config: RunConfig, source: Any = None) -> Dataset:
    """The data of a configuration, or ``source`` read with its settings."""
    d = config.data
    return load_data(
        config.source if source is None else source,
        condition=d.condition,
        condition_kind=d.condition_kind,
        holdout=d.holdout,
        seed=config.seed,
        deduplicate=d.deduplicate,
        preprocess=d.preprocess,
        rows=d.rows,
    )


def open_run(path: str | Path, *, averaged: bool = True, device: str = "cpu") -> Run:
    """Open a run folder; ``averaged=False`` takes the last weights instead of their average.

    Raises ValueError for a folder that is missing, damaged or of a newer version.
    """
    folder = RunFolder(Path(path))
    config, schema = folder.config(), folder.schema()
    network = build_network(config, schema)
    dtype = getattr(torch, str(folder.read("data.json").get("dtype", "float32")))
    flow = build_flow(config, schema, network, folder.preprocess(), dtype)
    ema = folder.path / "ema.safetensors"
    weights = ema if averaged and ema.exists() else folder.path / "model.safetensors"
    if not weights.exists():
        raise ValueError(f"{folder.path}: has no model yet; run the same `pushforward train` again")
    read_model(weights, network)
    flow.eval().requires_grad_(False).to(device)
    summary = folder.read("run.json") if (folder.path / "run.json").exists() else {}
    return Run(folder.path, config, schema, flow, read_metrics(folder.path), summary)


def load(path: str | Path, *, averaged: bool = True, device: str = "cpu") -> Transformed:
    """The trained flow of a run folder: ``pushforward.load("runs/demo").sample(16)``.

    Raises ValueError for a folder that is missing, damaged or of a newer version.
    """
    return open_run(path, averaged=averaged, device=device).flow


# -- training ----------------------------------------------------------------------------------------


def train(
    config: RunConfig,
    out: str | Path,
    *,
    source: Any = None,
    overwrite: bool = False,
    command: str | None = None,
    show_progress: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Run:
    """Train what ``config`` describes into the run folder ``out``, or go on where that run stopped.

    ``source`` stands for ``config.source`` where the data are in memory.  Raises ValueError, with nothing
    written, for data or values that cannot be used; NonFiniteLoss where training diverges.
    """
    check(config)
    folder = RunFolder(Path(out))
    dataset = load_dataset(config, source)
    config = resolve(config, dataset.schema)
    decision = check_out(folder.path, config, overwrite) if is_first_process() else ""
    network = build_network(config, dataset.schema)
    calibrate(network, dataset.train)
    flow = build_flow(config, dataset.schema, network, dataset.preprocess, dataset.train.x.dtype)
    coupling = registry.create("coupling", config.model.coupling)
    objective = FlowMatching(
        build_path(config),
        config.model.prediction,
        config.model.drop_condition,
        registry.create("times", config.model.times or "uniform"),
    )

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
        folder.begin(config, dataset.schema, dataset.preprocess, dataset.train)
    fabric.barrier()

    if config.compute.compile:
        network.compile()
    options = {
        "preprocess": dataset.preprocess,
        "dtype": model_dtype(config),
        "device": fabric.device,
        "seed": config.seed,
    }
    assert config.optim.batch is not None
    source_law = flow.source.to(fabric.device)
    batches = PairedBatches(source_law, dataset.train, coupling, size=config.optim.batch, **options)
    validation = None
    if scored := min(len(dataset.test), VALIDATION_ROWS):
        validation = PairedBatches(source_law, dataset.test, coupling, size=scored, **options)(0)
    trainer = Trainer(
        objective,
        network,
        batches,
        config.optim,
        seed=config.seed,
        fabric=fabric,
        folder=folder.path,
        validation=validation,
        show_progress=show_progress,
    )
    facts = {"command": command or "", "processes": fabric.world_size, "device": str(fabric.device)}
    try:
        result = trainer.fit()
    except NonFiniteLoss:
        write_result(folder, network, trainer, {**facts, "finished": False})
        raise
    facts |= {"finished": result.finished, "step": result.step, "seconds": round(result.seconds, 2)}
    write_result(folder, network, trainer, facts)
    fabric.barrier()
    return dataclasses.replace(open_run(folder.path), loaded=dataset)


def write_result(folder: RunFolder, network: nn.Module, trainer: Trainer, facts: dict[str, Any]) -> None:
    """Write the weights, where they are finite, and ``run.json``; the first process does."""
    if trainer.fabric.global_rank != 0:
        return
    if all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
        write_model(folder.path / "model.safetensors", network)
        if trainer.ema is not None:
            write_model(folder.path / "ema.safetensors", trainer.ema.models["field"])
    versions = {
        "pushforward": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    write_json(
        folder.path / "run.json",
        {
            **facts,
            "parameters": sum(p.numel() for p in network.parameters()),
            "threads": torch.get_num_threads(),
            "versions": versions,
        },
    )


def calibrate(network: nn.Module, rows: Rows) -> None:
    """Tell the network's embeddings of continuous conditions the mean and deviation of the data's."""
    for module in network.modules():
        if isinstance(module, ConditionEmbedding) and rows.condition is not None:
            module.calibrate(rows.condition)
