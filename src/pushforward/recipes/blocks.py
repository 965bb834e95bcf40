"""Normalizing flows that are trained block by block, each a step of the gradient flow from data to noise."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..data import Schema
from ..fields import Field, Piecewise
from ..flows import ContinuousFlow, Flow
from ..flows.shapes import condition_shape
from ..gradient_flows import ProximalStep, kullback_leibler
from ..objectives import Batch, Objective
from ..rows import Rows
from ..settings import spelt
from ..tensors import take_condition
from ..training import Batches, ModelSpace, pairs
from .base import OF_PATHS, VALIDATION_ROWS, Stage
from .cnf import NO_PATH, Continuous
from .likelihood import unpaired
from .parts import Parts

if TYPE_CHECKING:
    from .job import Job
    from .start import Start

#: Rows carried through the blocks so far at once.
CHUNK = 2048
#: The steps of the scheme by default: how many, the time that they take together, by which the distance to a
#: normal distribution falls at least to exp(-time), and how much longer each is than the one before.
BLOCKS, HORIZON, GROWTH = 8, 4.0, 1.4


class Blocks(Continuous):
    """JKO-iFlow: steps of the scheme of Jordan, Kinderlehrer and Otto under the KL divergence, from data to
    the source, each a stage (Xu, Cheng & Xie 2023, arXiv 2212.14424)."""

    needs = (*Continuous.needs, "blocks", "horizon", "growth")
    ignores = (
        *("flow", "base", "teacher", "reflow", "distil", "drop_condition"),
        *OF_PATHS,
    )
    takes = ("train_solver", "gradient", "blocks", "horizon", "growth")

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (FirstBlock(self, 0), *(BlockStage(self, number) for number in range(1, len(self.sizes))))

    @property
    def sizes(self) -> list[float]:
        """The sizes h_k = h_1 growth^(k - 1) of the steps, whose sum is the horizon."""
        count, horizon, growth = self.model.blocks, self.model.horizon, self.model.growth
        assert count is not None and horizon is not None and growth is not None, (
            "resolve the configuration first"
        )
        powers = [growth**k for k in range(count)]
        return [horizon * power / sum(powers) for power in powers]

    @classmethod
    def refuse(cls, parts: Parts) -> None:
        super().refuse(parts)
        model, method = parts.model, f"--method {parts.model.method}"
        if parts.optim.folds:
            raise ValueError(f"--folds {parts.optim.folds}: {method} trains block by block; say --folds 0")
        if model.guidance != 1:
            raise ValueError(f"--guidance {spelt(model.guidance)}: {method} takes none; leave it out")

    @classmethod
    def by_size(cls, schema: Schema, small: bool) -> dict[str, Any]:
        """Each block needs few steps: it has a small part of the way to learn."""
        scheme = {"blocks": BLOCKS, "horizon": HORIZON, "growth": GROWTH, "folds": 0}
        common = {**super().by_size(schema, small), **scheme, "train_solver": "rk4,steps=3"}
        if schema.kind != "table":
            return common
        steps = int(np.clip(12 * max(1, schema.rows_train) ** 0.5, 100, 1_500))
        sized = {"steps": steps, "batch": min(256, max(1, schema.rows_train)), "lr": 2e-2, "ema": 0.99}
        held = {"validation": 0.2} if small else {}
        return {**common, **sized, **held, "network": "mlp,width=64,depth=2,activation=tanh"}

    @classmethod
    def label(cls, model: ModelConfig) -> str | None:
        return model.method


class BlockStage(Stage):
    """The training of one block, on rows that the blocks before have carried towards the source.

    The networks of all blocks are in the models of each stage, so that one hands them on to the next.
    """

    def __init__(self, recipe: Blocks, number: int) -> None:
        self.recipe, self.number, self.name = recipe, number, f"block-{number + 1}"

    def models(self, schema: Schema, start: Start) -> nn.ModuleDict:
        return nn.ModuleDict(
            {f"block-{k + 1}": self._block(k, schema, start) for k in range(len(self.recipe.sizes))}
        ).to(self.recipe.dtype)

    def _block(self, k: int, schema: Schema, start: Start) -> ContinuousFlow:
        """A flow that does nothing yet."""
        network = self.recipe.network(schema, f"block {k}")
        if self.recipe.parts.given.starts_at_zero:
            network.start_at_zero()
        return self._flow([network], [self.recipe.sizes[k]], schema, start)

    def _flow(self, fields: list[Field], sizes: list[float], schema: Schema, start: Start) -> ContinuousFlow:
        assert start.initial is not None
        return ContinuousFlow(
            Piecewise(fields, sizes),
            self.recipe.train_solver,
            start.initial,
            condition_shape=condition_shape(schema.network_spec),
            divergence=self.recipe.parts.divergence,
            path=NO_PATH,
        )

    def objective(self, start: Start) -> Objective:
        """KL(rho || N(0, I)) + W_2^2 / (2h), from the data to the source, against the time of the flow."""
        energy = kullback_leibler(_log_normal)
        return ProximalStep(energy, self.recipe.sizes[self.number], self.name, backwards=True)

    def batches(self, job: Job, flow: Flow | None) -> tuple[Batches, Batch | None]:
        if flow is None:
            return unpaired(job)
        seed, device = self.recipe.seed, job.fabric.device
        space = ModelSpace(None, self.recipe.dtype, device)
        rows = _carried(flow, job.space().rows(job.dataset.train, seed), device)
        batches = pairs(None, rows, size=job.size, seed=seed, space=space)
        held = job.validation.take(torch.arange(min(len(job.validation), VALIDATION_ROWS)))
        if not len(held):
            return batches, None
        carried = _carried(flow, job.space().rows(held, seed), device)
        return batches, pairs(None, carried, size=len(held), seed=seed, space=space)(0)

    def flow(self, models: nn.ModuleDict, schema: Schema, start: Start) -> Flow:
        """All blocks so far, that of the data last."""
        numbers = range(self.number, -1, -1)
        blocks = [cast(Any, models[f"block-{k + 1}"]) for k in numbers]
        fields = [block.field.fields[0] for block in blocks]
        sizes = [self.recipe.sizes[k] for k in numbers]
        flow = self._flow(fields, sizes, schema, start)
        return flow.replace(solver=self.recipe.solver, knows_absent=False)


class FirstBlock(BlockStage):
    """The training of the block next to the data."""

    from_data = True


def _log_normal(x: Tensor) -> Tensor:
    """The log-density of N(0, I), up to a constant, of events of any shape."""
    return -0.5 * x.flatten(1).square().sum(1)


@torch.no_grad()
def _carried(flow: Flow, rows: Rows, device: torch.device) -> Rows:
    """Rows pulled through ``flow``, a chunk after the other."""
    flow = cast(ContinuousFlow, flow.to(device).eval())
    found = []
    for some in torch.arange(len(rows)).split(CHUNK):
        condition = take_condition(rows.condition, some)
        found.append(flow.pull(rows.x[some], condition).cpu())
    return dataclasses.replace(rows.to("cpu"), x=torch.cat(found))
