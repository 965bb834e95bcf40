"""Densities of flow maps in a few evaluations, and penalties, against exact maps and trained ones."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pushforward
from pushforward import Rows
from pushforward.config import RunConfig
from pushforward.fields import LogDetHead, TwoTimes, WithLogDet
from pushforward.flows import Exact, FlowMapFlow, Hutchinson
from pushforward.inference import defect, defect_sentence, density_name, score
from pushforward.nn import MLP, ResidualMLP
from pushforward.objectives import (
    AlphaFlow,
    Batch,
    Consistency,
    FlowMapMatching,
    LogDetMatching,
    Penalised,
    Step,
)
from pushforward.objectives.flow_maps.penalties import acceleration, log_determinant
from pushforward.oracles import FlowMapOracle, GaussianMixtureOracle, TwoMoons
from pushforward.paths import Interpolant, Trigonometric
from pushforward.random import seeded
from pushforward.recipes import open_run
from pushforward.recipes.defaults import by_method, recipe_of
from pushforward.report.figures import few
from pushforward.report.heads import head_density
from pushforward.report.loaded_run import LoadedRun
from pushforward.report.tables import head_sentence
from pushforward.sources import GaussianMixture, Normal

DOUBLE = torch.float64
COVARIANCE = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=DOUBLE)
NORMAL = GaussianMixture(torch.tensor([[1.3, -1.0]], dtype=DOUBLE), COVARIANCE[None])
LINE = GaussianMixture(torch.tensor([[-2.0], [1.0]], dtype=DOUBLE), 0.4, [0.3, 0.7])


class ExactHead(nn.Module):
    """D(s, t, x) of an oracle for s other than t, plus a number."""

    def __init__(self, oracle: FlowMapOracle, off: float = 0.0):
        super().__init__()
        self.oracle, self.off = oracle, nn.Parameter(torch.tensor(off, dtype=DOUBLE))

    def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: None = None) -> Tensor:
        return self.oracle.log_det(s, t, x) / (t - s) + self.off


def batch(target: GaussianMixture, n: int = 4096) -> Batch:
    x1 = target.sample(n, generator=seeded(1))
    return Batch((Rows(torch.randn(x1.shape, generator=seeded(2), dtype=DOUBLE)), Rows(x1)))


@pytest.mark.parametrize("target", [NORMAL, LINE], ids=["normal", "line"])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_density_of_an_exact_map_is_exact(target, steps):
    flow = FlowMapFlow(FlowMapOracle(target), Normal(target.event_shape).double(), steps, two_sided=True)
    x = 2 * torch.randn(50, *target.event_shape, generator=seeded(0), dtype=DOUBLE)
    assert flow.density == "exact"
    assert torch.allclose(flow.log_prob(x), target.log_prob(x), atol=1e-10)
    log_prob, defect = flow.log_prob_and_defect(x)
    assert torch.allclose(log_prob, target.log_prob(x), atol=1e-10)
    assert defect.distance.max() < 1e-10 and defect.log_det.max() < 1e-10
    draws, log_q = flow.sample_and_log_prob(20, generator=seeded(3))
    assert torch.allclose(log_q, target.log_prob(draws), atol=1e-10)


def test_the_defect_shows_a_map_that_does_not_return_and_a_head_that_is_not_odd():
    class Bent(nn.Module):
        """x - 0.1 further on the way back, and log-determinants that are 0.2 too large both ways."""

        def __init__(self):
            super().__init__()
            self.oracle = FlowMapOracle(NORMAL)

        def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: None = None) -> Tensor:
            return self.oracle(s, t, x)

        def jump_and_log_det(self, s: Tensor, t: Tensor, x: Tensor, condition: None = None):
            image, log_det = self.oracle.jump_and_log_det(s, t, x)
            return image + 0.1 * (t > s), log_det + 0.2

    flow = FlowMapFlow(Bent(), Normal(2).double(), two_sided=True)
    _, defect = flow.log_prob_and_defect(NORMAL.sample(10, generator=seeded(0)))
    assert torch.allclose(defect.distance, torch.full((10,), 0.1 * math.sqrt(2), dtype=DOUBLE))
    assert torch.allclose(defect.log_det, torch.full((10,), 0.4, dtype=DOUBLE), atol=1e-10)


@pytest.mark.parametrize("divergence", [None, Exact()], ids=["leaps", "velocities"])
def test_an_exact_head_has_no_loss(divergence):
    """Both directions, along a curved path; a head that is off by c has the loss c^2 / d."""
    for target in (NORMAL, LINE):
        path = Interpolant(Trigonometric())
        oracle = FlowMapOracle(target, path)
        head = ExactHead(oracle)
        models = nn.ModuleDict({"field": oracle, "head": head})
        objective = LogDetMatching(FlowMapMatching(path=path, two_sided=True), divergence)
        rows = batch(target, 256)
        assert objective.loss(models, rows, Step(generator=seeded(0))).terms["log_det"] < 1e-12
        head.off.data.fill_(0.5)
        loss = objective.loss(models, rows, Step(generator=seeded(0))).terms["log_det"]
        # spans below 0.001, of which about 0.5 of 256 rows have one, count less
        assert loss.item() == pytest.approx(0.25 / math.prod(target.event_shape), rel=0.02)


def test_a_head_learns_the_log_determinants_of_the_map_as_it_is():
    """Not those that an exact map would have: here of x + (t - s) A x, whose velocity A x leads elsewhere."""
    matrix = torch.tensor([[0.5, 0.3], [-0.2, 0.4]], dtype=DOUBLE)

    class Linear(nn.Module):
        def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: None = None) -> Tensor:
            return x @ matrix.T

    class Head(nn.Module):
        def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: None = None) -> Tensor:
            jacobian = torch.eye(2, dtype=DOUBLE) + (t - s)[:, None, None] * matrix
            return torch.linalg.det(jacobian).log() / (t - s)

    models, found = nn.ModuleDict({"field": Linear(), "head": Head()}), []
    for divergence in (None, Exact()):
        objective = LogDetMatching(FlowMapMatching(AlphaFlow(), two_sided=True), divergence)
        loss = objective.loss(models, batch(NORMAL, 256), Step(generator=seeded(0)))
        found.append(loss.terms["log_det"].item())
    assert found[0] < 1e-12 < 1e-4 < found[1]


def test_an_estimated_divergence_gives_the_right_gradient_on_average():
    oracle = FlowMapOracle(NORMAL)
    head = ExactHead(oracle)
    models = nn.ModuleDict({"field": oracle, "head": head})
    objective = LogDetMatching(FlowMapMatching(), Hutchinson())
    slopes = []
    for index in range(16):
        loss = objective.loss(models, batch(NORMAL, 1024), Step(generator=seeded(index)))
        slopes += torch.autograd.grad(loss.value, head.off)
    found = torch.stack(slopes)
    # four standard errors over independent draws
    assert 0 < found.std() and found.mean().abs() < 4 * found.std() / len(found) ** 0.5


def test_the_field_has_no_gradients_from_its_head():
    torch.manual_seed(0)
    models = nn.ModuleDict(
        {
            "field": TwoTimes(MLP(2, width=16, spans=True)).double(),
            "head": LogDetHead(MLP(2, width=16, spans=True)).double(),
        }
    )
    found = []
    for objective in (FlowMapMatching(two_sided=True), LogDetMatching(weight=5.0)):
        loss = objective.loss(models, batch(NORMAL, 64), Step(generator=seeded(0))).value
        found.append(torch.autograd.grad(loss, list(models["field"].parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*found))


def trained(draw, seed: int, steps: int, width: int = 64, rate: float = 3e-3) -> FlowMapFlow:
    """A two-sided flow map and its head, trained together, with averaged weights."""
    torch.manual_seed(seed)
    models = nn.ModuleDict(
        {
            "field": TwoTimes(MLP(2, width=width, depth=3, spans=True)),
            "head": LogDetHead(MLP(2, width=width, depth=3, spans=True)),
        }
    )
    objective, g = LogDetMatching(), seeded(seed)
    optimiser = torch.optim.Adam(models.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    average = torch.optim.swa_utils.AveragedModel(
        models, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)
    )
    for index in range(steps):
        x1 = draw(512, g)
        rows = Batch((Rows(torch.randn(x1.shape, generator=g)), Rows(x1)))
        loss = objective.loss(models, rows, Step(index, steps, generator=g)).value
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(models.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(models)
    models.load_state_dict(average.module.state_dict())
    models.requires_grad_(False)
    return FlowMapFlow(WithLogDet(models["field"], models["head"]), Normal(2), two_sided=True)


@pytest.mark.thorough
def test_a_normal_distribution_is_learnt_to_a_hundredth_of_a_nat():
    target = GaussianMixture(NORMAL.means.float(), COVARIANCE.float()[None])
    flow = trained(lambda n, g: target.sample(n, generator=g), 21, 4000)
    x = target.sample(4000, generator=seeded(9))
    log_prob, defect = flow.replace(steps=8).log_prob_and_defect(x)
    # -0.002 to 0.009 on five seeds, on which nothing was chosen; medians up to 0.014 and 0.033
    assert (log_prob - target.log_prob(x)).mean().abs() < 0.01
    assert defect.distance.median() < 0.03 and defect.log_det.median() < 0.06


def test_penalties_on_an_exact_map_have_their_known_values():
    """x_t = m_t + r_t z: log-determinants log(r_t / r_s), acceleration m_t'' + r_t'' z."""
    target = GaussianMixture(torch.full((1, 1), 1.3, dtype=DOUBLE), 0.5)
    path = Interpolant(Trigonometric())
    oracle, rows = FlowMapOracle(target, path), batch(target, 20_000)
    models = nn.ModuleDict({"field": oracle})
    objective = FlowMapMatching(path=path)
    terms = Penalised(objective, 1.0, 1.0).loss(models, rows, Step(generator=seeded(0))).terms
    t = torch.linspace(0, 1, 2001, dtype=DOUBLE)

    def spread(t: Tensor) -> Tensor:
        c = path.coefficients(t)
        return (c.sigma.square() + 0.25 * c.alpha.square()).sqrt()

    volume = (spread(t)[:, None].log() - spread(t).log()).square().mean()
    r, h = spread(t), 1 / 2000
    second = (r[2:] - 2 * r[1:-1] + r[:-2]) / h**2
    mean = -1.3 * (math.pi / 2) ** 2 * (math.pi / 2 * t[1:-1]).sin()
    curvature = (mean.square() + second.square()).mean()
    # 20,000 rows: the relative standard error of a mean square is about 1 %
    assert terms["volume"].item() == pytest.approx(volume.item(), rel=0.05)
    assert terms["curvature"].item() == pytest.approx(curvature.item(), rel=0.05)


def test_log_determinant_and_acceleration():
    matrix = torch.randn(3, 3, generator=seeded(0), dtype=DOUBLE)
    x = torch.randn(4, 3, generator=seeded(1), dtype=DOUBLE)
    assert torch.allclose(log_determinant(lambda y: y @ matrix, x), matrix.det().abs().log().expand(4))
    field, t = GaussianMixtureOracle(LINE), torch.rand(5, generator=seeded(2), dtype=DOUBLE)
    x, h = torch.randn(5, 1, generator=seeded(3), dtype=DOUBLE), 1e-3
    oracle = FlowMapOracle(LINE)
    ends = [oracle.jump(t, (t + step).clamp(0, 1), x) for step in (-h, 0.0, h)]
    second = (ends[2] - 2 * ends[1] + ends[0]) / h**2
    assert torch.allclose(acceleration(field, t, x), second, rtol=1e-3, atol=1e-3)


def test_a_run_with_a_head_scores_and_one_without_says_the_flag(tmp_path):
    short: dict[str, Any] = {"rows": 100, "steps": 5, "folds": 0, "source": "normal", "show_progress": False}
    short |= {"method": "flow-map", "network": "mlp,width=8,depth=1"}
    for head in (True, False):
        where = tmp_path / str(head)
        pushforward.train("moons", where, head=head, **short)
        run = open_run(where)
        x = torch.randn(5, 2, generator=seeded(0))
        if head:
            assert run.flow.density == "estimate" and density_name(run) == "log_prob_estimate"
            core: Any = run.flow.core
            assert core.steps == 8 and core.two_sided
            assert run.flow.log_prob(x).isfinite().all()
            rows = Rows(x)
            expected = run.flow.replace(steps=3).log_prob(x).double()
            name, values = score(run, rows, nfe=3)
            assert name == "log_prob_estimate" and torch.allclose(
                torch.tensor(values).double(), expected.double()
            )
            found, inside = defect(run, rows, nfe=3), run.flow.bijection.inverse(x.double()).float()
            assert found is not None and defect(run, rows, solver="euler,steps=2") is None
            there = core.replace(steps=3).log_prob_and_defect(inside)[1]
            assert torch.allclose(found.log_det, there.log_det, atol=1e-5)
            told = defect_sentence(run, rows, nfe=3)
            assert f"{found.log_det.mean():.2g} nats" in told and "defect on 5 rows" in told
        else:
            with pytest.raises(ValueError, match=r"a FlowMapFlow has no density of its own: .*--head"):
                run.flow.log_prob(x)


def test_the_report_has_the_density_of_the_head_beside_that_of_the_velocity(tmp_path):
    """Of a map that stays, with a head that is 0.3 nats too low for each unit of time."""
    run = tmp_path / "run"
    quick: dict[str, Any] = {"rows": 120, "steps": 2, "folds": 0, "source": "normal", "show_progress": False}
    pushforward.train("moons", run, method="flow-map", head=True, network="mlp,width=8,depth=1", **quick)
    opened = open_run(run)
    core: Any = opened.flow.core

    class Shifted(nn.Module):
        def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: None = None) -> Tensor:
            return torch.full_like(x[:, 0], -0.3)

    class Still(nn.Module):
        def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: None = None) -> Tensor:
            return 0 * x

    core.field = WithLogDet(Still(), Shifted())
    loaded = LoadedRun(opened, 0, 100)
    found = head_density(loaded)
    assert found is not None and found.steps == 8
    # the leaps back have the log-determinants (0 - 1)(-0.3)
    assert found.defect.value == pytest.approx(0.3, abs=1e-5) and found.apart == pytest.approx(0.3, abs=1e-5)
    assert "The head's defect, the mean of their differences, is 0.300" in head_sentence(found)
    assert "random direction" not in head_sentence(found)
    estimated = dataclasses.replace(found, divergence="one random direction per row")
    assert "its divergence from one random direction per row, it is" in head_sentence(estimated)
    picture = few.head_density(loaded, found)
    shown = [np.asarray(ax.images[0].get_array()) for ax in picture.figure.axes]
    ratio = shown[1].max() / shown[0].max()
    assert ratio == pytest.approx(math.exp(0.3), rel=1e-3)


PENALTIES = {"volume": Penalised(volume=3.0), "curvature": Penalised(curvature=3.0)}


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_lowers_in_training_what_it_penalises(name):
    target = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), 0.3)
    found = []
    for objective in (FlowMapMatching(), PENALTIES[name]):
        torch.manual_seed(0)
        models = nn.ModuleDict({"field": TwoTimes(MLP(2, width=32, depth=2, spans=True))})
        optimiser, g = torch.optim.Adam(models.parameters(), 3e-3), seeded(0)
        for index in range(300):
            x1 = target.sample(128, generator=g)
            rows = Batch((Rows(torch.randn(x1.shape, generator=g)), Rows(x1)))
            optimiser.zero_grad()
            objective.loss(models, rows, Step(index, 300, generator=g)).value.backward()
            optimiser.step()
        x1 = target.sample(2000, generator=seeded(5))
        rows = Batch((Rows(torch.randn(x1.shape, generator=seeded(6))), Rows(x1)))
        terms = Penalised(volume=1.0, curvature=1.0).loss(models, rows, Step(generator=seeded(7))).terms
        found.append(terms[name].item())
    assert found[1] < 0.5 * found[0]


def test_a_head_beside_penalties_has_the_terms_of_both():
    oracle, rows = FlowMapOracle(NORMAL), batch(NORMAL, 64)
    models = nn.ModuleDict({"field": oracle, "head": ExactHead(oracle, 0.5)})
    within = Penalised(FlowMapMatching(two_sided=True), 0.1, 0.2)
    both = LogDetMatching(within, weight=3.0).loss(models, rows, Step(generator=seeded(0)))
    alone = within.loss(models, rows, Step(generator=seeded(0)))
    assert set(both.terms) == {*alone.terms, "log_det"}
    assert both.value.item() == pytest.approx((alone.value + 3.0 * both.terms["log_det"]).item(), rel=1e-9)


def test_the_command_line_trains_with_penalties(tmp_path):
    """A strong penalty on volume leaves leaps that keep it."""
    short: dict[str, Any] = {"rows": 200, "steps": 60, "folds": 0, "source": "normal", "show_progress": False}
    short |= {"method": "flow-map", "network": "mlp,width=32,depth=1", "preprocess": "none"}
    found = []
    for volume in (0.0, 10.0):
        run = pushforward.train("moons", tmp_path / str(volume), volume=volume, curvature=0.1, **short)
        core: Any = run.flow.core
        leap = lambda y, core=core: core.jump(0.0, 1.0, y)  # noqa: E731
        found.append(log_determinant(leap, torch.randn(200, 2, generator=seeded(0))).square().mean().item())
        terms = (tmp_path / str(volume) / "metrics.jsonl").read_text()
        assert "curvature" in terms and ("volume" in terms) == bool(volume)
    assert found[1] < 0.5 * found[0]
    with pytest.raises(ValueError, match=r"volume: loss consistency leaps to the data alone; leave it out"):
        pushforward.train("moons", tmp_path / "a", **(short | {"method": "consistency", "volume": 1.0}))
    divided = RunConfig.of("moons", method="shortcut", strategy="fsdp", curvature=1.0)
    with pytest.raises(ValueError, match=r"--strategy fsdp: --curvature takes derivatives, which divided"):
        recipe_of(by_method(divided))
    headed = RunConfig.of("moons", method="shortcut", strategy="fsdp", head=True)
    with pytest.raises(ValueError, match=r"--strategy fsdp: --head takes derivatives, which divided"):
        recipe_of(by_method(headed))
    with pytest.raises(ValueError, match=r"volume"):
        pushforward.train("moons", tmp_path / "c", **(short | {"method": "fm", "volume": 1.0}))


@pytest.mark.thorough
@pytest.mark.parametrize("seed", [21, 22, 23, 24, 25])
def test_moons_at_eight_evaluations(seed):
    """Within 0.05 nat of the mean log-density of the ODE, and an integral near 1."""
    moons = TwoMoons(0.1)
    raw = moons.sample(10_000, generator=seeded(0))
    centre, scale = raw.mean(0), raw.std(0)
    flow = trained(lambda n, g: (moons.sample(n, generator=g) - centre) / scale, seed, 4000, 128, 2e-3)
    flow = flow.replace(steps=8)
    x = (moons.sample(1000, generator=seeded(100 + seed)) - centre) / scale
    log_prob, defect = flow.log_prob_and_defect(x)
    ode = flow.continuous().log_prob(x)
    axis = torch.linspace(-3.5, 3.5, 176)
    grid = torch.cartesian_prod(axis, axis)
    mass = flow.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    print(
        f"seed {seed}: head {log_prob.mean():.4f}, ODE {ode.mean():.4f}, mass {mass:.4f}, "
        f"defects {defect.distance.mean():.4f} and {defect.log_det.mean():.4f}"
    )
    assert (log_prob - ode).mean().abs() < 0.05
    # from 0.996 to 1.010 on these seeds
    assert abs(mass - 1) < 0.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LogDetHead(MLP(2)), "network: expected one that takes two times"),
        (
            lambda: LogDetMatching(FlowMapMatching(Consistency())),
            "objective: Consistency leaps to the data alone; expected a loss of leaps between any two times",
        ),
        (lambda: Penalised(FlowMapMatching(Consistency()), volume=1.0), "leaps to the data alone"),
        (
            lambda: LogDetMatching(divergence=Exact()).loss(
                nn.ModuleDict(
                    {
                        "field": TwoTimes(MLP(2, spans=True)),
                        "head": LogDetHead(ResidualMLP(2, width=8, dropout=0.1, spans=True)),
                    }
                ),
                Batch((Rows(torch.zeros(4, 2)), Rows(torch.ones(4, 2)))),
                Step(),
            ),
            r"head: Dropout \(map.network.blocks.0.3\) drops out 0.1 of its inputs",
        ),
        (lambda: LogDetMatching(weight=0.0), "weight: expected a finite number above 0, got 0.0"),
        (lambda: Penalised(volume=-1.0), "volume: expected a finite number above 0, got -1.0"),
        (lambda: Penalised(curvature=math.inf), "curvature: expected a finite number above 0, got inf"),
        (
            lambda: FlowMapFlow(lambda s, t, x: x, Normal(2), two_sided=True).log_prob(torch.zeros(1, 2)),
            r"no density of its own: train a head for its log-determinants \(--head\)",
        ),
        (
            lambda: FlowMapFlow(FlowMapOracle(NORMAL), Normal(2)).log_prob(torch.zeros(1, 2)),
            r"train it with two_sided=True \(--two-sided\)",
        ),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
