"""Conversions among predictions against the oracle and its log-density, inside and at both ends."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from pushforward import registry
from pushforward.entries import SCHEDULES
from pushforward.fields import (
    PREDICTIONS,
    OfNormalData,
    Parameterised,
    Preconditioned,
    Prediction,
    Scaled,
    ScheduleChange,
    convert,
)
from pushforward.flows import ContinuousFlow
from pushforward.oracles import GaussianMixtureOracle, OracleOutput
from pushforward.paths import (
    Brownian,
    Interpolant,
    Schedule,
    SineSquared,
    VarianceExploding,
    check_rising,
    log_snr,
)
from pushforward.solvers import Dopri5
from pushforward.sources import GaussianMixture

DOUBLE = torch.float64
PATHS = {name: Interpolant(registry.create("path", name)) for name in SCHEDULES}
PAIRS = list(itertools.permutations(PREDICTIONS, 2))
#: Paths at whose end the noise vanishes with infinite slope.
STEEP = {name: path for name, path in PATHS.items() if path.open_ends[1]}
STEEP["ve, clean"] = Interpolant(VarianceExploding(0.05, 8.0, clean=True))
STEEP["brownian"] = Interpolant(gamma=Brownian(0.5))
#: Near both ends, where one formula or another divides by little.
TIMES = torch.tensor([1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 1 - 1e-3], dtype=DOUBLE)


def oracle(path: Interpolant) -> GaussianMixtureOracle:
    means = torch.tensor([[-1.0, 0.5], [1.0, 1.0], [0.0, -1.5]], dtype=DOUBLE)
    covariances = torch.tensor([[[0.5, 0.2], [0.2, 0.3]]], dtype=DOUBLE).expand(3, 2, 2)
    return GaussianMixtureOracle(GaussianMixture(means, covariances, [1.0, 2.0, 3.0]), path)


def points(path: Interpolant, times: torch.Tensor = TIMES) -> tuple[torch.Tensor, torch.Tensor]:
    """Times and rows of the path's own marginals."""
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(len(times), 2, generator=generator, dtype=DOUBLE)
    x1 = oracle(path).mixture.sample(len(times), generator=generator)
    return times, path.sample(times, x0, x1).x


@pytest.mark.parametrize("name", PATHS)
def test_every_conversion_is_the_oracles(name: str) -> None:
    path = PATHS[name]
    truth, (t, x) = oracle(path), points(path)
    c = path.coefficients(t[:, None])
    # rounding of a noise is divided by alpha, which starts at 1e-6 for a quadratic schedule, and that of data
    # by s^2 in a score, where sub-vp has s = 1e-4
    tolerance = 1e-10 + 8 * torch.finfo(DOUBLE).eps * (1 / c.alpha + 1 / c.noise_scale.square())
    for old, new in PAIRS:
        value, wanted = OracleOutput(truth, old)(t, x), OracleOutput(truth, new)(t, x)
        scale = 1 + wanted.abs().amax(1, keepdim=True)
        assert ((convert(value, x, c, old, new) - wanted).abs() < tolerance * scale).all(), (old, new)


@pytest.mark.parametrize("name", PATHS)
def test_every_conversion_comes_back(name: str) -> None:
    """To 1e-10 in units of the prediction, at 200 points of each time from 0.001 to 0.999.

    Less is left only where the value between has been rounded: a noise to eps, of which the data are a
    multiple by 1 / alpha (1e6 at the start of a quadratic schedule), or data, in which alpha data = x + s^2
    score holds the score to eps / s^2 (1e8 at the end of sub-vp).
    """
    path = PATHS[name]
    t = torch.cat([TIMES, torch.linspace(0.02, 0.98, 49, dtype=DOUBLE)]).repeat_interleave(200)
    truth, (t, x) = oracle(path), points(path, t)
    c = path.coefficients(t[:, None])
    for old, new in PAIRS:
        value = OracleOutput(truth, old)(t, x)
        back = convert(convert(value, x, c, old, new), x, c, new, old)
        rounded = 2 * torch.finfo(DOUBLE).eps * (1 + x.abs().amax(1, keepdim=True))
        lost = {"noise": rounded / c.alpha, "score": rounded / c.alpha}
        if old == "score":
            lost = {"data": rounded / c.noise_scale.square()}
        error = (back - value).abs() / (1 + value.abs().amax(1, keepdim=True))
        tolerance = lost.get(new, torch.zeros_like(c.alpha)).clamp(min=1e-10)
        assert (error < tolerance).all(), (old, new, float(error.max()))


@pytest.mark.parametrize("name", PATHS)
def test_the_score_from_the_velocity_is_autograds(name: str) -> None:
    path = PATHS[name]
    truth, (t, x) = oracle(path), points(path)
    score = Parameterised(truth, "velocity", path, "score")(t, x)
    x.requires_grad_()
    (wanted,) = torch.autograd.grad(truth.log_prob(t, x).sum(), x)
    assert ((score - wanted).abs() / (1 + wanted.abs())).max() < 1e-9


@pytest.mark.parametrize("name", [name for name in PATHS if not PATHS[name].open_ends[1]])
def test_at_the_clean_end_everything_but_the_score_is_known_from_x(name: str) -> None:
    """Against the oracle as near to t = 1 as double precision is exact, with an error of the order of s."""
    path, near = PATHS[name], torch.tensor(1 - 1e-8, dtype=DOUBLE)
    x = points(path)[1]
    end = torch.ones(1, 1, dtype=DOUBLE)
    c = path.coefficients(end)
    if c.noise_scale.item() > 0:  # it ends with noise, where all is as inside
        return
    truth = oracle(path)
    for old, new in PAIRS:
        if "score" in (old, new):
            continue
        value = OracleOutput(truth, old)(near, x)
        found = convert(value, x, c, old, new)
        assert torch.allclose(found, OracleOutput(truth, new)(near, x), rtol=0, atol=1e-5), (old, new)
    assert not convert(x, x, c, "data", "score").isfinite().any()


def test_at_the_noisy_end_noise_and_score_follow_from_all_and_nothing_else_from_them() -> None:
    truth, t = oracle(PATHS["linear"]), torch.zeros((), dtype=DOUBLE)
    x = points(PATHS["linear"])[1]
    c = PATHS["linear"].coefficients(t.reshape(1, 1))
    for old, new in PAIRS:
        value, wanted = OracleOutput(truth, old)(t, x), OracleOutput(truth, new)(t, x)
        found = convert(value, x, c, old, new)
        known = old in ("data", "velocity", "v") or new in ("noise", "score")
        assert torch.allclose(found, wanted, atol=1e-12) if known else not found.isfinite().any(), (old, new)


@pytest.mark.parametrize("name", STEEP)
def test_where_the_noise_ends_with_infinite_slope_score_and_velocity_have_their_limits(name: str) -> None:
    """Against autograd's score of the mixture, and the velocity as near to t = 1 as it is exact."""
    path, end = STEEP[name], torch.ones((), dtype=DOUBLE)
    assert path.open_ends[1]
    truth, (_, x) = oracle(path), points(path)
    x.requires_grad_()
    (score,) = torch.autograd.grad(truth.mixture.log_prob(x).sum(), x)
    x = x.detach()
    assert torch.allclose(truth.score(end, x), score, rtol=1e-12)
    velocity, c = truth(end, x), path.coefficients(end.reshape(1, 1))
    # the velocity changes by about its slope times 1e-6
    assert torch.allclose(velocity, truth(end - 1e-6, x), rtol=1e-4, atol=1e-4)
    assert torch.allclose(convert(score, x, c, "score", "velocity"), velocity, rtol=1e-12, atol=1e-12)
    assert torch.allclose(convert(velocity, x, c, "velocity", "score"), score, rtol=1e-12, atol=1e-12)
    for kind in ("data", "noise", "v"):
        wanted = OracleOutput(truth, kind)(end, x)
        assert torch.allclose(convert(velocity, x, c, "velocity", kind), wanted, atol=1e-12)
        # which say nothing of how the noise ends
        assert not convert(wanted, x, c, kind, "velocity").isfinite().any()
        assert not convert(wanted, x, c, kind, "score").isfinite().any()


def test_a_flow_evaluates_the_velocity_where_the_noise_ends() -> None:
    """The fifth stage of Dopri5 is at t = 1, where the velocity was nan."""
    truth = oracle(STEEP["vp"])
    start = truth.path.ends()[0]
    flow = ContinuousFlow(
        truth,
        Dopri5(rtol=1e-8, atol=1e-8),
        truth.mixture.convolved(float(start.target_scale), float(start.source_scale)),
        path=truth.path,
    )
    x = truth.mixture.sample(20, generator=torch.Generator().manual_seed(1))
    # the source stands for what the path has at t = 0, with a rest of the data; and near t = 1 the
    # velocity is smooth in 1 - t
    assert torch.allclose(flow.log_prob(x), truth.mixture.log_prob(x), atol=1e-5)
    assert torch.allclose(flow.data(1.0, x), x)


@pytest.mark.parametrize("name", ["linear", "vp", "ve", "ddpm"])
def test_the_prediction_of_normal_data_is_the_oracles(name: str) -> None:
    path = PATHS[name]
    truth = GaussianMixtureOracle(GaussianMixture(torch.zeros(1, 2, dtype=DOUBLE), 1.0).double(), path)
    t, x = points(path)
    for kind in PREDICTIONS:
        found, wanted = OfNormalData(path, kind)(t, x), OracleOutput(truth, kind)(t, x)
        assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-10), kind


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, DOUBLE])
def test_the_dtype_is_that_of_the_input(dtype: torch.dtype) -> None:
    t, x = torch.tensor([0.0, 0.5, 1.0], dtype=dtype), torch.ones(3, 2, dtype=dtype)
    for old, new in itertools.product(PREDICTIONS, PREDICTIONS):
        assert Parameterised(lambda t, x: x, old, Interpolant(), new)(t, x).dtype == dtype


class Own(Schedule):
    """alpha and sigma by two functions of t."""

    def __init__(self, alpha, sigma):
        self.alpha, self.sigma = alpha, sigma

    def __call__(self, t):
        values = []
        for function in (self.alpha, self.sigma):
            with torch.enable_grad():
                s = t.detach().clone().requires_grad_()
                value = function(s) + 0 * s
                values.append((value.detach(), torch.autograd.grad(value.sum(), s)[0]))
        (alpha, d_alpha), (sigma, d_sigma) = values
        return alpha, sigma, d_alpha, d_sigma


@pytest.mark.parametrize(
    ("alpha", "sigma", "text"),
    [
        (lambda t: t + 0.5 * (2 * math.pi * t).sin(), lambda t: 2 - t, "alpha falls at t = 0.3"),
        (lambda t: t, lambda t: 0.1 + t**2, "the noise scale grows at t = 0.3"),
        (lambda t: 1 - 0.5 * t, lambda t: 1 - 0.1 * t, "alpha falls at t = 0.000977"),
        (lambda t: 1 + 0 * t, lambda t: 1 + 0 * t, "alpha / sigma does not rise at t = 0.000977"),
    ],
)
def test_a_schedule_that_turns_is_refused_where_the_velocity_is_converted(alpha, sigma, text: str) -> None:
    path = Interpolant(Own(alpha, sigma))
    wanted = (
        f"path: expected alpha that rises and sigma that falls from t = 0 to t = 1, got a Own where {text}"
    )
    with pytest.raises(ValueError, match=wanted):
        Parameterised(lambda t, x: x, "velocity", path, "score")
    # a velocity from data or noise needs no such thing
    Parameterised(lambda t, x: x, "noise", path)


def test_noise_that_grows_more_slowly_than_the_signal_is_no_mistake() -> None:
    assert check_rising(Interpolant(gamma=SineSquared(0.1))).affine
    with pytest.raises(ValueError, match="the noise scale grows"):
        check_rising(Interpolant(gamma=SineSquared(5.0)))


@pytest.mark.parametrize(("old", "new", "name"), [("speed", "data", "old"), ("data", "speed", "new")])
def test_an_unknown_prediction_is_named(old: Prediction, new: Prediction, name: str) -> None:
    x = torch.zeros(1, 1)
    with pytest.raises(ValueError, match=f"{name}: expected one of velocity, data, .*, got 'speed'"):
        convert(x, x, Interpolant().coefficients(x), old, new)
    wrong: Any = ["data"]  # a list, which no table has among its keys
    with pytest.raises(ValueError, match=r"old: expected one of velocity, data, .*, got \['data'\]"):
        convert(x, x, Interpolant().coefficients(x), wrong, "data")


@pytest.mark.parametrize("new", PATHS)
@pytest.mark.parametrize("old", ["linear", "vp", "edm"])
def test_a_field_along_one_path_is_the_oracles_along_another(old: str, new: str) -> None:
    (t, x), path = points(PATHS[new]), PATHS[new]
    level = log_snr(path, t)
    low, high = log_snr(PATHS[old], torch.tensor([1e-4, 1 - 1e-4], dtype=DOUBLE)).tolist()
    inside = (level > low) & (level < high)
    t, x = t[inside], x[inside]
    assert len(t) >= 3
    found = ScheduleChange(oracle(PATHS[old]), PATHS[old], path)(t, x)
    wanted = oracle(path)(t, x)
    assert ((found - wanted).abs() <= 1e-7 * (1 + wanted.abs().amax(1, keepdim=True))).all()


def test_preconditioning_is_a_v_prediction_of_a_scaled_input() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
    path = PATHS["edm"]
    t, x = points(path)
    c = path.coefficients(t[:, None])
    v = Scaled(lambda t, x: -net(x), path)(t, x)
    wanted = convert(v, x, c, "v", "data")
    assert torch.allclose(Preconditioned(lambda t, x: net(x), path)(t, x), wanted)


def test_preconditioning_is_that_of_edm() -> None:
    """Table 1 of Karras et al. 2022, for sigma_data = 0.5."""
    path, seen = PATHS["edm"], []

    def network(noise, x):
        seen.append((noise, x))
        return torch.ones_like(x)

    t, x = points(path)
    sigma = path.coefficients(t).sigma[:, None]
    found = Preconditioned(network, path, 0.5)(t, x)
    r = (sigma**2 + 0.25).sqrt()
    assert torch.allclose(found, 0.25 / r**2 * x + sigma * 0.5 / r)
    assert torch.allclose(seen[0][0], 0.25 * sigma.log()[:, 0]) and torch.allclose(seen[0][1], x / r)
    Preconditioned(network, path, 0.5, as_it_is=True)(t, x)
    assert torch.equal(seen[1][0], t)
    with pytest.raises(ValueError, match="sigma_data: expected a positive number, got 0"):
        Preconditioned(network, path, 0.0)


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_what_is_right_for_normal_data_is_finite_at_both_ends(kind, t):
    x = torch.ones(1, 2, dtype=torch.float64)
    known = {"data": t, "noise": 1 - t, "score": -1.0, "v": 0.0, "velocity": 2 * t - 1}[kind]
    found = OfNormalData(Interpolant(), kind)(torch.tensor(t, dtype=torch.float64), x)
    torch.testing.assert_close(found, torch.full_like(x, known))
