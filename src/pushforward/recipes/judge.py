"""The log-density of held-out rows while a flow trains."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ..data.dataset import sharp
from ..flows import DensityFlow, Exact, Flow, LatentFlow
from ..random import seeded
from ..rows import Rows
from ..solvers import ODE
from ..training import JUDGINGS, Judge, affordable
from .base import Recipe, Stage
from .job import Job

#: Time of a step of the solver of densities that rank weights, in evaluations of a training: four of the
#: field, and as many directional derivatives for every column; in large batches these take the time of three.
STEP = 3
#: Rows judged at most, and directional derivatives of one divergence of all rows together.
ROWS, DERIVATIVES = 1000, 4000
#: Rows judged at least, however many columns they have; and rows that it takes to rank weights better than a
#: loss does, which all validation rows enter.
LEAST, ENOUGH = 32, 200
#: Steps from which on a field that starts at nothing is past the worse densities that it goes through first.
SETTLED = 1000


def ranks_better(recipe: Recipe, columns: int, started: bool) -> bool:
    """Whether the likelihood should rank weights, and not the loss.

    It does where step 0 is a baseline (``started``), and where enough rows can be judged: on tables of 2,500
    to 8,000 rows it chose weights that are .03 to .25 nats denser on new rows.  A loss that is a likelihood
    already needs no judge.
    """
    settles = (recipe.optim.steps or 0) >= SETTLED
    return started or (settles and not recipe.descends_density and columns * ENOUGH <= DERIVATIVES)


def build_judge(
    job: Job, stage: Stage, models: nn.ModuleDict, often: bool = False
) -> tuple[Judge, int] | None:
    """What the weights of ``stage`` are judged by and its cost: log-densities of the validation rows, in data
    units.

    None where the flow has no density, or data are whole levels.  Of a continuous flow, whose exact
    divergence takes a derivative for every column, a part of the rows is judged, and of one with latents,
    which takes several of its solves, by a bound.  The cost is in field evaluations; of one who is asked
    ``often``, during a training, fewer rows keep it low.
    """
    schema, rows, start, optim = job.dataset.schema, job.validation, job.start, job.recipe.optim
    preprocess = sharp(job.dataset.preprocess)
    flow = stage.flow(models, schema, start)
    scored = schema.kind == "table" and not preprocess.stochastic and len(rows) > 0
    if not scored or (start.initial is not None and start.initial.atoms is not None):
        return None
    each, solves = 1, _solves(flow)
    if solves:
        each = STEP * job.recipe.ranks_by.steps * (1 + job.dataset.train.x.shape[1]) * solves
        most = max(LEAST, DERIVATIVES // (job.dataset.train.x.shape[1] * solves))
        kept = min(len(rows), most, ROWS)
        if often:
            assert optim.steps is not None and optim.batch is not None
            kept, _ = affordable(kept, JUDGINGS, optim.steps, optim.batch, each, ENOUGH)
        rows = rows.take(torch.arange(kept))
    elif flow.density == "none":
        return None
    z, log_det = preprocess.inverse_and_log_det(rows.x, rows.condition)
    z = z.to(job.recipe.dtype)

    def judge(models: nn.ModuleDict) -> Tensor:
        device = next(models.parameters()).device
        flow = cast(DensityFlow, stage.flow(models, schema, start))
        if solves:
            flow = flow.replace(solver=job.recipe.ranks_by, divergence=Exact())
        moved = Rows(z, rows.condition).to(device)
        # a bound draws the same latents for all weights, which compare the better
        drawn = seeded(job.recipe.seed, "judge", device=device) if flow.unbiased else None
        try:
            found = flow.log_prob(moved.x, moved.condition, drawn)
        except RuntimeError:  # a field gone wild: no density that could be kept
            found = torch.full((len(z),), -torch.inf)
        found = found.double().cpu() + log_det.double().cpu()
        return torch.where(found.isfinite(), found, -torch.inf)

    return judge, each * len(z)


def _solves(flow: Flow) -> int:
    """Solves of an ODE that a density takes, 0 where it follows none."""
    if flow.equation is ODE:
        return 1
    return cast(LatentFlow, flow).samples if flow.unbiased else 0
