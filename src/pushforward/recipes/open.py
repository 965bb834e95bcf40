"""Opening a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..config import RunConfig
from ..data import Dataset, Schema
from ..data import load as load_data
from ..flows import Transformed, load_flow
from ..runs import RunFolder
from ..training import read_metrics, read_model
from ..training.devices import find_device
from .build import build_flow, build_models, stages


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

    def crossed(self) -> Tensor | None:
        """Log-densities ``(n,)`` of the training rows under flows that had not seen them, in data units.

        NaN where a row was not asked about; None for a run without cross-validation.
        """
        file = self.path / "choice.safetensors"
        return load_file(file)["log_prob"] if file.exists() else None

    @property
    def dataset(self) -> Dataset:
        """The data, loaded again from where they came from.  Raises ValueError where they are gone."""
        return self.loaded or load_dataset(self.config)


def moves(config: RunConfig) -> bool:
    """Whether a configuration starts from data."""
    return config.data.source not in (None, "normal", "baseline")


def load_dataset(config: RunConfig, target: Any = None) -> Dataset:
    """The data of a configuration, or ``target`` read with its settings."""
    d = config.data
    return load_data(
        config.target if target is None else target,
        condition=d.condition,
        condition_kind=d.condition_kind,
        columns=d.columns,
        exclude=d.exclude,
        sample_weight=d.sample_weight,
        holdout=d.holdout,
        seed=config.seed,
        deduplicate=d.deduplicate,
        # where the source is data too, distances between the two are in deviations of the columns
        preprocess="standardise" if d.preprocess == "auto" and moves(config) else d.preprocess,
        noise=d.noise,
        rows=d.rows,
        resize=d.resize,
    )


def open_run(
    path: str | Path, *, averaged: bool = True, device: str = "cpu", stage: str | None = None
) -> Run:
    """Open a run folder; ``averaged=False`` takes the last weights instead of their average.

    ``device``: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto`` for CUDA where there is one.
    ``stage`` opens what an earlier stage left: ``train``, ``reflow-1``, ...

    Raises ValueError for a folder that is missing, damaged or of a newer version, a stage it lacks, and a
    device that this machine does not have.
    """
    where = find_device(device)
    folder = RunFolder(Path(path))
    config, schema = folder.config(), folder.schema()
    place = folder
    if stage is not None and stage != stages(config)[-1]:
        if stage not in stages(config):
            raise ValueError(
                f"{folder.path}: expected one of the stages {', '.join(stages(config))}, got {stage}"
            )
        place = RunFolder(folder.path / "stages" / stage)
    summary = place.read("run.json") if (place.path / "run.json").exists() else {}
    stage = stage or str(summary.get("stage", stages(config)[-1]))
    law = folder.source()
    models = build_models(config, schema, stage, law, folder.known())
    dtype = getattr(torch, str(folder.read("data.json").get("dtype", "float32")))
    flow = build_flow(config, schema, models, law, folder.preprocess(), dtype, stage)
    ema = place.path / "ema.safetensors"
    weights = ema if averaged and ema.exists() else place.path / "model.safetensors"
    if not weights.exists():
        raise ValueError(f"{place.path}: has no model yet; run the same `pushforward train` again")
    read_model(weights, models)
    flow.eval().requires_grad_(False).to(where)
    return Run(folder.path, config, schema, flow, read_metrics(place.path), summary)


def load(
    path: str | Path,
    *,
    averaged: bool = True,
    device: str = "cpu",
    stage: str | None = None,
    trust: Sequence[type] = (),
) -> Any:
    """The trained flow of a run folder, or a flow in one file: ``pushforward.load("runs/demo").sample(16)``.

    ``device`` may be ``auto``; ``stage`` is that of an earlier stage of a run of several.  A file is one that
    :func:`~pushforward.save` wrote; ``trust`` names your own classes that it may hold.  Raises ValueError as
    :func:`open_run` and :func:`~pushforward.flows.load_flow`.
    """
    if Path(path).is_file():
        return load_flow(path, trust, find_device(device))
    return open_run(path, averaged=averaged, device=device, stage=stage).flow
