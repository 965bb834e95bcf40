"""Losses of flow maps with times of their own: levels of consistency, cells of shortcuts, and their flows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import pushforward
from pushforward import FlowMapFlow, GaussianMixture, Normal
from pushforward.cli import main
from pushforward.fields import as_flow_map
from pushforward.flows import ConsistencyFlow
from pushforward.objectives import (
    Consistency,
    ContinuousConsistency,
    FlowMapMatching,
    MapLoss,
    MomentMatching,
    Shortcut,
    Step,
    TwoSided,
)
from pushforward.oracles import FlowMapOracle
from pushforward.paths import Karras
from pushforward.random import normal, seeded
from pushforward.rows import Batch, Rows

DOUBLE = torch.float64


class Watched(nn.Module):
    """A map of velocity 0 that keeps the times it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor]] = []

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        self.calls.append((s, t))
        return torch.zeros_like(x)


def called(loss: MapLoss, rows: int = 3000, **state: Any) -> list[tuple[Tensor, Tensor]]:
    model = Watched()
    batch = Batch((Rows(torch.zeros(rows, 1, dtype=DOUBLE)), Rows(torch.ones(rows, 1, dtype=DOUBLE))))
    step = Step(**state, generator=seeded("called"))
    FlowMapMatching(loss).loss(nn.ModuleDict({"field": model}), batch, step)
    return model.calls


# -- shortcuts ---------------------------------------------------------------------------------------


def test_shortcuts_are_cells_of_dyadic_grids_of_equal_share() -> None:
    """By chi-square at a level of 0.001 for one seed."""
    first, second, whole = called(Shortcut(diagonal=0.0))
    s, t = whole
    assert set((t - s).tolist()) == {2.0**-k for k in range(7)}
    assert bool((s / (t - s) == (s / (t - s)).round()).all()) and float(t.max()) == 1
    counts = [int((t - s == 2.0**-k).sum()) for k in range(7)]
    assert stats.chisquare(counts).pvalue > 0.001
    torch.testing.assert_close(first[1] - first[0], (t - s) / 2)
    assert torch.equal(first[1], second[0]) and torch.equal(first[0], s) and torch.equal(second[1], t)
    assert Shortcut().averaged


def test_steps_off_the_grid_warn_and_take_the_nearest() -> None:
    flow = FlowMapFlow(lambda s, t, x: -x, Normal(2)).replace(known_steps=Shortcut().steps)
    with pytest.warns(UserWarning, match="steps: 3 was not trained; takes 4, of 1, 2, 4, 8, 16, 32, 64, 128"):
        assert flow.replace(steps=3).steps == 4
    with pytest.warns(UserWarning, match="takes 128"):
        assert flow.replace(steps=1000).steps == 128
    assert flow.replace(steps=8).steps == 8
    assert flow.replace(grid=(0.0, 0.2, 1.0), steps=2).times == (0.0, 0.2, 1.0)


# -- consistency -------------------------------------------------------------------------------------


def test_levels_of_consistency_are_those_of_karras_and_neighbours() -> None:
    step = {"index": 0, "total": 100}
    (r, end), (s, last) = called(Consistency(first=10), **step)
    assert bool((end == 1).all()) and bool((last == 1).all())
    levels = Karras(0.002, 80.0, 7.0)(torch.linspace(0, 1, 11, dtype=DOUBLE))[1]
    times = 1 / (1 + levels)
    times[0], times[-1] = 0, 1
    place = (s[:, None] - times).abs().argmin(1)
    torch.testing.assert_close(s, times[place], rtol=1e-12, atol=0)
    torch.testing.assert_close(r, times[place + 1], rtol=1e-12, atol=0)
    # the level at which a row starts is log-normal between its neighbours, by chi-square at a level of 0.001
    shares = -np.diff(stats.norm.cdf(np.log(levels.numpy()), -1.1, 2.0))
    counts = np.bincount(place.numpy(), minlength=10)
    seen = shares * len(s) / shares.sum() > 5
    expected = shares[seen] / shares[seen].sum() * counts[seen].sum()
    assert seen.sum() > 5 and stats.chisquare(counts[seen], expected).pvalue > 0.001


def test_levels_are_uniform_in_consistency_of_the_first_kind() -> None:
    (_, _), (s, _) = called(Consistency(first=4, improved=False), index=0, total=100)
    counts = torch.unique(s, return_counts=True)[1]
    assert len(counts) == 4 and stats.chisquare(counts.numpy()).pvalue > 0.001
    assert Consistency(improved=False).averaged and not Consistency().averaged


def test_the_number_of_levels_doubles() -> None:
    loss = Consistency(first=10, last=1280)
    found = [loss.intervals(k, 8) for k in range(9)]
    assert found == [10, 20, 40, 80, 160, 320, 640, 1280, 1280]
    assert {Consistency(7, 7).intervals(k, 8) for k in range(9)} == {7}


@pytest.mark.parametrize("levels", [(1, 10), (20, 10)])
def test_levels_that_do_not_double_are_refused(levels: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="first, last: expected 2 <= first <= last"):
        Consistency(*levels)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 30.0])
def test_the_exact_map_is_the_consistency_function_of_normal_data(sigma: float) -> None:
    """f(x, sigma) = x sqrt(tau^2 / (tau^2 + sigma^2)) for x1 + sigma n = x_t / t at t = 1 / (1 + sigma)."""
    tau, x = 0.7, torch.tensor([[1.7], [-0.3]], dtype=DOUBLE)
    oracle = FlowMapOracle(GaussianMixture(torch.zeros(1, 1, dtype=DOUBLE), tau))
    s = 1 / (1 + sigma)
    expected = x * (tau**2 / (tau**2 + sigma**2)) ** 0.5
    torch.testing.assert_close(oracle.jump(s, 1.0, s * x), expected, rtol=1e-9, atol=1e-12)


def test_the_tangent_of_continuous_consistency_is_bounded() -> None:
    """The error of a row is the normalised tangent, shorter than 1 whatever the velocity is."""
    batch = Batch((Rows(torch.zeros(30, 3)), Rows(1e6 * torch.ones(30, 3))))
    models = nn.ModuleDict({"field": Watched()})
    found = FlowMapMatching(ContinuousConsistency()).loss(models, batch, Step(generator=seeded(1)))
    torch.testing.assert_close(found.per_sample * 3, torch.ones(30))


# -- the flow ----------------------------------------------------------------------------------------

TARGET = GaussianMixture(torch.tensor([[1.3, -0.4]], dtype=DOUBLE), 0.5)


def test_one_step_is_the_leap_and_draws_nothing() -> None:
    oracle = FlowMapOracle(TARGET)
    flow = ConsistencyFlow(oracle, Normal(2).double())
    x0, generator = normal((5, 2), seeded(1), DOUBLE), seeded(2)
    before = generator.get_state()
    torch.testing.assert_close(flow.push(x0, None, generator), oracle.jump(0.0, 1.0, x0))
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_steps_with_noise_between_them_keep_the_distribution(steps: int) -> None:
    """Mean and covariance of 20,000 draws within 4 standard errors."""
    flow = ConsistencyFlow(FlowMapOracle(TARGET), Normal(2).double(), steps)
    x = flow.sample(20_000, generator=seeded("multistep"))
    error = 0.5 / 20_000**0.5
    assert bool(((x.mean(0) - TARGET.means[0]).abs() < 4 * error).all())
    spread = 0.25 * (2 / 20_000) ** 0.5
    assert bool(((x.T.cov() - 0.25 * torch.eye(2)).abs() < 4 * spread).all())


def test_noise_between_steps_is_new_and_that_of_the_generator() -> None:
    flow = ConsistencyFlow(FlowMapOracle(TARGET), Normal(2).double(), steps=2)
    x0 = normal((6, 2), seeded(1), DOUBLE)
    one, again, other = (flow.push(x0, None, seeded(k)) for k in (3, 3, 4))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_every_leap_starts_where_the_noise_of_its_time_is() -> None:
    """A map that is told all: leaps from 0, 1/3 and 2/3, each to 1, from rows of these deviations."""
    seen: list[tuple[float, float, float]] = []

    def constant(s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        seen.append((float(s), float(t), float(x.std())))
        return -x / (t - s)  # all data are 0

    ConsistencyFlow(constant, Normal(1), 3).sample(4000, generator=seeded("restart"))
    assert [round(s * 3) for s, _, _ in seen] == [0, 1, 2] and {t for _, t, _ in seen} == {1.0}
    for s, _, deviation in seen:  # within 4 standard errors of a deviation
        assert abs(deviation - (1 - s)) < 4 * (1 - s) / (2 * 4000) ** 0.5


def test_what_it_does_not_know_is_refused() -> None:
    flow = ConsistencyFlow(as_flow_map(lambda s, t, x: -x), Normal(2))
    with pytest.raises(ValueError, match="a ConsistencyFlow has no velocity field"):
        _ = flow.velocity
    with pytest.raises(ValueError, match="it knows leaps to the data alone"):
        flow.score(0.5, torch.zeros(1, 2))
    for steps in (0, 1.5, True):
        with pytest.raises(ValueError, match="steps: expected a positive number of steps"):
            flow.replace(steps=steps)
    with pytest.raises(ValueError, match="steps: expected 2 as the grid has, or grid=None, got 3"):
        ConsistencyFlow(constant_zero, Normal(2), 3, (0.0, 0.5))
    for grid in ((), (0.1, 0.5), (0.0, 1.0), (0.0, 0.5, 0.5)):
        with pytest.raises(ValueError, match="grid: expected times that rise from 0 and end before 1"):
            ConsistencyFlow(constant_zero, Normal(2), grid=grid)
    assert ConsistencyFlow(constant_zero, Normal(2), grid=(0.0, 0.7)).times == (0.0, 0.7)


def constant_zero(s: Tensor, t: Tensor, x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def test_runs_of_it_take_few_steps_and_learn_from_a_teacher(tmp_path: Any) -> None:
    quick: dict[str, Any] = {"network": "mlp,width=8,depth=1", "steps": 4, "rows": 60, "folds": 0}
    teacher = pushforward.train("moons", tmp_path / "fm", source="normal", show_progress=False, **quick)
    run = pushforward.distil(
        teacher.path, tmp_path / "one", method="consistency", steps=4, show_progress=False
    )
    assert type(run.flow.core) is ConsistencyFlow
    for nfe in ("1", "3"):
        out = tmp_path / f"{nfe}.csv"
        assert main(["sample", str(run.path), "-n", "5", "--nfe", nfe, "-o", str(out)]) == 0
        assert len(out.read_text().splitlines()) == 6


# -- which way ---------------------------------------------------------------------------------------


def test_losses_of_the_other_direction_are_refused() -> None:
    for loss in (Consistency(), ContinuousConsistency(), MomentMatching()):
        with pytest.raises(
            ValueError, match=f"two_sided: {type(loss).__name__} leaps towards the data alone"
        ):
            FlowMapMatching(loss, two_sided=True)
    with pytest.raises(ValueError, match="TwoSided leaps there and back; say two_sided=True"):
        FlowMapMatching(TwoSided())


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ("--method", "consistency", "--source", "kernel"),
            "takes independent normal noise; --source kernel",
        ),
        (("--method", "consistency", "--coupling", "ot"), "normal noise; --coupling ot makes noise depend"),
        (
            ("--method", "consistency", "--two-sided"),
            "--two-sided: --loss consistency leaps towards the data alone",
        ),
        (("--method", "flow-map", "--loss", "two-sided"), "--loss two-sided: leaps there and back; say"),
        (("--method", "consistency", "--loss", "consistency,first=1"), "first, last: expected 2 <= first"),
        (
            ("--method", "shortcut", "--loss", "shortcut,diagonal=2"),
            "diagonal: expected a number from 0 to 1",
        ),
    ],
)
def test_flags_that_do_not_go_together(
    flags: tuple[str, ...], says: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "moons", *flags, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
