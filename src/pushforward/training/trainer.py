"""The training loop: optimiser steps, averages, validation, checkpoints, exact resumption."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ..config import ComputeConfig, OptimConfig
from ..objectives import Batch, Loss, Objective, Step
from ..random import BLOCK, RowGenerator, derive_seed, seeded
from .best import Best
from .checkpoint import load_state, load_untied, optimiser_tensors, restore_optimiser, save_state, untied
from .devices import make_fabric, on_one_device
from .ema import EMA
from .interrupt import Interrupt
from .progress import progress

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: AdamW's decay rates; the second is shorter than torch's default, as regression on noisy targets likes it.
BETAS = (0.9, 0.99)


class Batches(Protocol):
    """What a trainer draws from; :class:`~pushforward.training.PairedBatches` is one."""

    #: rows of the global batch
    size: int

    def rows(self, rank: int, world: int) -> tuple[int, int]:
        """First and last row of the global batch that belong to process ``rank`` of ``world``."""
        ...

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The part of the batch of ``step`` that belongs to process ``rank``."""
        ...


#: The log-density of held-out rows under given models, ``(n,)`` in nats.
Judge = Callable[[nn.ModuleDict], Tensor]


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient became infinite or not a number."""


@dataclass(frozen=True)
class Result:
    """How training ended: after ``step`` steps and ``seconds`` over all calls, finished or interrupted.

    kept: the step whose weights were kept, the best by validation or the last.  history: the rows of
    ``metrics.jsonl``.
    """

    step: int
    finished: bool
    seconds: float
    history: list[dict[str, Any]]
    kept: int


class _Work:
    """What a phase computes on; opaque, so that wrappers pass it through as it is."""

    __slots__ = ("batch", "step")

    def __init__(self, batch: Batch, step: Step):
        self.batch, self.step = batch, step


class _Answer:
    """A loss on its way out of the wrapped module, opaque likewise."""

    __slots__ = ("loss",)

    def __init__(self, loss: Loss):
        self.loss = loss


class _Phase(nn.Module):
    """A module whose forward is the loss, so that all network calls stay inside the wrapper."""

    def __init__(self, objective: Objective, models: nn.ModuleDict, names: tuple[str, ...]):
        super().__init__()
        self.trained = nn.ModuleDict({name: models[name] for name in names or models})
        self._everything = (objective, models)

    def forward(self, work: _Work) -> tuple[Tensor, _Answer]:
        objective, models = self._everything
        loss = objective.loss(models, work.batch, work.step)
        return loss.value, _Answer(loss)


class Trainer:
    """Descends an objective with AdamW, warm-up and cosine decay, clipping and an average of the weights.

    Arguments:
        objective, models: what is descended and what is trained (a module stands for
            ``{objective.main: module}``).
        batches: :class:`~pushforward.training.PairedBatches` or any :class:`Batches`.
        optim: the numbers; ``steps`` must be set.
        seed: of every draw of the objective; step k draws from (seed, k) alone.
        fabric: devices, strategy and precision; one CPU process by default.
        folder: where checkpoints and ``metrics.jsonl`` go; None keeps nothing.
        validation: held-out pairs, scored with fixed draws; with ``optim.patience`` training ends when
            their loss has not fallen for so many validations, and the averaged weights are its best ones.
        judge: the log-density of held-out rows under given models, ``(n,)`` in nats; where there is one its
            mean chooses the weights instead, also those before the first step.
        validate_at: at which steps to validate; by default every ``optim.validate_every``.
        stop_at: train so many of the ``optim.steps`` that the learning rate is planned for.
        history: rows that ``metrics.jsonl`` begins with.

    :meth:`fit` continues from the folder's checkpoint; on a CPU the losses that follow equal those of
    an uninterrupted run bit for bit.  Raises NonFiniteLoss, after saving the last good state.
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
        validate_at: Collection[int] | None = None,
        stop_at: int | None = None,
        history: Sequence[dict[str, Any]] = (),
        show_progress: bool = True,
        title: str = "training",
    ):
        if optim.steps is None or optim.steps < 1:
            raise ValueError(f"optim.steps: expected a positive number, got {optim.steps}")
        self.objective, self.batches, self.optim, self.seed = objective, batches, optim, seed
        self.models = models if isinstance(models, nn.ModuleDict) else nn.ModuleDict({objective.main: models})
        self.fabric = fabric or make_fabric(ComputeConfig(device="cpu"))
        # plain attributes: Fabric looks these up anew at every access
        self.rank, self.world = self.fabric.global_rank, self.fabric.world_size
        self.device = self.fabric.device
        self.folder, self.validation, self.judge = folder, validation, judge
        self.show_progress, self.title = show_progress and self.rank == 0, title
        self.total = optim.steps
        self.last = self.total if stop_at is None else min(stop_at, self.total)
        # a judge may take as long as many steps
        every = optim.validate_every or max(1, self.total // (20 if judge is None else 12))
        regularly = {*range(every, self.last, every), self.last} | ({0} if judge is not None else set())
        self.validate_at = regularly if validate_at is None else validate_at
        #: what ``judge`` said, by step
        self.judged: dict[int, Tensor] = {}
        self._given_history = list(history)
        self.models.to(self.device)
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
            phase = _Phase(objective, self.models, trained)
            optimiser = torch.optim.AdamW(
                phase.parameters(), self._peak(), BETAS, weight_decay=optim.weight_decay or 0.0, fused=True
            )
            self._phases[name] = (phase, optimiser) if self._bare else self.fabric.setup(phase, optimiser)

    # -- schedule ------------------------------------------------------------------------------------

    def _peak(self) -> float:
        return 1e-3 if self.optim.lr is None else self.optim.lr

    def learning_rate(self, step: int) -> float:
        """Linear warm-up (a tenth of the run at most), then half a cosine down to 0."""
        warmup = min(self.optim.warmup, self.total // 10)
        if step < warmup:
            return self._peak() * (step + 1) / warmup
        return self._peak() * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (self.total - warmup)))

    # -- the loop ------------------------------------------------------------------------------------

    def fit(self) -> Result:
        """Train up to ``optim.steps``, or until interrupted."""
        start = step = self._restore()
        self._began = time.monotonic()
        self.models.train()
        with Interrupt() as interrupt, progress(self.title, start, self.last, self.show_progress) as report:
            if start == 0:
                for row in self._given_history:
                    self._record(row)
                self._validate(0)
            while step < self.last and not self._stop(interrupt):
                self._step(step)
                step += 1
                last = step == self.last
                report(step, self._log(step) if step % self.optim.log_every == 0 or last else None)
                self._validate(step)
                if step % self.optim.checkpoint_every == 0 and not last:
                    self._save(step)
        if step > start:
            self._save(step)
        finished = step >= self.last or self._settled
        kept = step
        if finished and self.best is not None:
            kept = self.best.take(step)
        self.models.eval()
        return Result(step, finished, self._seconds(), self.history, kept)

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
        rows = self.batches.rows(rank, world)
        if self._random_layers:
            torch.manual_seed(derive_seed(self.seed, "layers", index, rank))
        rate = self.learning_rate(index)
        for name, (phase, optimiser) in self._phases.items():
            block = min(BLOCK, self.batches.size)
            generator = RowGenerator(self.seed, name, index, rows=rows, block=block, device=self.device)
            ema = None if self.ema is None else self.ema.models
            step = Step(index, self.total, name, ema, generator, (rows[0], self.batches.size))
            for group in optimiser.param_groups:
                group["lr"] = rate
            value, answer = phase(_Work(batch, step))
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
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

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
        self._record({**row, "lr": self.learning_rate(step - 1), "seconds": round(self._seconds(), 3)})
        return losses[0]

    @torch.no_grad()
    def _validate(self, step: int) -> None:
        """The loss of the averaged weights on held-out rows, by tenths of time too; what the judge says."""
        if step not in self.validate_at or self.rank != 0 or (self.validation is None and self.judge is None):
            return
        models = self.models if self.ema is None else self.ema.models
        models.eval()
        row: dict[str, Any] = {"step": step}
        if self.validation is not None:
            generator = seeded(self.seed, "validation", device=self.device)
            loss = self.objective.loss(models, self.validation, Step(step, self.total, generator=generator))
            row["val_loss"] = float(loss.value)
            if loss.t is not None:
                tenth = (loss.t * 10).long().clamp(0, 9)
                total = torch.zeros(10).index_add_(0, tenth.cpu(), loss.per_sample.float().cpu())
                count = torch.zeros(10).index_add_(0, tenth.cpu(), torch.ones(len(tenth)))
                row["val_loss_by_time"] = (total / count.clamp(min=1)).tolist()
        if self.judge is not None:
            self.judged[step] = self.judge(models).double().cpu()
            row["val_nll"] = -float(self.judged[step].mean())
        self._record(row)
        if self.best is not None:
            self.best.see(row.get("val_nll", row.get("val_loss", math.nan)), step)
        self.models.train()

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
        facts: dict[str, Any] = {
            "step": step,
            "total": self.total,
            "seconds": self._seconds(),
            "rows": len(self.history),
        }
        if self.best is not None:
            tensors |= {f"best/{name}": value for name, value in self.best.weights.items()}
            facts["best"] = self.best.facts()
        save_state(self.folder / "state", untied(tensors), facts)

    def _restore(self) -> int:
        self._pending: dict[str, list[Tensor]] = {}
        self._earlier = 0.0
        saved = None if self.folder is None else load_state(self.folder / "state")
        if saved is None or self.folder is None:
            return 0
        tensors, facts = saved
        groups: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = value
        load_untied(self.models, groups["model"])
        if self.ema is not None:
            load_untied(self.ema.models, groups["ema"])
        for name, (_, optimiser) in self._phases.items():
            restore_optimiser(optimiser, self.names, groups[name])
        for name, values in groups.get("pending", {}).items():
            self._pending[name] = list(values.to(self.device))
        if self.best is not None:
            self.best.restore(groups.get("best", {}), facts.get("best", {}))
        self._earlier = facts["seconds"]
        self.history = read_metrics(self.folder)[: facts["rows"]]
        if self.rank == 0:
            text = "".join(json.dumps(row) + "\n" for row in self.history)
            (self.folder / "metrics.jsonl").write_text(text)
        return facts["step"]


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``; a last line cut short by a crash is left out."""
    rows = []
    path = folder / "metrics.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
