"""The choice of weights by the loss or the density of held-out rows, within a share of the evaluations."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..config import OptimConfig
from ..objectives import Batch, Loss, Objective, Step
from ..tensors import event_size

#: The log-density of held-out rows under given models, ``(n,)`` in nats.
Judge = Callable[[nn.ModuleDict], Tensor]

#: Validations of a run, by the loss and by a judge, who may take as long as many steps; and the fewest by a
#: judge, since fewer would not see that weights become worse.
VALIDATIONS, JUDGINGS, FEWEST = 20, 12, 4

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
    """The number of ``rows`` to validate with, and how often, at most ``times``, in ``steps`` of ``batch``.

    A validation takes ``each`` evaluations a row.  First there are fewer rows, down to ``least``, then fewer
    validations, down to one.  This depends on counts and not on a clock, so that a run is the same on every
    machine.

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

    Large events are computed in parts.
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
    """Mean errors of the rows with times in [0, .1), [.1, .2), ..., [.9, 1]; 0 where there are none."""
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


@dataclass(frozen=True)
class Validation:
    """The validation of a training.

    batch: held-out pairs, on which the averaged weights have a loss with fixed draws.
    judge: the log-density of held-out rows under given models, ``(n,)`` in nats; if given, its mean chooses
        the weights instead, also those before the first step.
    cost: field evaluations that the judge takes; 0 for one without cost.
    at: after which steps; by default every ``optim.validate_every``, or twenty times.
    """

    batch: Batch | None = None
    judge: Judge | None = None
    cost: int = 0
    at: Collection[int] | None = None


class Validator:
    """The times, rows and results of the validations of a training.

    size: rows of a training step.  total: steps that the training is planned for.
    """

    def __init__(self, asked: Validation, optim: OptimConfig, size: int, total: int):
        self.asked, self.every, self.size, self.total = asked, optim.validate_every, size, total
        #: the rows in use
        self.batch = asked.batch
        #: places of the plan, and the step at which each was reached
        self.at: list[int] = []
        self.reached: dict[int, int] = {}
        #: what the judge said, by step
        self.judged: dict[int, Tensor] = {}
        #: how many rows there are from here on, so that their losses compare
        self.settled: int | None = None

    def plan(self, steps: int, last: int) -> None:
        """Which validations up to ``last`` so many ``steps`` can afford, with how many rows where that is not
        settled."""
        asked = self.asked
        if asked.at is not None:
            self.at = sorted(asked.at)
            return
        usual = times = VALIDATIONS if asked.judge is None else JUDGINGS
        if self.every is not None:
            times = max(1, steps // self.every)
        if asked.judge is None and asked.batch is not None:
            rows, times = affordable(len(asked.batch), times, steps, self.size)
            self.batch = first_rows(asked.batch, self.settled or rows)
        elif asked.cost:
            afforded = affordable(1, times, steps, self.size, asked.cost, 1)[1]
            times = max(min(FEWEST, times), afforded)
        # rounded up where there are fewer than usual, since the last step is validated as well
        every = max(1, self.total // times if times == usual else -(-self.total // times))
        every = self.every or every
        first = {0} if asked.judge is not None else set()
        self.at = sorted({*range(every, last, every), last} | first)

    def settle(self) -> None:
        """From here on validations are of as many rows as now."""
        self.settled = None if self.batch is None else len(self.batch)

    def due(self, place: float) -> list[int]:
        """The places up to ``place`` that are still to be validated at."""
        if self.batch is None and self.asked.judge is None:
            return []
        return [at for at in self.at if at <= place and at not in self.reached]

    @torch.no_grad()
    def __call__(self, objective: Objective, models: nn.ModuleDict, now: Step) -> dict[str, Any]:
        """The loss of ``models``, by tenths of time too, and what the judge says: a row of the history."""
        row: dict[str, Any] = {"step": now.index}
        if self.batch is not None:
            row["val_loss"], by_tenths = held_out_loss(objective, models, self.batch, now)
            if by_tenths is not None:
                row["val_loss_by_time"] = by_tenths
        if self.asked.judge is not None:
            said = self.judged[now.index] = self.asked.judge(models).double().cpu()
            row["val_nll"] = -float(said.mean())
        return row
