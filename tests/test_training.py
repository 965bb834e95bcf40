"""The trainer: exact resumption, non-finite losses, averages, schedules, processes."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import pushforward
from narrowing import known, wrong
from pushforward.config import OptimConfig
from pushforward.couplings import MinibatchOT, Rows
from pushforward.nn import MLP
from pushforward.objectives import Batch, FlowMatching, Late, Loss, Objective, Step, Uniform
from pushforward.random import RowGenerator
from pushforward.sources import Normal
from pushforward.training import Keeping, NonFiniteLoss, Trainer, Validation, pairs, read_metrics
from pushforward.training.checkpoint import load_state


def data(rows: int = 300) -> Rows:
    g = torch.Generator().manual_seed(0)
    return Rows(torch.randn(rows, 2, generator=g), torch.randint(0, 3, (rows,), generator=g))


def trainer(folder=None, steps=30, batches=None, dropout=False, objective=None, **optim) -> Any:
    torch.manual_seed(0)
    net = MLP(2, condition=3, width=16, depth=2)
    if dropout:
        net = WithDropout(net)
    batches = batches or pairs(Normal(2), data(), size=64, seed=1)
    return Trainer(
        objective or FlowMatching(drop_condition=0.2),
        net,
        batches,
        OptimConfig(
            **{"steps": steps, "warmup": 5, "checkpoint_every": 7, "ema": 0.9, "log_every": 1, **optim}
        ),
        validation=Validation(pairs(Normal(2), data(), size=100, seed=2)(0)),
        keeping=Keeping(folder),
    )


class WithDropout(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.drop = net, nn.Dropout(0.1)

    def forward(self, t, x, condition=None):
        return self.drop(self.net(t, x, condition))


class Stop(Exception):
    """Stands for a crash."""


class Interrupted:
    """Batches that crash at one step."""

    def __init__(self, batches, at, error=Stop):
        self.batches, self.at, self.error, self.size = batches, at, error, batches.size
        self.rows = batches.rows

    def __call__(self, step, rank=0, world=1):
        if step == self.at:
            raise self.error
        return self.batches(step, rank, world)


def columns(history, *names):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


@pytest.mark.parametrize(("dropout", "log_every"), [(False, 1), (True, 1), (False, 4)])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, dropout, log_every):
    """Also where rows of the log span the checkpoint."""
    whole = trainer(tmp_path / "whole", dropout=dropout, log_every=log_every)
    (tmp_path / "whole").mkdir()
    expected = whole.fit(title=None)
    (tmp_path / "cut").mkdir()
    batches = pairs(Normal(2), data(), size=64, seed=1)
    with pytest.raises(Stop):
        cut = {"dropout": dropout, "log_every": log_every, "batches": Interrupted(batches, at=19)}
        trainer(tmp_path / "cut", **cut).fit(title=None)
    resumed = trainer(tmp_path / "cut", dropout=dropout, log_every=log_every)
    result = resumed.fit(title=None)
    assert resumed.log.rows is result.history and result.finished
    assert columns(result.history) == columns(expected.history)
    for a, b in zip(resumed.models.state_dict().values(), whole.models.state_dict().values()):
        assert torch.equal(a, b)
    for a, b in zip(resumed.ema.models.state_dict().values(), whole.ema.models.state_dict().values()):
        assert torch.equal(a, b)
    stored = [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(tmp_path / "cut")]
    assert stored == columns(expected.history)


def test_ctrl_c_saves_and_the_run_goes_on(tmp_path):
    import signal

    expected = trainer().fit(title=None)

    class Signalled(Interrupted):
        def __call__(self, step, rank=0, world=1):
            if step == self.at:
                signal.raise_signal(signal.SIGINT)
            return self.batches(step, rank, world)

    batches = Signalled(pairs(Normal(2), data(), size=64, seed=1), at=10)
    result = trainer(tmp_path, batches=batches).fit(title=None)
    assert not result.finished and result.step == 11
    assert columns(trainer(tmp_path).fit(title=None).history) == columns(expected.history)


class Diverging(Objective):
    """Flow matching whose loss turns non-finite at one step."""

    def __init__(self, at):
        self.at, self.inner = at, FlowMatching()

    def loss(self, models, batch, step):
        loss = self.inner.loss(models, batch, step)
        return Loss(loss.value * math.nan, loss.per_sample, loss.t) if step.index == self.at else loss


def test_a_non_finite_loss_stops_the_run_and_keeps_the_last_good_state(tmp_path):
    broken = trainer(tmp_path, objective=Diverging(at=12))
    with pytest.raises(NonFiniteLoss, match="step 13"):
        broken.fit(title=None)
    tensors, facts = known(load_state(tmp_path))
    assert facts["step"] == 12
    assert all(value.isfinite().all() for value in tensors.values())
    good = trainer(steps=30, objective=Diverging(at=99))
    reference = Interrupted(good.batches, at=12)
    good.batches = reference
    with pytest.raises(Stop):
        good.fit(title=None)
    for name, value in good.models.state_dict().items():
        assert torch.equal(value, tensors[f"model/{name}"])


def test_the_average_follows_its_definition():
    run = trainer(steps=3)
    seen = [[p.detach().clone() for p in run.models.parameters()]]
    inner = run.ema.update

    def update(step):
        inner(step)
        seen.append([p.detach().clone() for p in run.models.parameters()])

    run.ema.update = update
    run.fit(title=None)
    expected = seen[0]
    for n, weights in enumerate(seen[1:]):
        d = min(0.9, (1 + n) / (10 + n))
        expected = [d * e + (1 - d) * w for e, w in zip(expected, weights)]
    for e, p in zip(expected, run.ema.models.parameters()):
        assert torch.allclose(e, p, atol=1e-6)


def test_the_learning_rate_warms_up_and_decays_to_nothing():
    run = trainer(steps=100, lr=1.0, warmup=10)
    rates = [run.schedule.rate(k) for k in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[10] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(rates[10:])) and rates[-1] < 1e-3


def test_batches_visit_every_row_once_an_epoch_and_split_over_processes():
    batches: Any = pairs(Normal(2), data(300), size=64, seed=3)
    visited = torch.cat([batches.data.index(64 * k, 64 * k + 64) for k in range(75)])
    assert torch.equal(visited[:300].sort().values, torch.arange(300))
    assert torch.equal(visited.bincount(), torch.full((300,), 16))
    assert not torch.equal(visited[:300], visited[300:600])
    for coupling in (None, MinibatchOT()):
        batches = pairs(Normal(2), data(300), coupling, size=64, seed=3)
        whole = batches(5)
        parts = [batches(5, rank, 3) for rank in range(3)]
        for marginal in (0, 1):
            joined = torch.cat([p.marginals[marginal].x for p in parts])
            assert torch.equal(joined, whole.marginals[marginal].x)
        assert torch.equal(torch.cat([p.target.condition for p in parts]), whole.target.condition)
        means = torch.stack([p.mean(torch.arange(len(p)).float()) for p in parts])
        assert means.mean() == pytest.approx(sum(float(torch.arange(len(p)).sum()) for p in parts) / 64)


def test_sample_weights_scale_the_loss():
    """A row of weight 3 counts like three equal rows of weight 1."""
    x1 = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    loss = torch.tensor([5.0, 7.0])
    weighted = Batch((Rows(x1), Rows(x1)), torch.tensor([3.0, 1.0])).mean(loss)
    assert weighted == torch.tensor([5.0, 5.0, 5.0, 7.0]).mean()


def test_flow_matching_attains_its_floor_and_not_less():
    """N(0,1) to N(m, s^2) under the independent coupling: the least loss is s pi / 2 per dimension."""
    from pushforward.oracles import GaussianMixtureOracle
    from pushforward.sources import GaussianMixture

    s = 0.5
    target = GaussianMixture(torch.tensor([[1.0]], dtype=torch.float64), s)
    n = 200_000
    g = torch.Generator().manual_seed(0)
    batch = Batch((Rows(Normal(1).double().sample(n, generator=g)), Rows(target.sample(n, generator=g))))
    oracle = nn.ModuleDict({"field": GaussianMixtureOracle(target)})
    loss = FlowMatching().loss(oracle, batch, Step(generator=g))
    # five standard errors of the mean of 200,000 squared residuals
    assert abs(loss.value - s * math.pi / 2) < 5 * loss.per_sample.std() / n**0.5


def test_conditions_are_hidden_from_the_stated_share_of_rows():
    class Listener(nn.Module):
        def forward(self, t, x, condition=None):
            self.heard = condition
            return torch.zeros_like(x)

    listener, n = Listener(), 20_000
    rows = Rows(torch.zeros(n, 1), torch.ones(n, dtype=torch.long))
    step = Step(generator=torch.Generator().manual_seed(0))
    for share in (0.0, 0.3, 1.0):
        objective = FlowMatching(drop_condition=share)
        objective.loss(nn.ModuleDict({"field": listener}), Batch((Rows(torch.zeros(n, 1)), rows)), step)
        hidden = (listener.heard == -1).double().mean()
        # five standard errors of a share of 20,000 draws
        assert abs(float(hidden) - share) <= 5 * (share * (1 - share) / n) ** 0.5
    with pytest.raises(ValueError, match="drop_condition"):
        FlowMatching(drop_condition=1.5)


def test_metrics_are_json_lines(tmp_path):
    trainer(tmp_path).fit(title=None)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 31))
    assert all(len(row["val_loss_by_time"]) == 10 for row in rows if "val_loss" in row)


@pytest.mark.parametrize(
    ("distribution", "mean"), [(Uniform(), 1 / 2), (Late(2.0), 2 / 3), (Late(3.0), 3 / 4)]
)
def test_times_follow_their_law_in_strata(distribution, mean):
    """E[1 - w^p] = p / (p + 1); strata leave an error of order n^-3/2."""
    t = distribution.draw(
        torch.zeros(10_000, dtype=torch.float64), Step(generator=torch.Generator().manual_seed(0))
    )
    assert float(t.mean()) == pytest.approx(mean, abs=1e-4)
    assert t.min() >= 0 and t.max() <= 1 and bool((t.diff() > 0).all())


def test_times_of_parts_of_a_batch_are_those_of_the_whole():
    def draw(start, stop):
        g = RowGenerator("t", rows=(start, stop))
        return Late().draw(torch.zeros(stop - start), Step(generator=g, rows=(start, 700)))

    assert torch.equal(torch.cat([draw(0, 300), draw(300, 700)]), draw(0, 700))


# -- what a trainer takes ----------------------------------------------------------------------------


class OfPlaceAlone(nn.Module):
    """A field ``(t, x)``."""

    def __init__(self):
        super().__init__()
        self.net = MLP(2, width=8, depth=1)

    def forward(self, t, x):
        return self.net(t, x)


def quick(models=None, batches=None, objective=None, **options):
    torch.manual_seed(0)
    plain = Rows(torch.randn(50, 2, generator=torch.Generator().manual_seed(0)))
    return Trainer(
        objective or FlowMatching(),
        models or OfPlaceAlone(),
        batches or pairs(Normal(2), plain, size=16),
        options.pop("optim", OptimConfig(steps=2, log_every=1)),
        **options,
    )


def test_functions_of_time_and_place_are_trained():
    """Alone and by name, as one with a condition is; refused where there are conditions."""
    expected = quick(MLP(2, width=8, depth=1)).fit(title=None).history
    for models in (OfPlaceAlone(), nn.ModuleDict({"field": OfPlaceAlone()})):
        history = quick(models).fit(title=None).history
        assert [row["loss"] > 0 for row in history] == [True, True] and len(history) == len(expected)
    with pytest.raises(ValueError, match="condition: the field is a function of \\(t, x\\) alone"):
        quick(batches=pairs(Normal(2), data(50), size=16)).fit(title=None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_every_kind_are_taken_in_the_dtype_of_the_model(dtype):
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    losses = []
    for rows in (x, x.numpy(), x.tolist(), pd.DataFrame(x.numpy()), Rows(x)):
        torch.manual_seed(0)
        batches = pairs(Normal(2), rows, size=16)
        losses.append(
            [row["loss"] for row in quick(OfPlaceAlone().to(dtype), batches).fit(title=None).history]
        )
    # lists are read in single precision, as torch.tensor has it
    assert all(loss == pytest.approx(losses[0], rel=1e-5) for loss in losses)


def test_a_batch_may_hold_more_rows_than_there_are():
    for coupling in (None, MinibatchOT()):
        batches = pairs(Normal(2), Rows(torch.randn(5, 2)), coupling, size=64)
        assert len(batches(0)) == 64 and quick(batches=batches).fit(title=None).finished


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quick(optim=OptimConfig(steps=0)), "optim.steps: expected at least 1, got 0"),
        (lambda: quick(optim=OptimConfig()), "optim.steps: expected at least 1, got None"),
        (lambda: quick(optim=OptimConfig(steps=2, lr=-1.0)), "optim.lr: expected a number in (0, 10]"),
        (
            lambda: quick(optim=OptimConfig(steps=2, ema=1.5)),
            "optim.ema: expected a number in [0, 1), got 1.5",
        ),
        (lambda: quick(optim=OptimConfig(steps=2, warmup=-1)), "optim.warmup: expected at least 0, got -1"),
        (lambda: quick(optim=OptimConfig(steps=2, clip=math.nan)), "optim.clip: expected a number"),
        (lambda: quick(lambda t, x: x), "models: expected a module, or a ModuleDict of them, got a function"),
        (lambda: quick(nn.Tanh()), "models: expected parameters to train, got a Tanh without any"),
        (lambda: quick(objective=nn.MSELoss()), "objective: expected an Objective, got a MSELoss"),
        (
            lambda: quick(batches=[1, 2]),
            "batches: expected Batches such as pairs(...), got a list",
        ),
        (
            lambda: quick(validation=Validation(wrong(torch.zeros(3)))),
            "validation: expected a Batch, got a Tensor",
        ),
        (lambda: quick().fit(seconds=0), "seconds: expected a positive number or None, got 0"),
        (
            lambda: quick(nn.ModuleDict({"net": MLP(2)})).fit(title=None),
            "models: expected one named 'field', got net",
        ),
        (lambda: quick(MLP(2).to("meta")), "models: are on meta and the trainer works on cpu"),
        (
            lambda: quick(batches=OnMeta()).fit(title=None),
            "batches: the rows are on meta and the models on cpu",
        ),
        (lambda: pairs(Normal(2), torch.zeros(0, 2), size=4), "target: expected at least one row"),
        (
            lambda: pairs(Normal(2), [[0.0, math.nan]], size=4),
            "target: expected finite numbers, got 1",
        ),
        (lambda: pairs(Normal(2), torch.zeros(3), size=4), "target: expected rows (N, *event), got"),
        (lambda: pairs(Normal(2), data(), size=0), "size: expected an integer of at least 1, got 0"),
        (
            lambda: pairs(Normal(2), data(), size=wrong(2.5)),
            "size: expected an integer of at least 1, got 2.5",
        ),
        (
            lambda: pairs(Normal(2), data(), wrong("ot"), size=4),
            "coupling: expected a Coupling or None, got",
        ),
        (
            lambda: pairs(Normal(2), Rows(torch.zeros(3, 2), weight=torch.ones(2)), size=4),
            "target: expected a weight for each of 3 rows, got 2",
        ),
        (
            lambda: Batch(wrong((torch.zeros(3, 2), torch.zeros(2, 2)))),
            "marginals: expected as many rows each, got [3, 2]",
        ),
        (lambda: Batch(wrong((torch.zeros(3, 2),)), torch.ones(2)), "weight: expected shape (3,), got (2,)"),
        (lambda: FlowMatching(wrong("linear")), "path: expected a Path"),
        (lambda: FlowMatching(times=wrong("uniform")), "times: expected Times"),
        (
            lambda: FlowMatching(weighting=wrong(3)),
            "weighting: expected a Weighting or a function of t, got 3",
        ),
        (lambda: Late(math.inf), "power: expected a positive number, got inf"),
    ],
)
def test_what_it_refuses(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value).startswith(message), caught.value


class OnMeta:
    """Batches on another device than the models."""

    size = 4

    def rows(self, rank, world):
        return 0, 4

    def __call__(self, step, rank=0, world=1):
        return Batch((Rows(torch.zeros(4, 2)), Rows(torch.zeros(4, 2, device="meta"))))


def test_weights_that_are_not_contiguous_go_on_bit_for_bit(tmp_path):
    """A fused optimiser reads its moments in the order of the weights' memory, which files do not keep."""

    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            g = torch.Generator().manual_seed(0)
            self.weight = nn.Parameter(torch.randn(3, 2, generator=g).T)

        def forward(self, t, x, condition=None):
            return (x @ self.weight) @ self.weight.T

    def run(folder, batches=None):
        folder.mkdir(exist_ok=True)
        given = batches or pairs(Normal(2), data(), size=64, seed=1)
        optim = OptimConfig(steps=8, checkpoint_every=4, warmup=0)
        return Trainer(FlowMatching(), Turned(), given, optim, keeping=Keeping(folder))

    whole = run(tmp_path / "whole")
    whole.fit(title=None)
    assert not next(whole.models.parameters()).is_contiguous()
    with pytest.raises(Stop):
        run(tmp_path / "cut", Interrupted(pairs(Normal(2), data(), size=64, seed=1), at=6)).fit(title=None)
    again = run(tmp_path / "cut")
    again.fit(title=None)
    for a, b in zip(whole.models.parameters(), again.models.parameters()):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("coupling", "most"), [(None, 11), (MinibatchOT(), 12)])
def test_from_asking_for_a_batch_to_its_loss_a_step_enters_few_files(coupling, most):
    """Each at most twice from another: a step of a small network is mostly Python."""
    batches = pairs(Normal(2), torch.randn(600, 2), coupling, size=64)
    trainer = Trainer(FlowMatching(), MLP(2, width=8), batches, OptimConfig(steps=6))
    root = str(Path(pushforward.__file__).parent)
    entered: Counter[str] = Counter()

    def profile(frame, event, _):
        """From the fourth step on, when nothing is prepared any more, until the loss is there."""
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if event == "return" and name == "loss" and file.endswith("flow_matching.py"):
            sys.setprofile(None)
        if event != "call" or not file.startswith(root) or name == "_step":
            return
        back = frame.f_back
        while back is not None and not back.f_code.co_filename.startswith(root):
            back = back.f_back
        if back is None or back.f_code.co_filename != file:
            entered[file] += 1

    for step in range(4):
        trainer._place = trainer._rate = 0.0
        if step == 3:
            sys.setprofile(profile)
        try:
            trainer._step(step)
        finally:
            sys.setprofile(None)
    assert len(entered) <= most and max(entered.values()) <= 2, entered
    batches.close()
