"""Reflow and distillation: training on pairs of a flow's own starts and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import RunConfig
from ..couplings import GivenPairs, Rows
from ..data import Dataset
from ..files import ensure_folder, read_tensors, write_tensors
from ..flows import ContinuousFlow, Flow
from ..objectives import Batch, Distillation, FlowMatching, Objective, UShaped
from ..random import seeded
from ..runs import RunFolder
from ..tensors import condition_length, condition_to, pack_condition, take_condition, unpack_condition
from ..training import progress

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Pairs carried by the teacher at once, and kept for validation at most.
CHUNK, HELD = 2048, 2000


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


def draw_pairs(
    config: RunConfig, dataset: Dataset, flow: Flow, folder: RunFolder, stage: str, fabric: Fabric, show: bool
) -> Pairs:
    """The pairs of ``stage``, drawn by the first process and kept in the run folder for resuming.

    Distillation takes those of the last round of reflow, whose flow it starts from, and draws its own where
    there was none.

    Conditions are those of training rows in a seeded order.  Guidance is left out: the straightened flow
    can be guided itself.
    """
    if stage == "distil" and config.model.reflow:
        stage = f"reflow-{config.model.reflow}"
    file = folder.path / "stages" / f"{stage}-pairs.safetensors"
    if not file.exists() and fabric.global_rank == 0:
        ensure_folder(file.parent)
        if isinstance(flow, ContinuousFlow) and stage != "distil":
            flow = flow.replace(guidance=1.0)
        tensors = _draw(config, dataset, flow, stage, fabric.device, show)
        write_tensors(file, tensors)
    fabric.barrier()
    tensors = read_tensors(file)
    return Pairs(tensors["source"], Rows(tensors["target"], unpack_condition(tensors)))


@torch.no_grad()
def _draw(
    config: RunConfig, dataset: Dataset, flow: Flow, stage: str, device: torch.device, show: bool
) -> dict[str, Tensor]:
    count = config.model.pairs
    assert count is not None, "resolve the configuration first"
    flow = flow.to(device).eval()
    generator = seeded(config.seed, "pairs", stage, device=device)
    condition = dataset.train.thinned(seeded(config.seed, "thinned", stage)).condition
    if condition is not None:
        order = torch.randperm(
            condition_length(condition), generator=seeded(config.seed, "conditions", stage)
        )
        condition = take_condition(condition, order[torch.arange(count) % len(order)])
    starts, ends = [], []
    with progress("pairs", 0, count, show) as report:
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


def straight_objective(config: RunConfig, stage: str) -> Objective:
    """What reflow and distillation descend.

    Reflow draws more times near both ends (Lee et al. 2024, arXiv 2405.20320, section 4.1).
    """
    if stage == "distil":
        return Distillation()
    return FlowMatching(drop_condition=config.model.drop_condition, times=UShaped())
