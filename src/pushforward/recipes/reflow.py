"""Reflow and distillation: training on pairs of a flow's own starts and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..couplings import GivenPairs
from ..data import Schema
from ..fields import Straight
from ..files import ensure_folder, read_tensors, write_tensors
from ..flows import ConsistencyFlow, Flow
from ..flows.shapes import condition_shape
from ..objectives import Batch, Distillation, FlowMatching, Objective, UShaped
from ..random import seeded
from ..rows import Rows
from ..tensors import condition_length, condition_to, pack_condition, take_condition, unpack_condition
from ..training import Batches, ModelSpace, pairs, progress
from .base import Stage

if TYPE_CHECKING:
    from .job import Job
    from .matching import Matching
    from .start import Start

#: Pairs carried by the teacher at once, and kept for validation at most.
CHUNK, HELD = 2048, 2000


class PairStage(Stage):
    """Training on pairs: where the flow of the stage before carries its own starts."""

    #: the stage whose pairs these are
    pairs_of: str
    #: whether the flow is guided as the run asks while pairs are drawn
    guided = False

    def __init__(self, recipe: Matching, name: str) -> None:
        self.recipe, self.name, self.pairs_of = recipe, name, name

    def models(self, schema: Schema, start: Start) -> nn.ModuleDict:
        return nn.ModuleDict({"field": self.recipe.network(schema)}).to(self.recipe.dtype)

    def batches(self, job: Job, flow: Flow | None) -> tuple[Batches, Batch]:
        assert flow is not None
        if flow.guided and not self.guided:
            flow = flow.replace(guidance=1.0)
        kept, held = held_out(draw_pairs(job, flow, self.pairs_of), job.recipe.seed)
        space = ModelSpace(None, job.recipe.dtype, job.fabric.device)
        batches = pairs(
            Rows(kept.source), kept.target, kept.coupling, size=job.size, seed=job.recipe.seed, space=space
        )
        return batches, Batch(tuple(rows.to(job.fabric.device) for rows in held.marginals))


class Reflow(PairStage):
    """A round of reflow, along straight lines (Liu et al. 2023, arXiv 2209.03003).

    Guidance is left out of its pairs: the straightened flow can be guided itself.
    """

    def __init__(self, recipe: Matching, number: int) -> None:
        super().__init__(recipe, f"reflow-{number}")

    def objective(self, start: Start) -> Objective:
        """More times near both ends (Lee et al. 2024, arXiv 2405.20320, section 4.1)."""
        return FlowMatching(drop_condition=self.recipe.model.drop_condition, times=UShaped())

    def flow(self, models: nn.ModuleDict, schema: Schema, start: Start) -> Flow:
        why = "reflow trains on pairs of its own starts and ends; take --reflow 0"
        return self.recipe.ode(models["field"], schema, start, path=why)


class Distil(PairStage):
    """A map of one step.

    It takes the pairs of the last round of reflow, whose flow it starts from, and draws its own where there
    was none.
    """

    guided = True

    def __init__(self, recipe: Matching) -> None:
        super().__init__(recipe, "distil")
        if recipe.model.reflow:
            self.pairs_of = f"reflow-{recipe.model.reflow}"

    def objective(self, start: Start) -> Objective:
        return Distillation()

    def flow(self, models: nn.ModuleDict, schema: Schema, start: Start) -> Flow:
        assert start.initial is not None
        shape = condition_shape(schema.network_spec)
        # of leaps from noise alone: elsewhere the network was not trained
        flow = ConsistencyFlow(Straight(models["field"]), start.initial, condition_shape=shape)
        return flow.replace(known_steps=(1,))


@dataclass(frozen=True)
class Pairs:
    """Starts ``(N, *event)`` and where the teacher carries them, in the model's space."""

    source: Tensor
    target: Rows

    @property
    def coupling(self) -> GivenPairs:
        """Row i with row i."""
        return GivenPairs(len(self.source))

    def take(self, index: Tensor) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.source[index], self.target.take(index))


def draw_pairs(job: Job, flow: Flow, stage: str) -> Pairs:
    """The pairs of ``stage``, drawn by the first process and kept in the run folder for resuming.

    Conditions are those of training rows in a seeded order.
    """
    file = job.folder.path / "stages" / f"{stage}-pairs.safetensors"
    if not file.exists() and job.first:
        ensure_folder(file.parent)
        write_tensors(file, _draw(job, flow, stage))
    job.fabric.barrier()
    tensors = read_tensors(file)
    return Pairs(tensors["source"], Rows(tensors["target"], unpack_condition(tensors)))


@torch.no_grad()
def _draw(job: Job, flow: Flow, stage: str) -> dict[str, Tensor]:
    count, seed, device = job.recipe.model.pairs, job.recipe.seed, job.fabric.device
    assert count is not None, "resolve the configuration first"
    flow = flow.to(device).eval()
    generator = seeded(seed, "pairs", stage, device=device)
    condition = job.dataset.train.thinned(seeded(seed, "thinned", stage)).condition
    if condition is not None:
        order = torch.randperm(condition_length(condition), generator=seeded(seed, "conditions", stage))
        condition = take_condition(condition, order[torch.arange(count) % len(order)])
    starts, ends = [], []
    with progress("pairs", 0, count, job.telling.show_progress) as report:
        for rows in torch.arange(count).split(CHUNK):
            given = condition_to(take_condition(condition, rows), device)
            x0 = flow.source.sample(len(rows), given, generator)
            starts.append(x0.cpu())
            ends.append(flow.push(x0, given, generator).cpu())
            report(int(rows[-1]) + 1, None)
    return {"source": torch.cat(starts), "target": torch.cat(ends), **pack_condition(condition)}


def held_out(pairs: Pairs, seed: int) -> tuple[Pairs, Batch]:
    """Pairs to train on and, a tenth at most, pairs to validate with."""
    order = torch.randperm(len(pairs.source), generator=seeded(seed, "held pairs"))
    held = pairs.take(order[: min(HELD, len(order) // 10)])
    return pairs.take(order[len(held.source) :]), Batch((Rows(held.source), held.target))
