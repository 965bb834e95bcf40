"""Losses along interpolants against closed forms; distributions of times against integrals; weights."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy import special, stats
from scipy.integrate import quad
from torch import nn

from narrowing import by_name, known
from pushforward import registry
from pushforward.couplings import Rows
from pushforward.entries import TIMES
from pushforward.fields import PREDICTIONS, ScoreFromEta, from_velocity, to_velocity
from pushforward.objectives import (
    Batch,
    Equal,
    FlowMatching,
    InterpolantMatching,
    Late,
    LogitNormal,
    MinSNR,
    Power,
    Step,
    Times,
    Uniform,
    UShaped,
)
from pushforward.objectives.flow_matching import pseudo_huber
from pushforward.paths import (
    Brownian,
    Interpolant,
    MapPath,
    Polynomial,
    Quadratic,
    SineSquared,
    Trigonometric,
    VariancePreserving,
)
from pushforward.tensors import expand_time

DOUBLE = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class At(Times):
    """One time only."""

    def __init__(self, t: float):
        self.t = t

    def quantile(self, u):
        return torch.full_like(u, self.t)


# -- stochastic interpolants -------------------------------------------------------------------------

M0, S0, M1, S1 = -1.0, 0.5, 2.0, 1.5


class Line(nn.Module):
    """f(x) = a + b x, for events of one element."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(2, dtype=DOUBLE))

    def forward(self, t, x, condition=None):
        return self.theta[0] + self.theta[1] * x


def gaussian_batch(rows: int, seed: int) -> Batch:
    x0, x1 = torch.randn(2, rows, 1, dtype=DOUBLE, generator=gen(seed))
    return Batch((Rows(M0 + S0 * x0), Rows(M1 + S1 * x1)))


def minimise(objective, models: nn.ModuleDict, batch: Batch, seed: int):
    """The exact minimiser of a quadratic loss by one Newton step; returns the time of the batch."""
    loss = objective.loss(models, batch, Step(generator=gen(seed)))
    for model in models.values():
        assert isinstance(model, Line)
        (g,) = torch.autograd.grad(loss.value, model.theta, create_graph=True)
        hessian = torch.stack([torch.autograd.grad(g[i], model.theta, retain_graph=True)[0] for i in (0, 1)])
        model.theta.data -= torch.linalg.solve(hessian, g.detach())
    return known(loss.t)[0]


@pytest.mark.parametrize(
    "gamma", [Brownian(1.0), Quadratic(2.0), SineSquared(0.5)], ids=lambda g: type(g).__name__
)
@pytest.mark.parametrize("t", [0.02, 0.35, 0.9])
def test_minimisers_between_two_normal_laws_are_the_closed_forms(t, gamma):
    """With M, V the mean and variance of x_t: b = M' + V'/(2V) (x - M), E[z|x] = gamma (x - M) / V and
    E[x1|x] = m1 + alpha s1^2 (x - M) / V."""
    path = Interpolant(Trigonometric(), gamma)
    objective = InterpolantMatching(path, times=At(t), margin=1e-6)

    def moments(time):
        c = path.coefficients(time)
        mean = c.alpha * M1 + c.sigma * M0
        return mean, (c.alpha * S1) ** 2 + (c.sigma * S0) ** 2 + c.gamma**2

    fits, time = [], torch.tensor(t)
    for seed in range(20):
        models = nn.ModuleDict({name: Line() for name in ("velocity", "eta", "denoiser")})
        time = minimise(objective, models, gaussian_batch(4000, seed), 100 + seed)
        fits.append(torch.stack([cast(Line, model).theta.detach() for model in models.values()]))
    fits = torch.stack(fits)
    jvp: Any = torch.func.jvp(moments, (time,), (torch.ones_like(time),))
    (mean, variance), (d_mean, d_variance) = jvp
    c = path.coefficients(time)
    truth = []
    for level, slope in (
        (d_mean, d_variance / (2 * variance)),
        (torch.zeros_like(mean), c.gamma / variance),
        (torch.full_like(mean, M1), c.alpha * S1**2 / variance),
    ):
        truth.append(torch.stack([level - slope * mean, slope]))
    # six standard errors of the mean of 20 fits
    assert ((fits.mean(0) - torch.stack(truth)).abs() < 6 * fits.std(0) / 20**0.5).all()
    # and the test is sharp
    assert (fits.std(0) / 20**0.5).max() < 0.05


def test_velocity_drift_and_score_satisfy_their_identity():
    """b - v + gamma' gamma s = 0 for the minimisers on one and the same set of draws."""
    path = Interpolant(Trigonometric(), Brownian(0.7))
    models = nn.ModuleDict({"velocity": Line(), "eta": Line()})
    batch = gaussian_batch(2000, 0)
    t = minimise(InterpolantMatching(path, times=At(0.2)), models, batch, 1)
    assert isinstance(models["eta"], Line)
    times = torch.full((2000,), float(t), dtype=DOUBLE)
    pair = path.sample_pair(times, batch.source.x, batch.target.x, generator=gen(1))
    # the draws of the loss: its times are drawn before its noise
    g = gen(1)
    Uniform().draw(batch.target.x, Step(generator=g))
    pair = path.sample_pair(times, batch.source.x, batch.target.x, generator=g)
    x, drift = torch.cat([pair.plus, pair.minus]), torch.cat([pair.drift, pair.drift])
    design = torch.cat([torch.ones_like(x), x], 1)
    theta = torch.linalg.lstsq(design, drift).solution
    b, v = models["velocity"](t, x), design @ theta
    score = ScoreFromEta(models["eta"], path)(t, x)
    c = path.coefficients(t)
    assert (b - v + c.gamma_d_gamma * score).abs().max() < 1e-9
    assert (c.gamma_d_gamma * score).abs().max() > 0.1


class Slopes(nn.Module):
    """f(x_i) = theta_i x_i, so that the gradient in theta is one number a row."""

    def __init__(self, rows: int):
        super().__init__()
        self.theta = nn.Parameter(torch.ones(rows, 1, dtype=DOUBLE))

    def forward(self, t, x, condition=None):
        return self.theta.repeat(len(x) // len(self.theta), 1) * x


def test_antithetic_gradients_stay_bounded_where_plain_ones_do_not():
    path, rows = Interpolant(gamma=Brownian()), 5000

    def variance(objective, name):
        model = Slopes(rows)
        loss = objective.loss(nn.ModuleDict({name: model}), gaussian_batch(rows, 0), Step(generator=gen(2)))
        (g,) = torch.autograd.grad(loss.value, model.theta)
        return float((rows * g).var())

    plain, pairs = [], []
    for t in (1e-2, 1e-6):
        plain.append(variance(FlowMatching(path, times=At(t), margin=1e-9), "field"))
        pairs.append(variance(InterpolantMatching(path, times=At(t), margin=1e-9), "velocity"))
    # gamma'^2 is 1/(4t), so the plain variance grows about 10^4 times
    assert plain[1] > 1000 * plain[0]
    assert pairs[1] < 1.5 * pairs[0] and pairs[1] < 1e-3 * plain[1]


class Recorder(nn.Module):
    """Remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, t, x, condition=None):
        self.seen = t, x, condition
        return self.weight * x


def test_both_signs_share_their_time_and_condition():
    x0, x1 = torch.randn(2, 64, 2, 3, generator=gen())
    batch = Batch((Rows(x0), Rows(x1, condition={"label": torch.arange(64)})))
    models = nn.ModuleDict({"eta": Recorder(), "denoiser": Recorder()})
    objective = InterpolantMatching(
        Interpolant(gamma=Brownian()), drop_condition=0.5, times=Late(50.0), margin=0.01
    )
    loss = objective.loss(models, batch, Step(generator=gen()))
    t, x, condition = cast(Recorder, models["eta"]).seen
    time = known(loss.t)
    middle = Interpolant().sample(time, x0, x1).x
    assert torch.allclose(0.5 * (x[:64] + x[64:]), middle, atol=1e-6)
    assert torch.equal(t[:64], t[64:]) and torch.equal(t[:64], time)
    labels = by_name(condition)["label"]
    assert torch.equal(labels[:64], labels[64:])
    kept = labels[:64] >= 0
    assert torch.equal(labels[:64][kept], torch.arange(64)[kept]) and 10 < int(kept.sum()) < 54
    assert float(time.min()) > 0.01 and float(time.max()) == pytest.approx(0.99)
    assert set(loss.terms) == {"eta", "denoiser"} and loss.per_sample.shape == (64,)
    assert torch.allclose(loss.value, torch.stack([*loss.terms.values()]).sum())


def test_weights_and_masks_reach_the_losses():
    """Rows of weight 0 and elements that are not valid leave no trace in the gradient."""
    x0, x1 = torch.randn(2, 8, 3, dtype=DOUBLE, generator=gen())
    weight = torch.tensor([1.0, 2.0, 0, 1, 1, 1, 0, 3], dtype=DOUBLE)
    mask = torch.ones(8, 3, dtype=torch.bool)
    mask[:, 2] = False

    class Free(nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = nn.Parameter(torch.ones(8, 3, dtype=DOUBLE))

        def forward(self, t, x, condition=None):
            return self.theta.repeat(len(x) // 8, 1)

    for objective, name in (
        (InterpolantMatching(Interpolant(gamma=0.5)), "velocity"),
        (FlowMatching(huber=0.1, weighting=Power(early=1)), "field"),
        (FlowMatching(weighting=Power(early=1)), "field"),
    ):
        model = Free()
        batch = Batch((Rows(x0), Rows(x1, mask=mask)), weight)
        objective.loss(nn.ModuleDict({name: model}), batch, Step(generator=gen())).value.backward()
        expected = mask & (weight > 0)[:, None]
        assert torch.equal(model.theta.grad != 0, expected)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: InterpolantMatching(Interpolant()), "path: expected one with noise"),
        (lambda: InterpolantMatching(Interpolant(gamma=1), margin=0.0), "margin: expected"),
        (lambda: InterpolantMatching(Interpolant(gamma=1), drop_condition=2.0), "drop_condition: expected"),
        (lambda: FlowMatching(margin=0.5), "margin: expected a number between 0 and 1/2, got 0.5"),
        (lambda: FlowMatching(huber=0.0), "huber: expected a positive number or None, got 0.0"),
        (lambda: FlowMatching(MapPath(lambda t, x, y: y), "data"), "prediction: only velocity"),
        (lambda: LogitNormal(std=0.0), "std: expected a positive number, got 0.0"),
        (lambda: LogitNormal(mean=math.nan), "mean: expected a finite number, got nan"),
        (lambda: UShaped(0.0), r"a: expected a number in \(0, 100\], got 0.0"),
        (lambda: MinSNR(0.0), "gamma: expected a positive number, got 0.0"),
        (lambda: Power(late=math.inf), "early, late: expected finite numbers, got 0.0 and inf"),
    ],
)
def test_mistakes_are_refused(build, says):
    with pytest.raises(ValueError, match=says):
        build()


@pytest.mark.parametrize("names", [(), ("velocity", "field")])
def test_unknown_models_are_refused(names):
    models = nn.ModuleDict({name: Line() for name in names})
    with pytest.raises(ValueError, match="models: expected some of velocity, eta, denoiser, got"):
        InterpolantMatching(Interpolant(gamma=1)).loss(models, gaussian_batch(4, 0), Step())


# -- distributions of times
# -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.4, 1.0), (0.6, 1.6)])
def test_logit_normal_quantiles_are_scipys(mean, std):
    u = torch.linspace(0.001, 0.999, 101, dtype=DOUBLE)
    t = LogitNormal(mean, std).quantile(u)
    assert np.allclose(stats.norm(mean, std).cdf(special.logit(t.numpy())), u.numpy(), atol=1e-12)


@pytest.mark.parametrize("a", [0.1, 4.0, 30.0])
def test_u_shaped_quantiles_integrate_to_their_level(a):
    def density(t):
        return math.cosh(a * (t - 0.5))

    whole = quad(density, 0, 1, epsabs=0, epsrel=1e-12)[0]
    for u in (0.01, 0.2, 0.5, 0.77, 0.99):
        t = float(UShaped(a).quantile(torch.tensor(u, dtype=DOUBLE)))
        assert quad(density, 0, t, epsabs=0, epsrel=1e-12)[0] / whole == pytest.approx(u, rel=1e-9)


@pytest.mark.parametrize("name", list(TIMES))
def test_every_distribution_of_times_rises_within_the_unit_interval(name):
    distribution = registry.create("times", name)
    for dtype in (torch.float32, DOUBLE):
        t = distribution.quantile(torch.linspace(0, 1, 1001, dtype=dtype))
        assert t.dtype == dtype and t.min() >= 0 and t.max() <= 1 and (t.diff() >= 0).all()
        # what is told by noise levels or by steps of a chain may keep away from an end
        assert name in ("discrete", "edm", "log-snr") or (t[0] == 0 and t[-1] == 1)


def test_rounding_takes_no_time_below_zero():
    for a in torch.linspace(0.1, 30, 100).tolist():
        assert UShaped(a).quantile(torch.zeros(1)) >= 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, DOUBLE])
def test_times_keep_away_from_open_ends_only(dtype):
    like, distribution = torch.zeros(1000, dtype=dtype), Late(200.0)
    for open_ends in ((False, False), (True, False), (False, True), (True, True)):
        for t in (
            distribution.draw(like, Step(generator=gen()), 1e-5, open_ends),
            At(0.0).draw(like, Step(), 1e-5, open_ends),
        ):
            assert bool((t == 0).any()) <= (not open_ends[0]) and bool((t == 1).any()) <= (not open_ends[1])
            assert t.min() >= 0 and t.max() <= 1
    assert float(distribution.draw(like, Step(generator=gen()), 0.2, (True, True)).max()) == pytest.approx(
        0.8, abs=1e-3
    )
    u = torch.linspace(0, 1, 7, dtype=DOUBLE)
    plain, squeezed = (
        Late().draw(u, Step(generator=gen()), 0.1, open_ends) for open_ends in ((False, False), (True, False))
    )
    # affinely, so that the distribution within the interval keeps its shape
    assert torch.allclose(squeezed, 0.1 + 0.9 * plain)


# -- flow matching: open ends, weights, pseudo-Huber --------------------------------------------------


@pytest.mark.parametrize("t", [0.0, 1.0])
@pytest.mark.parametrize(
    "path", [Interpolant(VariancePreserving()), Interpolant(gamma=Brownian()), Interpolant(Polynomial(0.5))]
)
def test_flow_matching_keeps_its_times_from_open_ends(path, t):
    rows = tuple(Rows(x) for x in torch.randn(2, 32, 2, generator=gen()))
    loss = FlowMatching(path, times=At(t)).loss(nn.ModuleDict({"field": Recorder()}), Batch(rows), Step())
    is_open = path.open_ends[round(t)]
    assert loss.value.isfinite()
    assert torch.allclose(known(loss.t), torch.tensor(abs(t - 1e-5) if is_open else t), atol=1e-7, rtol=0)


def rows_between(count: int = 200) -> Batch:
    x0, x1 = torch.randn(2, count, 3, dtype=DOUBLE, generator=gen(4))
    return Batch((Rows(x0), Rows(2 * x1 + 1)))


class Converted(nn.Module):
    """One and the same guess of the data, told in another prediction."""

    def __init__(self, kind, path):
        super().__init__()
        self.kind, self.path = kind, path

    def forward(self, t, x, condition=None):
        c = self.path.coefficients(expand_time(t, x))
        return from_velocity(self.kind, to_velocity("data", x.sin(), x, c), x, c)


@pytest.mark.parametrize(
    "path", [Interpolant(), Interpolant(gamma=Quadratic()), Interpolant(VariancePreserving())]
)
def test_min_snr_weighs_every_prediction_alike(path):
    weighting = MinSNR(3.0)
    losses = {}
    for kind in PREDICTIONS:
        objective = FlowMatching(path, kind, weighting=weighting)
        models = nn.ModuleDict({"field": Converted(kind, path)})
        losses[kind] = objective.loss(models, rows_between(), Step(generator=gen(5)))
    plain = FlowMatching(path, "data").loss(
        nn.ModuleDict({"field": Converted("data", path)}), rows_between(), Step(generator=gen(5))
    )
    c = path.coefficients(plain.t)
    snr = (c.alpha / c.noise_scale).square()
    assert (snr < 3).any() and (snr > 3).any()
    expected = snr.clamp(max=3.0) * plain.per_sample
    for kind, loss in losses.items():
        if path.noisy and kind == "velocity":
            # with noise besides the source the velocity of a pair is no function of x_t and its data
            continue
        assert torch.allclose(loss.per_sample, expected, rtol=1e-8), kind
        assert float(loss.value) == pytest.approx(float(expected.mean()))


def test_a_power_turns_the_loss_of_data_into_that_of_velocity():
    path = Interpolant()

    def losses(kind, weighting):
        models = nn.ModuleDict({"field": Converted(kind, path)})
        objective = FlowMatching(path, kind, weighting=weighting, times=LogitNormal(std=0.5))
        return objective.loss(models, rows_between(), Step(generator=gen(5))).per_sample

    velocity = losses("velocity", lambda t: torch.where(t < 0, 0.0, 1.0))
    assert torch.equal(velocity, losses("velocity", None))
    assert torch.equal(velocity, losses("velocity", Equal()))
    # the margin at the end where the weight is infinite moves the times by up to 1e-5
    assert torch.allclose(losses("data", Power(late=-2)), velocity, rtol=1e-3)
    assert FlowMatching(weighting=Power(late=-2)).open_ends == (False, True)
    assert torch.allclose(losses("data", lambda t: (1 - t) ** -2.0), velocity, rtol=1e-8)


def test_min_snr_needs_an_interpolant():
    objective = FlowMatching(MapPath(lambda t, x0, x1: (1 - t) * x0 + t * x1), weighting=MinSNR())
    with pytest.raises(ValueError, match="weighting: min-snr needs an interpolant"):
        objective.loss(nn.ModuleDict({"field": Recorder()}), rows_between(), Step())


def test_pseudo_huber_is_scipys():
    error = (
        torch.randn(50, 2, 3, dtype=DOUBLE, generator=gen())
        * torch.logspace(-6, 3, 50, dtype=DOUBLE)[:, None, None]
    )
    norm = error.flatten(1).norm(dim=1)
    for constant in (0.00054, 0.3):
        c = 6 * constant
        truth = special.pseudo_huber(c, norm.numpy()) / c / 6
        # SciPy's form loses the digits of errors far below c
        assert np.allclose(pseudo_huber(error, constant).numpy(), truth, rtol=1e-7, atol=1e-16)
    small = torch.full((1, 3), 1e-4)  # in single precision, of |r|^2 far below the digits of c^2
    assert torch.allclose(pseudo_huber(small, 0.3).double(), pseudo_huber(small.double(), 0.3), rtol=1e-5)
    zero = torch.zeros(2, 3, requires_grad=True)
    pseudo_huber(zero, 0.1).sum().backward()
    assert not known(zero.grad).any()


def test_pseudo_huber_looks_at_valid_elements_only():
    error = torch.randn(5, 4, 2, dtype=DOUBLE, generator=gen())
    mask = torch.tensor([True, True, False, True]).expand(5, 4)
    assert torch.allclose(pseudo_huber(error, 0.1, mask), pseudo_huber(error[:, [0, 1, 3]], 0.1))
    assert not pseudo_huber(error, 0.1, torch.zeros(5, 4, dtype=torch.bool)).any()


def test_flow_matching_descends_the_pseudo_huber_loss():
    batch = rows_between()
    models = nn.ModuleDict({"field": Recorder()})
    plain, huber, weighted = (
        FlowMatching(huber=c, weighting=w).loss(models, batch, Step(generator=gen()))
        for c, w in ((None, None), (0.05, None), (0.05, lambda t: 3 * t))
    )
    square = 3 * plain.per_sample  # |r|^2 of three elements
    expected = torch.as_tensor(special.pseudo_huber(0.15, square.sqrt().numpy()) / 0.15 / 3)
    assert torch.allclose(huber.per_sample, expected) and torch.allclose(huber.value, expected.mean())
    assert torch.allclose(weighted.per_sample, 3 * known(plain.t) * expected)
