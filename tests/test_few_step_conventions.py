"""Flow maps of MeanFlow, consistency models and sCM against closed forms in their own conventions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pushforward.fields import (
    FromConsistency,
    FromMeanFlow,
    FromTrigFlow,
    ToConsistency,
    ToMeanFlow,
    ToTrigFlow,
)
from pushforward.oracles import FlowMapOracle
from pushforward.paths import Interpolant, Karras, Linear, Trigonometric, VariancePreserving
from pushforward.random import seeded
from pushforward.sources import GaussianMixture

DOUBLE = torch.float64
NORMAL = GaussianMixture(torch.tensor([[1.3, -0.5]], dtype=DOUBLE), 0.5)


def rows(n: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    g = seeded(0)
    a, b = torch.rand(2, n, generator=g, dtype=DOUBLE).sort(0).values
    return a, b, torch.randn(n, 2, generator=g, dtype=DOUBLE)


def test_mean_flow_by_hand() -> None:
    """u of z = (1 - t) x + t e, from N(1.3, 0.5^2) at t = 0 to N(0, 1): (Z_.8 - Z_.3) / 0.5 at Z_.8 = 1."""
    oracle = FlowMapOracle(GaussianMixture(torch.tensor([[1.3]], dtype=DOUBLE), 0.5))
    u = ToMeanFlow(oracle)(torch.ones(1, 1, dtype=DOUBLE), 0.3, 0.8)
    assert u.item() == pytest.approx(-0.66622237, abs=5e-9)

    def deviation(t: float) -> float:
        return math.hypot((1 - t) * 0.5, t)

    there = 1.3 * 0.7 + deviation(0.3) / deviation(0.8) * (1 - 1.3 * 0.2)
    assert u.item() == pytest.approx((1 - there) / 0.5, abs=1e-12)


def test_mean_flow_samples_by_its_own_rule_and_returns() -> None:
    r, t, e = rows()
    oracle = FlowMapOracle(NORMAL)
    u = ToMeanFlow(oracle)
    # their sampler takes z at t to z at r, in our time from 1 - t to 1 - r
    assert torch.allclose(e - (t - r)[:, None] * u(e, r, t), oracle.jump(1 - t, 1 - r, e), atol=1e-13)
    assert torch.allclose(FromMeanFlow(u)(r, t, e), oracle(r, t, e), atol=1e-13)


def test_consistency_function_of_normal_data() -> None:
    """f(x, sigma) = x sqrt((tau^2 + eps^2) / (tau^2 + sigma^2)), Karras et al.'s path ending at eps."""
    tau, eps = 0.5, 0.002
    path = Interpolant(Karras(eps, 80.0))
    f = ToConsistency(FlowMapOracle(GaussianMixture(torch.zeros(1, 2, dtype=DOUBLE), tau), path), path)
    sigma = torch.tensor([80.0, 10.0, 0.5, 0.01, 0.002], dtype=DOUBLE)
    x = (tau**2 + sigma[:, None] ** 2).sqrt() * torch.randn(5, 2, generator=seeded(1), dtype=DOUBLE)

    def exact(x: Tensor, sigma: Tensor) -> Tensor:
        return x * ((tau**2 + eps**2) / (tau**2 + sigma[:, None] ** 2)).sqrt()

    assert torch.allclose(f(x, sigma), exact(x, sigma), rtol=1e-10)
    assert torch.allclose(f(x, eps), x, rtol=1e-12)
    back = FromConsistency(exact, path)
    s, ones = f.time_of(sigma), torch.ones(5, dtype=DOUBLE)
    assert torch.allclose(x + (1 - s)[:, None] * back(s, ones, x), exact(x, sigma), rtol=1e-10)


@pytest.mark.parametrize("schedule", [Linear(), VariancePreserving(), Trigonometric()])
def test_consistency_functions_of_other_paths(schedule) -> None:
    """The noisy data of any path are data plus noise in other units, so f is that of Karras et al.'s."""
    path = Interpolant(schedule)
    oracle = FlowMapOracle(NORMAL, path)
    sigma = torch.tensor([5.0, 1.0, 0.1], dtype=DOUBLE)
    x = torch.randn(3, 2, generator=seeded(2), dtype=DOUBLE) * sigma[:, None] + NORMAL.means
    exact = NORMAL.means + (x - NORMAL.means) * 0.5 / (0.25 + sigma[:, None] ** 2).sqrt()
    f = ToConsistency(oracle, path)
    assert torch.allclose(f(x, sigma), exact, rtol=1e-11)
    s = f.time_of(sigma)
    points, again = path.coefficients(s[:, None]).alpha * x, FromConsistency(f, path)
    assert torch.allclose(again(s, 1.0, points), oracle(s, 1.0, points), rtol=1e-9)
    assert (again(1.0, 1.0, x) == 0).all()


@pytest.mark.parametrize("deviation", [1.0, 0.4])
def test_trig_flow(deviation) -> None:
    """x_a = cos(a) x + sin(a) z with z of the deviation of the data: f and F of N(m, tau^2) by definition."""
    tau, mean = 0.5 * deviation, 0.7
    path = Interpolant(Trigonometric())
    source = GaussianMixture(torch.zeros(1, 1, dtype=DOUBLE), deviation)
    oracle = FlowMapOracle(GaussianMixture(torch.full((1, 1), mean, dtype=DOUBLE), tau), path, source)
    angle = torch.tensor([1.5, 0.8, 0.1, 1e-4], dtype=DOUBLE)
    a, x = angle[:, None], torch.randn(4, 1, generator=seeded(3), dtype=DOUBLE)
    spread = ((tau * a.cos()).square() + (deviation * a.sin()).square()).sqrt()
    f = mean + (x - mean * a.cos()) * tau / spread
    network = ToTrigFlow(oracle, deviation)
    theirs = a.cos() * x - a.sin() * deviation * network(x / deviation, angle)
    assert torch.allclose(theirs, f, rtol=1e-11)
    # at angle 0 F is the velocity of the probability flow: E[z - 0 x | x] = 0, over the deviation
    assert network(x / deviation, 0.0).abs().max() < 1e-12
    s = 1 - 2 / math.pi * angle
    assert torch.allclose(FromTrigFlow(network, deviation)(s, 1.0, x), oracle(s, 1.0, x), rtol=1e-9)
    still = torch.zeros(1, 1, dtype=DOUBLE)
    push = FromTrigFlow(lambda x, angle: torch.ones_like(x), deviation)(1.0, 1.0, still)
    assert push.item() == pytest.approx(-0.5 * math.pi * deviation)


def test_conditions_go_along() -> None:
    r, t, x = rows(4)
    label = torch.tensor([0, 1, 1, 0])
    pair = GaussianMixture(torch.tensor([[-2.0, 0.0], [2.0, 1.0]], dtype=DOUBLE), 0.5)
    oracle = FlowMapOracle(pair)
    path = Interpolant()
    assert torch.allclose(FromMeanFlow(ToMeanFlow(oracle))(r, t, x, label), oracle(r, t, x, label))
    consistent = FromConsistency(ToConsistency(oracle, path), path)
    assert torch.allclose(consistent(t, 1.0, x, label), oracle(t, 1.0, x, label), atol=1e-9)
    circle = FlowMapOracle(pair, Interpolant(Trigonometric()))
    assert torch.allclose(FromTrigFlow(ToTrigFlow(circle))(t, 1.0, x, label), circle(t, 1.0, x, label))


X = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: FromMeanFlow(lambda z, r, t: z[:1])(0.0, 1.0, X),
            r"model: expected an output like x \(3, 2\), got \(1, 2\)",
        ),
        (
            lambda: FromMeanFlow(lambda z, r, t: z)(0.0, 1.0, X, torch.zeros(3)),
            "condition: the model takes none",
        ),
        (
            lambda: FromConsistency(lambda x, sigma: x, Interpolant())(0.5, 0.9, X),
            "t: a consistency function runs to t = 1 alone, got 0.9",
        ),
        (
            lambda: FromConsistency(lambda x, sigma: x, Interpolant())(0.0, 1.0, X),
            "s: the path has no signal there",
        ),
        (
            lambda: ToConsistency(lambda s, t, x: x, Interpolant(Karras()))(X, 81.0),
            "sigma: expected noise levels from 0.002 to 80, which the path has, got 81 to 81",
        ),
        (lambda: FromTrigFlow(lambda x, angle: x)(0.5, 0.9, X), "t: a consistency function runs to t = 1"),
        (lambda: ToTrigFlow(lambda s, t, x: x, 0.0), "deviation: expected a positive number, got 0.0"),
        (lambda: FromMeanFlow(lambda z: z), "model: expected a callable"),
    ],
)
def test_bad_input_is_one_line(call, message) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
