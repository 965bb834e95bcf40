"""Maximum likelihood: normalizing flows and autoencoders, which have a density or a bound of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from ..config import ModelConfig
from ..data import Schema
from ..entries import FLOWS, METHODS
from ..flows import DensityFlow, Flow
from ..objectives import Batch, MaximumLikelihood, Objective
from ..random import derive_seed
from ..rows import Rows
from ..settings import spelt
from ..training import Batches, pairs
from .base import OF_PATHS, VALIDATION_ROWS, Recipe, Stage
from .parts import Parts

if TYPE_CHECKING:
    from .job import Job
    from .start import Start


class Likelihood(Recipe):
    """One stage: the flow is its own and only network."""

    needs = ("flow",)
    ignores = ("network", "solver", "drop_condition", *OF_PATHS)
    descends_density = True
    own_source = True

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (LikelihoodStage(self),)

    @classmethod
    def refuse(cls, parts: Parts) -> None:
        model, data = parts.model, parts.data
        if parts.given.network is not None:
            raise ValueError(f"network: --method {model.method} trains a flow and has no place for a network")
        if model.base is not None and data.source == "baseline":
            raise ValueError(f"--base {model.base} and --source baseline: expected one of them, got both")
        elsewhere = data.source not in (None, "normal", "baseline")
        if model.reflow or model.distil or model.teacher or elsewhere:
            raise ValueError(
                f"--method {model.method}: a normalizing flow has its own source and no paths; "
                "leave out --source, --reflow, --distil and --teacher"
            )
        if model.divergence is not None:
            raise ValueError(
                f"--divergence {model.divergence}: is for continuous flows, got --method {model.method}"
            )
        if model.guidance != 1:
            raise ValueError(
                f"--guidance {spelt(model.guidance)}: --method {model.method} takes none; leave it out"
            )

    @classmethod
    def by_size(cls, schema: Schema, small: bool) -> dict[str, Any]:
        """A regression on noisy targets takes more steps than a likelihood."""
        if schema.kind != "table" or small:
            return {}
        return {"steps": int(np.clip(20 * max(1, schema.rows_train) ** 0.5, 100, 8_000)), "batch": 256}

    @classmethod
    def adapted(cls, model: ModelConfig, schema: Schema, small: bool) -> ModelConfig:
        """The flow as it was asked for, or the method's, a small one for few rows.

        A single column takes the kin of a flow that needs two, or would be normal there whatever it learnt.
        """
        given = _text(model)
        name, _, options = given.partition(",")
        entry = FLOWS.get(name)
        if entry is None:  # a class of the user's own
            return dataclasses.replace(model, flow=given)
        if schema.event_shape == (1,):
            name = entry.one_column or name
        if model.flow is None and small:
            options = entry.small
        return dataclasses.replace(model, flow=f"{name},{options}" if options else name)

    @classmethod
    def label(cls, model: ModelConfig) -> str | None:
        return _text(model).partition(",")[0]


class LikelihoodStage(Stage):
    """Training from data."""

    name, from_data = "train", True

    def __init__(self, recipe: Likelihood) -> None:
        self.recipe = recipe

    def models(self, schema: Schema, start: Start) -> nn.ModuleDict:
        """Raises ValueError for a base under a model that has hidden variables instead."""
        model, parts = self.recipe.model, self.recipe.parts
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.recipe.seed, "flow"))
            flow = parts.module("flow", schema.event_shape, schema.network_spec)
            if model.base is not None:
                if not flow.free_source:
                    raise ValueError(
                        f"--base {model.base}: is for flows that are bijections, got {model.flow}"
                    )
                # its shape need not be that of the data: images are squeezed into patches or flattened
                flow.source = parts.module("base", flow.source.event_shape)
        if start.initial is not None:
            flow.source = start.initial
        return nn.ModuleDict({"flow": flow}).to(self.recipe.dtype)

    def objective(self, start: Start) -> Objective:
        return MaximumLikelihood()

    def batches(self, job: Job, flow: Flow | None) -> tuple[Batches, Batch | None]:
        return unpaired(job)

    def flow(self, models: nn.ModuleDict, schema: Schema, start: Start) -> Flow:
        return cast(DensityFlow, models["flow"])

    def initialise(self, models: nn.ModuleDict, rows: Rows) -> None:
        cast(DensityFlow, models["flow"]).initialise(rows.x, rows.condition)


def unpaired(job: Job) -> tuple[Batches, Batch | None]:
    """Batches of data alone to train on, and one to validate with."""
    seed, scored = job.recipe.seed, min(len(job.validation), VALIDATION_ROWS)
    space = job.space(job.recipe.optim.jitter)
    batches = pairs(None, job.dataset.train, size=job.size, seed=seed, space=space)
    held = pairs(None, job.validation, size=scored, seed=seed, space=job.space()) if scored else None
    return batches, None if held is None else held(0)


def _text(model: ModelConfig) -> str:
    return model.flow or METHODS[model.method].defaults["flow"]
