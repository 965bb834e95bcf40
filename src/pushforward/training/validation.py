"""The loss of held-out rows, and how much of it a training can afford."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..objectives import Batch, Loss, Objective, Step
from ..tensors import event_size

#: Validation may take so many field evaluations for one of training, 5 % of both together; and a step takes
#: so many for each of its rows: forward, and backward, which is two of them.
SHARE, STEP = 0.053, 3
#: Rows that a loss is validated with at least, where there are so many.
LEAST = 128
#: Numbers that are validated at once: beyond what the caches hold larger batches are slower.
PART = 2**17


def affordable(
    rows: int, times: int, steps: int, batch: int, each: int = 1, least: int = LEAST
) -> tuple[int, int]:
    """How many of ``rows`` to validate with, and how often, ``times`` at most, in ``steps`` of ``batch``.

    A validation takes ``each`` evaluations a row.  First there are fewer rows, down to ``least``, then fewer
    validations, down to one.  Counts decide and no clock, so that a run is the same wherever it is run.

    >>> affordable(800, 20, 3000, 64), affordable(800, 20, 230, 64)
    ((800, 20), (128, 18))
    """
    most = SHARE * STEP * steps * batch / each
    kept = min(rows, max(least, int(most / times)))
    return kept, max(1, min(times, int(most / max(kept, 1))))


@torch.no_grad()
def held_out_loss(
    objective: Objective, models: nn.ModuleDict, batch: Batch, step: Step
) -> tuple[float, list[float] | None]:
    """The loss of a batch, and by tenths of time the mean losses of its rows; None for a loss without time.

    Large events are taken in parts.
    """
    size = len(batch)
    most = max(1, PART // max(1, event_size(batch.target.x.shape[1:])))
    if size <= most:
        loss = objective.loss(models, batch, step)
        return float(loss.value), by_time(loss)
    value, seen = 0.0, []
    for index in torch.arange(size).split(most):
        first, last = int(index[0]), int(index[-1]) + 1
        part = _rows(batch, first, last)
        place = Step(step.index, step.total, step.phase, step.ema, step.generator, (first, size))
        loss = objective.loss(models, part, place)
        value += part.mass / batch.mass * float(loss.value) if part.mass else 0.0
        seen.append(loss)
    times = [loss.t for loss in seen if loss.t is not None]
    errors = torch.cat([loss.per_sample for loss in seen])
    return value, by_time(Loss(errors.mean(), errors, torch.cat(times) if times else None))


def by_time(loss: Loss) -> list[float] | None:
    """Mean errors of the rows seen in [0, .1), [.1, .2), ..., [.9, 1]; 0 where there were none."""
    if loss.t is None:
        return None
    tenth = (loss.t * 10).long().clamp(0, 9)
    total = torch.zeros(10).index_add_(0, tenth.cpu(), loss.per_sample.float().cpu())
    count = torch.zeros(10).index_add_(0, tenth.cpu(), torch.ones(len(tenth)))
    return (total / count.clamp(min=1)).tolist()


def first_rows(batch: Batch, rows: int) -> Batch:
    """The batch itself, or its first ``rows``."""
    return batch if rows >= len(batch) else _rows(batch, 0, rows)


def _rows(batch: Batch, first: int, last: int) -> Batch:
    index = torch.arange(first, last, device=batch.target.x.device)
    weight: Tensor | None = None if batch.weight is None else batch.weight[first:last]
    return Batch(tuple(rows.take(index) for rows in batch.marginals), weight)
