"""The training loop: optimiser steps, averages, validation, checkpoints, exact resumption."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..config import ComputeConfig, OptimConfig
from ..contents import State
from ..files import append_line, remove, write_text
from ..objectives import Batch, Objective, Step
from ..random import BLOCK, RowGenerator, derive_seed, seeded
from ..tensors import parameter_dtype
from .batches import Batches
from .best import Best
from .checkpoint import (
    STATE,
    check_run,
    check_weights,
    load_state,
    optimiser_tensors,
    put_weights,
    restore_optimiser,
    save_state,
    untied,
)
from .checks import check_optim, check_trainer, in_dtype
from .devices import make_fabric, on_one_device
from .ema import EMA
from .interrupt import Interrupt
from .metrics import METRICS, read_metrics
from .phase import Phase, Work
from .progress import progress
from .schedule import Schedule
from .validation import affordable, first_rows, held_out_loss

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: AdamW's decay rates; the second is shorter than torch's default, as regression on noisy targets likes it.
BETAS = (0.9, 0.99)
#: Validations of a run, by the loss and by a judge, who may take as long as many steps; and the fewest by a
#: judge, since fewer would not see that weights become worse.
VALIDATIONS, JUDGINGS, FEWEST = 20, 12, 4
#: Steps after which a run with a time budget knows how many it can take.
MEASURED = 5


#: The log-density of held-out rows under given models, ``(n,)`` in nats.
Judge = Callable[[nn.ModuleDict], Tensor]


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient became infinite or not a number."""


@dataclass(frozen=True)
class Result:
    """How training ended: after ``step`` steps and ``seconds`` over all calls, finished or interrupted.

    ended: why it finished, "steps", "patience" or "time"; None where it was interrupted.
    kept: the step whose weights were kept, the best by validation or the last.  history: the rows of
    ``metrics.jsonl``.
    """

    step: int
    ended: str | None
    seconds: float
    history: list[dict[str, Any]]
    kept: int

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return self.ended is not None


class Trainer:
    """Descends an objective with AdamW, warm-up and cosine decay, clipping and an average of the weights.

    Arguments:
        objective, models: what is descended and what is trained (a module stands for
            ``{objective.main: module}``).
        batches: what :func:`~pushforward.training.pairs` makes, or any
            :class:`~pushforward.training.Batches`.
        optim: the numbers; ``steps`` must be set.
        seed: of every draw of the objective; step k draws from (seed, k) alone.
        fabric: devices, strategy and precision; one CPU process by default.
        folder: where checkpoints and ``metrics.jsonl`` go; None keeps nothing.
        validation: held-out pairs, scored with fixed draws; with ``optim.patience`` training ends when
            their loss has not fallen for so many validations, and the averaged weights are its best ones.
        judge: the log-density of held-out rows under given models, ``(n,)`` in nats; where there is one its
            mean chooses the weights instead, also those before the first step.
        judge_cost: field evaluations that the judge takes; 0 for a free one.
        validate_at: at which steps to validate; by default every ``optim.validate_every``, or twenty times.
        stop_at: train so many of the ``optim.steps`` that the learning rate is planned for.
        seconds: that training may take over all calls, validations included; None for as many as it takes.
        history: rows that ``metrics.jsonl`` begins with.
        run: which run, and which part of it, the folder's checkpoint has to be of; kept in it.

    Validation takes a twentieth of the field evaluations: where it would take more, fewer rows are validated
    with, then less often.  Counts decide, and so results depend on no clock, but for a training that
    ``seconds`` end: its learning rate follows the share of the time where this is beyond that of the steps,
    and steps that stand for a place in the plan (``validate_at``, ``stop_at``) are counted by that share too.

    :meth:`fit` continues from the folder's checkpoint; on a CPU the losses that follow equal those of
    an uninterrupted run bit for bit.  Data of another dtype are taken in that of the models.  Raises
    NonFiniteLoss, after saving the last good state, and ValueError for arguments that cannot be used and for
    data on another device than the models.
    """

    def __init__(
        self,
        objective: Objective,
        models: nn.Module,
        batches: Batches,
        optim: OptimConfig,
        *,
        seed: int = 0,
        fabric: Fabric | None = None,
        folder: Path | None = None,
        validation: Batch | None = None,
        judge: Judge | None = None,
        judge_cost: int = 0,
        validate_at: Collection[int] | None = None,
        stop_at: int | None = None,
        seconds: float | None = None,
        history: Sequence[dict[str, Any]] = (),
        run: str = "",
        show_progress: bool = True,
        title: str = "training",
    ):
        check_optim(optim)
        device = None if fabric is None else fabric.device
        check_trainer(objective, models, batches, optim, device, validation, stop_at, seconds)
        assert optim.steps is not None
        self.objective, self.batches, self.optim, self.seed = objective, batches, optim, seed
        self.models = models if isinstance(models, nn.ModuleDict) else nn.ModuleDict({objective.main: models})
        self.fabric = fabric or make_fabric(ComputeConfig(device="cpu"))
        # plain attributes: Fabric looks these up anew at every access
        self.rank, self.world = self.fabric.global_rank, self.fabric.world_size
        self.device = self.fabric.device
        self.folder, self.judge = folder, judge
        self._held = self.validation = validation
        self.show_progress, self.title = show_progress and self.rank == 0, title
        self.total = optim.steps
        self.last = self.total if stop_at is None else min(stop_at, self.total)
        peak = 1e-3 if optim.lr is None else optim.lr
        self.schedule = Schedule(self.total, peak, optim.warmup, seconds)
        self.judge_cost, self._asked = judge_cost, validate_at
        self.validate_at: list[int] = []
        #: the step at which each of ``validate_at`` was reached
        self.reached: dict[int, int] = {}
        #: what ``judge`` said, by step
        self.judged: dict[int, Tensor] = {}
        self._given_history, self.run = list(history), run
        self.models.to(self.device)
        self.dtype = parameter_dtype(self.models)
        self.names: dict[Tensor, str] = {p: name for name, p in self.models.named_parameters()}
        decay = 0.999 if optim.ema is None else optim.ema
        self.ema = EMA(self.models, decay) if decay > 0 else None
        averaged = self.models if self.ema is None else self.ema.models
        self.best = Best(averaged, optim.patience) if optim.patience else None
        self._settled = False
        self._random_layers = any(
            isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in self.models.modules()
        )
        self.history: list[dict[str, Any]] = []
        # On one device in full precision Fabric's wrappers do nothing but take time, a tenth of a small
        # network's step; there the loop goes without them.
        full = self.fabric._precision.precision in ("32-true", "64-true")
        self._bare = full and on_one_device(self.fabric)
        self._phases: dict[str, tuple[nn.Module, torch.optim.Optimizer]] = {}
        for name, trained in objective.phases.items():
            phase = Phase(objective, self.models, trained)
            optimiser = torch.optim.AdamW(
                phase.parameters(), peak, BETAS, weight_decay=optim.weight_decay or 0.0, fused=True
            )
            self._phases[name] = (phase, optimiser) if self._bare else self.fabric.setup(phase, optimiser)

    # -- schedule ------------------------------------------------------------------------------------

    def learning_rate(self, step: float) -> float:
        """That of the step which begins at place ``step`` of the plan."""
        return self.schedule.rate(step)

    def _plan(self, steps: int) -> None:
        """Which validations so many steps can afford, with how many rows where that is not settled."""
        if self._asked is not None:
            self.validate_at = sorted(self._asked)
            return
        usual = VALIDATIONS if self.judge is None else JUDGINGS
        batch, times = self.batches.size, usual
        if self.optim.validate_every is not None:
            times = max(1, steps // self.optim.validate_every)
        if self.judge is None and self._held is not None:
            rows, times = affordable(len(self._held), times, steps, batch)
            self.validation = first_rows(self._held, self._settled_rows or rows)
        elif self.judge_cost:
            afforded = affordable(1, times, steps, batch, self.judge_cost, 1)[1]
            times = max(min(FEWEST, times), afforded)
        # rounded up where there are fewer than usual, since the last step is validated as well
        every = max(1, self.total // times if times == usual else -(-self.total // times))
        every = self.optim.validate_every or every
        first = {0} if self.judge is not None else set()
        self.validate_at = sorted({*range(every, self.last, every), self.last} | first)

    # -- the loop ------------------------------------------------------------------------------------

    def fit(self) -> Result:
        """Train up to ``optim.steps``, or until interrupted."""
        start = step = self._restore()
        self._began, self._longest, self._place = time.monotonic(), 0.0, 0.0
        self._plan(self.total)
        self._look(step, 0)
        self.reached = {at: at for at in self.validate_at if at <= self._place and start > 0}
        if self.schedule.seconds is None:
            self._settle()
        self.models.train()
        with Interrupt() as interrupt, progress(self.title, start, self.last, self.show_progress) as report:
            if start == 0:
                for row in self._given_history:
                    self._record(row)
                self._validate(0)
            while self._place < self.last and not self._stop(interrupt):
                self._step(step)
                step += 1
                self._look(step, step - start)
                last = self._place >= self.last
                loss = self._log(step) if step % self.optim.log_every == 0 or last else None
                report(step, loss, round(step * self.last / self._place))
                self._validate(step)
                if step % self.optim.checkpoint_every == 0 and not last:
                    self._save(step)
        if step > start:
            self._save(step)
        ended = "patience" if self._settled else None
        if self._place >= self.last:
            ended = "steps" if step >= self.last else "time"
        kept = step
        if ended is not None and self.best is not None:
            kept = self.best.take(step)
        self.models.eval()
        return Result(step, ended, self._seconds(), self.history, kept)

    def _look(self, step: int, done: int) -> None:
        """Where in the plan ``step`` is: at its own place, unless time runs out first.

        The first ``done`` steps of this call tell how many there will be.
        """
        if self.schedule.seconds is None:
            self._place = step
            return
        pace = (time.monotonic() - self._began) / max(done, 1)
        self.schedule.reserve = self._longest + pace * (done > 0)
        place = min(self.schedule.place(step, self._seconds()), self.last)
        coming = max(1, min(self.total, int(self.schedule.seconds / max(pace, 1e-9))))
        if self.world > 1:  # one clock for all
            place, coming = self.fabric.broadcast((place, coming))
        self._place = place
        if done in (1, MEASURED):
            before = set(self.validate_at)
            self._plan(coming)
            passed = [at for at in self.validate_at if at < min(place, self.last) and at not in before]
            self.reached |= dict.fromkeys(passed, step)
            if done == MEASURED:
                self._settle()

    def _settle(self) -> None:
        """From here on validations are of as many rows as now, so that their losses compare."""
        self._settled_rows = None if self.validation is None else len(self.validation)

    def _seconds(self) -> float:
        """Training time so far, over all calls."""
        return self._earlier + time.monotonic() - self._began

    def _stop(self, interrupt: Interrupt) -> bool:
        self._settled = self.best is not None and self.best.over
        if self.world == 1:
            return interrupt.requested or self._settled
        flags = torch.tensor([interrupt.requested, self._settled], dtype=torch.float, device=self.device)
        total = self.fabric.all_reduce(flags, reduce_op="sum")
        assert isinstance(total, Tensor)
        self._settled = bool(total[1] > 0)
        return bool((total > 0).any())

    def _step(self, index: int) -> None:
        rank, world = self.rank, self.world
        batch = in_dtype(self.batches(index, rank, world), self.dtype, self.device)
        rows = self.batches.rows(rank, world)
        if self._random_layers:
            torch.manual_seed(derive_seed(self.seed, "layers", index, rank))
        self._rate = rate = self.learning_rate(self._place)
        for name, (phase, optimiser) in self._phases.items():
            block = min(BLOCK, self.batches.size)
            generator = RowGenerator(self.seed, name, index, rows=rows, block=block, device=self.device)
            ema = None if self.ema is None else self.ema.models
            step = Step(index, self.total, name, ema, generator, (rows[0], self.batches.size))
            for group in optimiser.param_groups:
                group["lr"] = rate
            value, answer = phase(Work(batch, step))
            optimiser.zero_grad()
            value.backward() if self._bare else self.fabric.backward(value)
            norm = self._gradient_norm(phase, optimiser)
            both = torch.stack([value.detach(), norm])
            if self.device.type == "cpu" and not bool(both.isfinite().all()):
                self._give_up(index)
            self._pending.setdefault(name, []).append(both)
            for term, amount in answer.loss.terms.items():
                self._pending.setdefault(f"{name}/{term}", []).append(amount.detach())
            optimiser.step()
        if self.ema is not None:
            self.ema.update(index)

    def _gradient_norm(self, phase: nn.Module, optimiser: torch.optim.Optimizer) -> Tensor:
        largest = self.optim.clip if self.optim.clip > 0 else math.inf
        if self._bare:
            return nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], largest)
        norm = self.fabric.clip_gradients(phase, optimiser, max_norm=largest, error_if_nonfinite=False)
        assert norm is not None
        return norm

    def _give_up(self, index: int) -> None:
        self._save(index)
        place = f"; the state before it is in {self.folder}" if self.folder else ""
        raise NonFiniteLoss(f"the loss is not finite at step {index + 1}{place}; try a lower --lr")

    # -- records -------------------------------------------------------------------------------------

    def _record(self, row: dict[str, Any]) -> None:
        self.history.append(row)
        if self.folder is not None and self.rank == 0:
            append_line(self.folder / METRICS, json.dumps(row))

    def _log(self, step: int) -> float:
        row: dict[str, Any] = {"step": step}
        for name, values in self._pending.items():
            mean = torch.stack(values).mean(0)
            if self.world > 1:
                mean = self.fabric.all_reduce(mean, reduce_op="mean")
                assert isinstance(mean, Tensor)
            if name not in self._phases:
                row[name] = mean.item()
                continue
            suffix = "" if len(self._phases) == 1 else f"/{name}"
            row |= zip((f"loss{suffix}", f"grad_norm{suffix}"), mean.tolist())
        self._pending.clear()
        losses = [value for name, value in row.items() if name.startswith("loss")]
        if not all(math.isfinite(loss) for loss in losses):
            raise NonFiniteLoss(
                f"the loss is not finite before step {step}; the last checkpoint is kept; try a lower --lr"
            )
        self._record({**row, "lr": self._rate, "seconds": round(self._seconds(), 3)})
        return losses[0]

    @torch.no_grad()
    def _validate(self, step: int) -> None:
        """The loss of the averaged weights on held-out rows, by tenths of time too; what the judge says."""
        due = [at for at in self.validate_at if at <= self._place and at not in self.reached]
        if not due or self.rank != 0 or (self.validation is None and self.judge is None):
            return
        began = time.monotonic()
        self.reached |= dict.fromkeys(due, step)
        models = self.models if self.ema is None else self.ema.models
        models.eval()
        row: dict[str, Any] = {"step": step}
        if self.validation is not None:
            generator = seeded(self.seed, "validation", device=self.device)
            now = Step(step, self.total, generator=generator)
            row["val_loss"], by_time = held_out_loss(self.objective, models, self.validation, now)
            if by_time is not None:
                row["val_loss_by_time"] = by_time
        if self.judge is not None:
            self.judged[step] = self.judge(models).double().cpu()
            row["val_nll"] = -float(self.judged[step].mean())
        self._record(row)
        if self.best is not None:
            self.best.see(row.get("val_nll", row.get("val_loss", math.nan)), step)
        self.models.train()
        self._longest = max(self._longest, time.monotonic() - began)

    # -- checkpoints ---------------------------------------------------------------------------------

    def _save(self, step: int) -> None:
        if self.folder is None or self.rank != 0:
            return
        tensors = {f"model/{name}": value for name, value in self.models.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema/{name}": value for name, value in self.ema.models.state_dict().items()}
        for name, (_, optimiser) in self._phases.items():
            state = optimiser_tensors(optimiser, self.names)
            tensors |= {f"{name}/{key}": value for key, value in state.items()}
        tensors |= {f"pending/{name}": torch.stack(values) for name, values in self._pending.items()}
        facts: State = {
            "step": step,
            "total": self.total,
            "seconds": self._seconds(),
            "rows": len(self.history),
            "validated": self._settled_rows,
            "run": self.run,
        }
        if self.best is not None:
            tensors |= {f"best/{name}": value for name, value in self.best.weights.items()}
            facts["best"] = self.best.facts()
        tensors |= {f"judged/{step}": value for step, value in self.judged.items()}
        save_state(self.folder, untied(tensors), facts)

    def _restore(self) -> int:
        self._pending: dict[str, list[Tensor]] = {}
        self._earlier, self._settled_rows = 0.0, None
        if self.folder is None:
            return 0
        saved = load_state(self.folder)
        if saved is None:
            if self.rank == 0:  # rows of steps that no checkpoint holds
                remove(self.folder / METRICS)
            return 0
        check_run(self.folder, saved[1], self.run)
        if saved[1]["total"] > self.total:
            raise ValueError(
                f"{self.folder / STATE}: is of another run, of {saved[1]['total']} steps and not {self.total}"
            )
        return self._put_back(*saved)

    def _put_back(self, tensors: dict[str, Tensor], facts: State) -> int:
        """Take up the state that :meth:`_save` wrote; returns its step."""
        assert self.folder is not None
        groups: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = value
        file = self.folder / STATE
        put_weights(file, self.models, tensors, "model/")
        if self.ema is not None:
            put_weights(file, self.ema.models, tensors, "ema/")
        for name, (_, optimiser) in self._phases.items():
            restore_optimiser(file, optimiser, self.names, groups.get(name, {}), f"{name}/", facts["step"])
        for name, values in groups.get("pending", {}).items():
            self._pending[name] = list(values.to(self.device))
        if self.best is not None:
            if facts.get("best"):
                check_weights(file, self.best.models, tensors, "best/")
            self.best.restore(groups.get("best", {}), facts.get("best", {}))
        self.judged = {int(step): value for step, value in groups.get("judged", {}).items()}
        self._earlier, self._settled_rows = facts["seconds"], facts.get("validated")
        self.history = read_metrics(self.folder, facts["rows"])
        if len(self.history) < facts["rows"]:
            warnings.warn(
                f"{self.folder / METRICS}: holds {len(self.history)} of the {facts['rows']} rows that were "
                "written before the checkpoint; the others are lost, the weights are not touched by it",
                stacklevel=2,
            )
        if self.rank == 0:
            write_text(self.folder / METRICS, "".join(json.dumps(row) + "\n" for row in self.history))
        return facts["step"]
