"""Score-based models: sliced score matching against closed forms, and the recipes of scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import pushforward
from pushforward.config import RunConfig
from pushforward.fields import PREDICTIONS, Prediction, convert
from pushforward.objectives import Batch, FlowMatching, SlicedScoreMatching, Step, Uniform
from pushforward.paths import Interpolant, Path, Schedule, VariancePreserving
from pushforward.random import seeded
from pushforward.recipes import by_method, label, recipe_of
from pushforward.rows import Rows

DOUBLE = torch.float64


class At(Uniform):
    """One time for all rows."""

    def __init__(self, t: float):
        self.t = t

    def quantile(self, u):
        return torch.full_like(u, self.t)


class Linear(nn.Module):
    """What a score -slope x is in the prediction ``kind``."""

    def __init__(self, path: Path, slope: float, kind: Prediction):
        super().__init__()
        self.path = path
        self.kind: Prediction = kind
        self.slope = nn.Parameter(torch.tensor(slope, dtype=DOUBLE))

    def forward(self, t, x, condition=None):
        c = self.path.coefficients(t.reshape(-1, 1))
        return convert(-self.slope * x, x, c, "score", self.kind)


def batch(n: int, deviation: float, d: int = 2) -> Batch:
    x0, x1 = torch.randn(2, n, d, generator=seeded(n), dtype=DOUBLE)
    return Batch((Rows(x0), Rows(deviation * x1)))


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("time", [0.2, 0.7])
def test_the_sliced_loss_of_a_linear_score_is_its_closed_form(kind: Prediction, time: float) -> None:
    """Of N(0, v), v = 4 alpha^2 + s^2: s^2 (slope^2 v / 2 - slope) an element."""
    path, n, slope = Interpolant(VariancePreserving()), 20_000, 0.6
    models = nn.ModuleDict({"field": Linear(path, slope, kind)})
    objective = SlicedScoreMatching(path, kind, times=At(time))
    found = objective.loss(models, batch(n, 2.0), Step(generator=seeded(0))).value.item()
    t = 1e-3 + (1 - 2e-3) * torch.tensor(time, dtype=DOUBLE)  # the margin
    c = path.coefficients(t)
    s2, v = c.noise_scale.square().item(), (4 * c.alpha.square() + c.noise_scale.square()).item()
    # the trace is exact for a multiple of the identity; five standard errors of 40,000 squares
    error = 5 * s2 * slope**2 * v / 2 * math.sqrt(2 / (2 * n))
    assert found == pytest.approx(s2 * (slope**2 * v / 2 - slope), abs=error)


def test_the_sliced_loss_has_the_gradient_of_denoising() -> None:
    """Half the squared error of the noise and the sliced loss differ by a constant."""
    path, n = Interpolant(VariancePreserving()), 50_000
    slopes = {}
    for name, objective in {
        "denoising": FlowMatching(path, "score", times=At(0.6)),
        "sliced": SlicedScoreMatching(path, "score", times=At(0.6)),
    }.items():
        models = nn.ModuleDict({"field": Linear(path, 0.3, "score")})
        value = objective.loss(models, batch(n, 2.0), Step(generator=seeded(1))).value
        (slopes[name],) = torch.autograd.grad(value, list(models.parameters()))
    assert slopes["sliced"].item() == pytest.approx(0.5 * slopes["denoising"].item(), rel=0.02)


def test_the_derivative_of_a_full_jacobian_is_its_trace_on_average() -> None:
    """A network that is no multiple of x, against autograd's Jacobian row by row."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 3)).double()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, t, x, condition=None):
            return self.net(x)

    rows, n = torch.randn(4, 3, dtype=DOUBLE), 4000
    path, t = Interpolant(VariancePreserving()), torch.tensor(0.5, dtype=DOUBLE)

    class Still(Path):
        """Leaves x1 where it is, with the coefficients of ``path``."""

        affine = True

        def sample(self, t, *points, generator=None):
            from pushforward.paths import PathPoint

            return PathPoint(t, points[-1], points, None)

        def coefficients(self, t):
            return path.coefficients(t)

        def ends(self):
            return path.ends()

    many = Rows(rows.repeat(n, 1))
    objective = SlicedScoreMatching(Still(), "noise", times=At(0.5))
    loss = objective.loss(nn.ModuleDict({"field": Net()}), Batch((many, many)), Step(generator=seeded(2)))
    s = path.coefficients(t).noise_scale
    trace = torch.stack([torch.func.jacrev(net)(row).trace() for row in rows])
    wanted = (0.5 * net(rows).square().sum(1) - s * trace) / 3
    found = loss.per_sample.reshape(n, 4)
    assert ((found.mean(0) - wanted).abs() < 5 * found.std(0) / math.sqrt(n)).all()


def test_a_mask_of_padding_has_no_part_in_the_loss() -> None:
    path = Interpolant(VariancePreserving())
    models = nn.ModuleDict({"field": Linear(path, 0.5, "noise")})
    mask = torch.tensor([[True, True, False]]).expand(50, 3)
    losses = []
    for fill in (0.0, 100.0):
        x = torch.randn(50, 3, generator=seeded(3), dtype=DOUBLE).masked_fill(~mask, fill)
        rows = Rows(x, mask=mask)
        both = Batch((Rows(torch.randn(50, 3, generator=seeded(4), dtype=DOUBLE)), rows))
        losses.append(SlicedScoreMatching(path).loss(models, both, Step(generator=seeded(5))).value)
    assert torch.equal(*losses)


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match="margin: expected a number between 0 and 1/2, got 0"):
        SlicedScoreMatching(margin=0.0)
    with pytest.raises(ValueError, match="prediction: expected one of velocity"):
        SlicedScoreMatching(prediction="speed")  # type: ignore


class Turning(Schedule):
    """alpha that rises and falls."""

    def __call__(self, t):
        return t + 0.5 * (2 * np.pi * t).sin(), 2 - t, 1 + np.pi * (2 * np.pi * t).cos(), -torch.ones_like(t)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"coupling": "ot"}, "coupling ot: method ddpm learns a score"),
        ({"path": f"{__name__}:Turning"}, "Turning: expected alpha that rises .* alpha falls at t = 0.3"),
        ({"source": "8gaussians"}, "needs a normal source"),
    ],
)
def test_what_has_no_score_is_refused_before_anything_is_written(tmp_path, settings, text) -> None:
    with pytest.raises(ValueError, match=text):
        pushforward.train(
            "moons", tmp_path / "run", method="ddpm", rows=60, steps=2, trust=[Turning], **settings
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"path": "edm,sigma_min=2"},
            "path edm,sigma_min=2: expected noise of 1 to 100000 deviations .* 80 and 2",
        ),
        ({"path": "edm,sigma_max=0.5"}, "path edm,sigma_max=0.5: expected noise of .* 0.5 and 0.002"),
        ({"path": "edm,sigma_min=1,sigma_max=1e6"}, "expected noise of .* got 1e"),
        ({"path": "ve,sigma_max=0.5", "times": "uniform"}, "path ve,sigma_max=0.5: expected noise of"),
        ({"times": "edm,mean=9"}, "times edm,mean=9 and path edm: mean, std: expected 1% of the levels"),
        ({"path": "vp"}, "times edm and path vp: log-normal noise levels are those of the path edm alone"),
        ({"gamma": 0.1}, "times edm and path edm: log-normal noise levels are"),
    ],
)
def test_useless_noise_is_refused_before_anything_is_written(tmp_path, settings, text) -> None:
    with pytest.raises(ValueError, match=text) as error:
        pushforward.train("moons", tmp_path / "run", method="edm", rows=60, steps=2, **settings)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_log_normal_levels_are_those_of_the_path_that_is_trained_along() -> None:
    config = by_method(RunConfig.of("moons", method="edm", path="edm,sigma_max=5,rho=3"))
    recipe: Any = recipe_of(config)
    levels = recipe.path.schedule(recipe.times.quantile(torch.linspace(0, 1, 5, dtype=torch.float64)))[1]
    low, high = np.log([0.002, 5.0])
    wanted = np.exp(
        stats.truncnorm((low + 0.5) / 1.2, (high + 0.5) / 1.2, -0.5, 1.2).ppf([1, 0.75, 0.5, 0.25, 0])
    )
    np.testing.assert_allclose(levels.numpy(), wanted, rtol=1e-9)


@pytest.mark.parametrize("method", ["ddpm", "ddpm-cosine", "dsm", "sub-vp", "edm", "ssm"])
def test_a_method_is_called_by_its_name_unless_flags_change_it(method: str) -> None:
    assert label(by_method(RunConfig.of("moons", method=method))) == method
    changed = label(by_method(RunConfig.of("moons", method=method, path="cosine")))
    assert changed.startswith(("scores (", "sliced-scores (")) and "path cosine" in changed
    recipe_of(by_method(RunConfig.of("moons", method=method)))


@pytest.mark.parametrize("method", ["ddpm", "ddpm-cosine", "dsm", "sub-vp", "edm", "ssm"])
def test_far_points_are_not_carried_off(tmp_path, method: str) -> None:
    """A network that has learnt nothing extrapolates as for normal data, which the flow leaves where it is.

    Without that a noise prediction of 0 multiplies every point by 1 / alpha_0, some hundred.
    """
    x = np.random.default_rng(1).normal(size=(1000, 2))
    short = {"steps": 2, "show_progress": False, "folds": 0, "network": "mlp,width=8,depth=1"}
    run = pushforward.train(x, tmp_path / "run", method=method, source="normal", **short)
    core = run.flow.core
    x0 = core.source.scale * torch.tensor([[5.0, 0.0], [0.0, -5.0]])  # type: ignore
    assert bool((core.push(x0).norm(dim=1) < 10).all())


@pytest.mark.parametrize("data", ["one", "hundred", "small"])
@pytest.mark.parametrize("method", ["ddpm", "edm", "ssm"])
def test_tables_of_one_column_of_many_and_of_few_rows(tmp_path, method: str, data: str) -> None:
    rows, columns = {"one": (1200, 1), "hundred": (1200, 100), "small": (60, 3)}[data]
    x = np.random.default_rng(0).normal(size=(rows, columns))
    short = {"steps": 20, "show_progress": False, "folds": 0}
    run = pushforward.train(x, tmp_path / "run", method=method, network="mlp,width=8,depth=1", **short)
    drawn = run.flow.sample(20, generator=seeded(6))
    assert drawn.shape == (20, columns) and bool(drawn.isfinite().all())
    assert bool(run.flow.log_prob(drawn[:3]).isfinite().all())
