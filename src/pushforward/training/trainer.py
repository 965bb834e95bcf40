"""The training loop: optimiser steps, averages, validation, checkpoints, exact resumption."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..config import ComputeConfig, OptimConfig
from ..contents import State
from ..nn.checks import check_count
from ..objectives import Objective, Step
from ..random import derive_seed, of_rows, seeded
from ..settings import check_settings
from ..tensors import parameter_dtype
from .batches import Batches
from .best import Best
from .checkpoint import STATE, Keeping, Weights, check_run, load_state, save_state, untied, with_prefix
from .checks import check_trainer, in_dtype
from .devices import make_fabric, on_one_device
from .ema import EMA
from .interrupt import Interrupt
from .metrics import Log, NonFiniteLoss
from .phase import Phase, Work
from .progress import progress
from .schedule import Schedule
from .validation import Validation, Validator

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: AdamW's decay rates; the second is shorter than torch's default, as regression on noisy targets likes it.
BETAS = (0.9, 0.99)
#: Steps after which a run with a time budget knows how many it can take.
MEASURED = 5


@dataclass(frozen=True)
class Result:
    """The result of a training after ``step`` steps and ``seconds`` over all calls.

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
    """Minimises an objective with AdamW, warm-up and cosine decay, clipping and an average of the weights.

    Arguments:
        objective, models: what is descended and what is trained (a module stands for
            ``{objective.main: module}``).
        batches: what :func:`~pushforward.training.pairs` makes, or other
            :class:`~pushforward.training.Batches`.
        optim: the numbers; ``steps`` must be set.
        seed: of every draw of the objective; step k draws from (seed, k) alone.
        fabric: devices, strategy and precision; one CPU process by default.
        validation: held-out rows, or a judge of the weights; with ``optim.patience`` training ends when
            it has not been better for so many validations, and the averaged weights are its best ones.
        keeping: the folder of checkpoints and ``metrics.jsonl``; by default nothing is kept.

    Validation takes at most a twentieth of the field evaluations: if it would take more, it uses fewer rows,
    and then is done less often.  This depends on counts and not on the clock, except in a training with a
    limit of seconds: its learning rate follows the share of the time if this is larger than that of the
    steps, and steps that stand for a place in the plan (those of validations, and the last) are counted by
    that share too.

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
        validation: Validation | None = None,
        keeping: Keeping | None = None,
    ):
        check_settings(optim, "optim.{}".format)
        validation = validation or Validation()
        device = None if fabric is None else fabric.device
        check_trainer(objective, models, batches, optim, device, validation.batch)
        assert optim.steps is not None
        self.objective, self.batches, self.optim, self.seed = objective, batches, optim, seed
        self.keeping = keeping or Keeping()
        self.folder = self.keeping.folder
        self.models = models if isinstance(models, nn.ModuleDict) else nn.ModuleDict({objective.main: models})
        self.fabric = fabric or make_fabric(ComputeConfig(device="cpu"))
        # plain attributes: Fabric looks these up anew at every access
        self.rank, self.world = self.fabric.global_rank, self.fabric.world_size
        self.device = self.fabric.device
        self.total = self.last = optim.steps
        self.schedule = Schedule(self.total, 1e-3 if optim.lr is None else optim.lr, optim.warmup)
        self.validator = Validator(validation, optim, batches.size, self.total)
        self.models.to(self.device)
        self.dtype = parameter_dtype(self.models)
        decay = 0.999 if optim.ema is None else optim.ema
        self.ema = EMA(self.models, decay) if decay > 0 else None
        averaged = self.models if self.ema is None else self.ema.models
        self.best = Best(averaged, optim.patience) if optim.patience else None
        self._settled = False
        self._random_layers = any(
            isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in self.models.modules()
        )
        self._earlier = 0.0
        # On one device in full precision Fabric's wrappers do nothing but take time, a tenth of a small
        # network's step; there the loop goes without them.
        full = self.fabric._precision.precision in ("32-true", "64-true")
        self._bare = full and on_one_device(self.fabric)
        self.weights = Weights(self.models, self.ema, self.best)
        self._phases = {name: self._phase(trained) for name, trained in objective.phases.items()}
        self.weights.optimisers |= {name: optimiser for name, (_, optimiser) in self._phases.items()}
        self.log = Log(self.folder, self.fabric, tuple(self._phases))

    def _phase(self, trained: tuple[str, ...]) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The loss and the optimiser of the networks named."""
        phase = Phase(self.objective, self.models, trained)
        optimiser = torch.optim.AdamW(
            phase.parameters(),
            self.schedule.peak,
            BETAS,
            weight_decay=self.optim.weight_decay or 0.0,
            fused=True,
        )
        return (phase, optimiser) if self._bare else self.fabric.setup(phase, optimiser)

    # -- the loop ------------------------------------------------------------------------------------

    def fit(
        self, *, stop_at: int | None = None, seconds: float | None = None, title: str | None = "training"
    ) -> Result:
        """Train up to ``optim.steps``, or until interrupted.

        stop_at: train so many of the ``optim.steps`` that the learning rate is planned for.
        seconds: that training may take over all calls, validations included; None for as many as it takes.
        title: what its progress is shown under; None for no progress.
        """
        if stop_at is not None:
            check_count("stop_at", stop_at, 0)
        if seconds is not None and not seconds > 0:
            raise ValueError(f"seconds: expected a positive number or None, got {seconds}")
        self.last = self.total if stop_at is None else min(stop_at, self.total)
        self.schedule.seconds = seconds
        start = step = self._restore()
        self._began, self._longest, self._place = time.monotonic(), 0.0, 0.0
        validator, shown = self.validator, title is not None and self.rank == 0
        validator.plan(self.total, self.last)
        self._look(step, 0)
        validator.reached = {at: at for at in validator.at if at <= self._place and start > 0}
        if seconds is None:
            validator.settle()
        self.models.train()
        with Interrupt() as interrupt, progress(title or "", start, self.last, shown) as report:
            if start == 0:
                for row in self.keeping.history:
                    self.log.record(row)
                self._validate(0)
            while self._place < self.last and not self._stop(interrupt):
                self._rate = self.schedule.rate(self._place)
                self._step(step)
                step += 1
                self._look(step, step - start)
                last = self._place >= self.last
                loss = None
                if step % self.optim.log_every == 0 or last:
                    loss = self.log.write(step, {"lr": self._rate, "seconds": round(self._seconds(), 3)})
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
        return Result(step, ended, self._seconds(), self.log.rows, kept)

    def _look(self, step: int, done: int) -> None:
        """The place of ``step`` in the plan: its own, unless time runs out first.

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
            validator, before = self.validator, set(self.validator.at)
            validator.plan(coming, self.last)
            passed = [at for at in validator.at if at < min(place, self.last) and at not in before]
            validator.reached |= dict.fromkeys(passed, step)
            if done == MEASURED:
                validator.settle()

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
        batch = self.batches(index, rank, world)
        if any(rows.x.dtype != self.dtype or rows.x.device != self.device for rows in batch.marginals):
            batch = in_dtype(batch, self.dtype, self.device)
        rows = self.batches.rows(rank, world)
        if self._random_layers:
            torch.manual_seed(derive_seed(self.seed, "layers", index, rank))
        for name, (phase, optimiser) in self._phases.items():
            size = self.batches.size
            generator = of_rows(self.seed, name, index, rows=rows, size=size, device=self.device)
            ema = None if self.ema is None else self.ema.models
            step = Step(index, self.total, name, ema, generator, (rows[0], size))
            for group in optimiser.param_groups:
                group["lr"] = self._rate * self.objective.rates.get(name, 1.0)
            if self._bare:
                loss = self.objective.loss(self.models, batch, step)
                value = loss.value
            else:
                value, answer = phase(Work(batch, step))
                loss = answer.loss
            optimiser.zero_grad()
            value.backward() if self._bare else self.fabric.backward(value)
            norm = self._gradient_norm(phase, optimiser)
            both = torch.stack([value.detach(), norm])
            if self.device.type == "cpu" and not bool(both.isfinite().all()):
                self._give_up(index)
            self.log.add(name, both, loss.terms)
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

    # -- validation and checkpoints ------------------------------------------------------------------

    def _validate(self, step: int) -> None:
        """Validate the averaged weights where it is time."""
        due = self.validator.due(self._place)
        if not due or self.rank != 0:
            return
        began = time.monotonic()
        self.validator.reached |= dict.fromkeys(due, step)
        models = self.weights.averaged.eval()
        generator = seeded(self.seed, "validation", device=self.device)
        row = self.validator(self.objective, models, Step(step, self.total, generator=generator))
        self.log.record(row)
        if self.best is not None:
            self.best.see(row.get("val_nll", row.get("val_loss", math.nan)), step)
        self.models.train()
        self._longest = max(self._longest, time.monotonic() - began)

    def _save(self, step: int) -> None:
        if self.folder is None or self.rank != 0:
            return
        tensors = self.weights.tensors()
        tensors |= {f"pending/{name}": torch.stack(values) for name, values in self.log.pending.items()}
        tensors |= {f"judged/{step}": value for step, value in self.validator.judged.items()}
        facts: State = {
            "step": step,
            "total": self.total,
            "seconds": self._seconds(),
            "rows": len(self.log.rows),
            "validated": self.validator.settled,
            "run": self.keeping.run,
        }
        if self.best is not None:
            facts["best"] = self.best.facts()
        save_state(self.folder, untied(tensors), facts)

    def _restore(self) -> int:
        """Take up the state that :meth:`_save` wrote, where there is one; returns its step."""
        self._earlier, self.validator.settled = 0.0, None
        self.log.pending.clear()
        if self.folder is None:
            return 0
        saved = load_state(self.folder)
        if saved is None:
            self.log.clear()
            return 0
        tensors, facts = saved
        check_run(self.folder, facts, self.keeping.run)
        file = self.folder / STATE
        if facts["total"] > self.total:
            raise ValueError(f"{file}: is of another run, of {facts['total']} steps and not {self.total}")
        self.weights.restore(file, tensors, facts)
        self.validator.judged = {int(step): value for step, value in with_prefix(tensors, "judged/").items()}
        self._earlier, self.validator.settled = facts["seconds"], facts.get("validated")
        self.log.restore(with_prefix(tensors, "pending/"), facts["rows"])
        return facts["step"]
