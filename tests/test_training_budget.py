"""What a training may cost: validation by counts, a time budget, and what is said meanwhile."""

from __future__ import annotations

import math
import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

import pushforward
from narrowing import known
from pushforward.config import OptimConfig, RunConfig
from pushforward.couplings import Rows
from pushforward.nn import MLP
from pushforward.objectives import Batch, Distillation, FlowMatching, Loss, Objective, Step
from pushforward.recipes import check
from pushforward.runs import check_out
from pushforward.sources import Normal
from pushforward.training import (
    Batches,
    Keeping,
    NoData,
    Trainer,
    Validation,
    pairs,
    progress,
    trainer,
    validation,
)
from pushforward.training.schedule import Schedule

X = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))


class Clock:
    """A clock that goes by one second a batch, and by ``pause`` at a validation."""

    def __init__(self, batches: Batches, tick: float = 1.0):
        self.batches, self.tick, self.now = batches, tick, 0.0
        self.size, self.rows = batches.size, batches.rows

    def monotonic(self) -> float:
        return self.now

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        self.now += self.tick
        return self.batches(step, rank, world)

    def close(self) -> None:
        self.batches.close()


class Counting(nn.Module):
    """Counts the rows that it is asked about, in training and beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MLP(2, width=8, depth=1)
        self.rows = {True: 0, False: 0}

    def __deepcopy__(self, memo):
        twin = Counting()
        twin.net.load_state_dict(self.net.state_dict())
        twin.rows = self.rows
        return twin

    def forward(self, t, x, condition=None):
        self.rows[self.training] += len(x)
        return self.net(t, x)


def fitted(
    monkeypatch=None,
    folder=None,
    tick=1.0,
    held=X,
    net=lambda: MLP(2, width=8, depth=1),
    seconds=None,
    **options,
):
    torch.manual_seed(0)
    batches = Clock(pairs(Normal(2), Rows(X), size=64), tick)
    if monkeypatch is not None:
        monkeypatch.setattr(trainer, "time", batches)
    optim = {"steps": 40, "warmup": 5, "log_every": 1, "ema": 0.9, **options.pop("optim", {})}
    held_out = Batch((Rows(torch.randn_like(held)), Rows(held)))
    run = Trainer(
        FlowMatching(),
        net(),
        batches,
        OptimConfig(**optim),
        validation=Validation(held_out, **options),
        keeping=Keeping(folder),
    )
    return run, run.fit(seconds=seconds, title=None), batches


# -- validation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [40, 230, 3000])
@pytest.mark.parametrize("rows", [50, 800, 20_000])
def test_validation_is_a_twentieth_of_the_evaluations(steps: int, rows: int):
    kept, times = validation.affordable(rows, 20, steps, 64)
    # a step is a forward pass and a backward pass of twice as much
    spent = kept * times / (3 * 64 * steps + kept * times)
    assert spent <= 0.0505 and 1 <= times <= 20 and kept <= rows
    if rows == 800 and steps == 3000:
        assert (kept, times) == (800, 20)


def test_a_trainer_keeps_to_it_and_asks_no_clock(monkeypatch):
    run, result, _ = fitted(net=Counting)
    counting = run.models["field"]
    assert isinstance(counting, Counting)
    trained, held = (counting.rows[kind] for kind in (True, False))
    assert trained == 40 * 64 and 0 < held <= 0.0505 / 0.9495 * 3 * trained
    seen = [row["step"] for row in result.history if "val_loss" in row]
    assert seen[-1] == 40 and len(seen) == held / len(known(run.validator.batch)) > 1
    _, slow, _ = fitted(monkeypatch, net=Counting, tick=1e4)
    losses = [[row.get("loss", row.get("val_loss")) for row in r.history] for r in (result, slow)]
    assert losses[0] == losses[1] and result.kept == slow.kept


def test_a_judge_that_costs_much_is_asked_less_often():
    asked = []

    def judge(models):
        asked.append(len(asked))
        return torch.zeros(3)

    for cost, times in ((0, 13), (180, 7), (10**9, 5)):
        asked.clear()
        fitted(judge=judge, cost=cost, optim={"steps": 120})
        # those after the start, and the one before the first step
        assert len(asked) == pytest.approx(times, abs=1), cost


class Known(Objective):
    """Errors and times that are in the data."""

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        t, error = batch.target.x.unbind(1)
        return Loss(batch.mean(error), error, t)


def test_losses_by_tenths_of_time(monkeypatch):
    """Ten intervals, closed on the left; 1 belongs to the last."""
    t = torch.tensor([0.0, 0.05, 0.15, 0.25, 0.25, 0.35, 0.85, 0.95, 1.0])
    error = torch.tensor([1.0, 3.0, 5.0, 7.0, 8.0, 9.0, 2.0, 4.0, 8.0])
    batch = Batch((Rows(torch.stack([t, error], 1)),), torch.arange(1.0, 10.0))
    expected = np.histogram(t, np.linspace(0, 1, 11), weights=error)[0] / np.maximum(
        np.histogram(t, np.linspace(0, 1, 11))[0], 1
    )
    for part in (2**17, 8, 2):  # all at once, four rows, one row
        monkeypatch.setattr(validation, "PART", part)
        value, tenths = validation.held_out_loss(Known(), nn.ModuleDict(), batch, Step())
        assert tenths == pytest.approx(expected.tolist())
        assert value == pytest.approx(np.average(error, weights=np.arange(1.0, 10.0)))


def test_parts_have_their_own_strata_of_times_and_give_the_loss_of_the_whole(monkeypatch):
    batch = Batch((Rows(torch.randn_like(X)), Rows(X)))

    class Seen(Known):
        times: list[torch.Tensor | None] = []

        def loss(self, models, batch, step):
            loss = FlowMatching().loss(models, batch, step)
            self.times.append(loss.t)
            return loss

    monkeypatch.setattr(validation, "PART", 600)
    models = nn.ModuleDict({"field": MLP(2, width=8, depth=1)}).requires_grad_(False)
    step = Step(generator=torch.Generator().manual_seed(0))
    value, _ = validation.held_out_loss(Seen(), models, batch, step)
    strata = (torch.cat([known(t) for t in Seen.times]) * 2000).long().sort().values
    assert len(Seen.times) == 7 and torch.equal(strata, torch.arange(2000))
    monkeypatch.undo()
    one = FlowMatching().loss(models, batch, step)
    # two draws of the times and none of the pairs: five errors of one would be far too many
    assert abs(value - float(one.value)) < 2 * float(one.per_sample.std()) / 2000**0.5
    exact = [validation.held_out_loss(Distillation(), models, batch, Step())[0]]
    monkeypatch.setattr(validation, "PART", 600)
    exact.append(validation.held_out_loss(Distillation(), models, batch, Step())[0])
    assert exact[0] == pytest.approx(exact[1], rel=1e-5)


# -- weights -----------------------------------------------------------------------------------------


class Still(Objective):
    """A loss of which no parameter is any better."""

    main = "flow"

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        value = 0.0 * torch.stack([p.sum() for p in models.parameters()]).sum()
        return Loss(value, torch.zeros(len(batch)))


def test_weight_decay_shrinks_the_weights_by_its_rate_alone():
    """w_n = w_0 prod_k (1 - lr_k decay) where the gradient is 0 (Loshchilov & Hutter 2019)."""
    for decay in (0.0, 0.5):
        net = nn.Linear(3, 2).double()
        before = net.weight.detach().clone()
        optim = OptimConfig(steps=50, warmup=10, lr=0.1, weight_decay=decay, ema=0.0, log_every=1)
        result = Trainer(Still(), net, NoData(4), optim).fit(title=None)
        rates = [row["lr"] for row in result.history]
        factor = math.prod(1 - rate * decay for rate in rates)
        torch.testing.assert_close(net.weight.detach(), before * factor)
        assert (factor < 0.5) == (decay > 0)


# -- time --------------------------------------------------------------------------------------------


def test_a_time_budget_ends_training_with_the_rate_decayed(monkeypatch):
    _run, result, clock = fitted(monkeypatch, seconds=20.0, optim={"steps": 1000, "warmup": 200, "lr": 1.0})
    assert result.finished and 17 <= result.step <= 20 and clock.now <= 20
    rates = [row["lr"] for row in result.history if "lr" in row]
    peak = rates.index(max(rates))
    assert peak <= 5 and max(rates) > 0.8 and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.05
    assert result.history[-1]["step"] == result.step and "val_loss" in result.history[-1]


def test_a_budget_that_is_not_used_up_changes_nothing_but_the_first_rates(monkeypatch):
    _, result, clock = fitted(monkeypatch, seconds=1e6)
    assert result.finished and result.step == 40 == clock.now
    _, free, _ = fitted()
    pairs = zip(result.history, free.history, strict=True)
    assert all(a["step"] == b["step"] for a, b in pairs)


def test_a_slow_step_does_not_overrun_a_budget_by_more_than_itself(monkeypatch):
    _, result, clock = fitted(monkeypatch, seconds=20.0, tick=8.0, optim={"steps": 1000})
    assert result.finished and result.step <= 3 and clock.now <= 24
    assert "val_loss" in result.history[-1]


def test_a_run_with_a_budget_goes_on_with_what_is_left_of_it(monkeypatch, tmp_path):
    from pushforward.training import Result

    class Tired(Exception):
        pass

    def tired(self, step, rank=0, world=1):
        if step == 8:
            raise Tired
        self.now += 1
        return self.batches(step, rank, world)

    optim = {"steps": 1000, "checkpoint_every": 1}
    with monkeypatch.context() as patch:
        patch.setattr(Clock, "__call__", tired)
        with pytest.raises(Tired):
            fitted(patch, tmp_path, seconds=20.0, optim=optim)
    _run, result, clock = fitted(monkeypatch, tmp_path, seconds=20.0, optim=optim)
    assert isinstance(result, Result) and result.finished
    assert 10 <= clock.now <= 12 and 17 <= result.step <= 20 and result.seconds <= 20


def test_the_plan_warms_up_by_the_share_of_time():
    schedule = Schedule(total=1000, peak=1.0, warmup=100, seconds=50.0)
    assert schedule.place(7, 2.5) == 50.0 and schedule.rate(50.0) == pytest.approx(0.51)
    assert Schedule(1000, 1.0, 100).place(7, 1e9) == 7


@pytest.mark.parametrize("method", ["fm", "maf"])
def test_minutes_bound_folds_and_training_together(method, tmp_path):
    """Of three fits each may take a third; a long plan of steps is cut short."""
    settings = {"method": method, "steps": 100_000, "folds": 2, "minutes": 0.02}
    settings |= {"source": "normal"} if method == "fm" else {}
    run = pushforward.train(X[:100].double(), tmp_path / "run", show_progress=False, **settings)
    assert run.summary["finished"] and run.summary["step"] < 1000
    # a third of the time at most, and one validation of the fold beyond it
    assert run.summary["seconds"] < 60 * 0.02
    assert "minutes" in (tmp_path / "run" / "config.json").read_text()


def test_more_minutes_extend_a_run(tmp_path):
    settings = {"steps": 50_000, "network": "mlp,width=8,depth=1", "rows": 2000, "folds": 0}
    kwargs = {**settings, "show_progress": False, "method": "fm", "source": "normal", "validation": 0.0}
    first = pushforward.train("moons", tmp_path / "run", minutes=0.005, **kwargs)
    again = pushforward.train("moons", tmp_path / "run", minutes=0.01, **kwargs)
    assert again.summary["step"] > first.summary["step"] and again.summary["finished"]
    with pytest.raises(ValueError, match="trained; `pushforward report"):
        check_out(tmp_path / "run", again.config, False)


@pytest.mark.parametrize("minutes", [0, -1, math.inf, math.nan, "5", True])
def test_minutes_that_are_none(minutes):
    with pytest.raises(ValueError, match="--minutes: expected a"):
        check(RunConfig.of("moons", minutes=minutes))


# -- what is said ------------------------------------------------------------------------------------


def test_lines_where_output_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.modules[progress.__module__], "EVERY", 0)
    with progress("training", 10, 100) as report:
        report(20, 0.5)
        report(60)
        report(80, 0.25, 90)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"pushforward: training: step 20 of 100, loss 0.5, \d+ s left", lines[0])
    assert "step 60 of 100, loss 0.5" in lines[1] and "step 80 of 90, loss 0.25" in lines[2]


def test_nothing_is_said_in_the_first_seconds_or_where_nobody_asks(capsys):
    for enabled in (True, False):
        with progress("training", 0, 100, enabled) as report:
            report(100, 0.5)
    assert capsys.readouterr().err == ""
