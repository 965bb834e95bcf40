"""Schroedinger bridges: the normal one in closed form and bridge matching against it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import ot
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal
from torch import Tensor, nn
from torch.func import jacrev, vmap

from bridge_cases import DOUBLE, SIGMA, distributions, places
from pushforward.config import OptimConfig
from pushforward.couplings import Rows, SinkhornOT
from pushforward.fields import Autoguidance, BridgeField, BridgeOutput, TwoHeads
from pushforward.flows import ContinuousFlow
from pushforward.nn import MLP
from pushforward.objectives import Batch, BridgeMatching, Step
from pushforward.oracles import GaussianBridge
from pushforward.random import seeded
from pushforward.solvers import ODE, SDE, EulerMaruyama, StochasticHeun, Tsit5
from pushforward.sources import GaussianMixture, Normal
from pushforward.training import Plans, Trainer, pairs


@pytest.fixture
def bridge() -> GaussianBridge:
    return GaussianBridge(*distributions(), sigma=SIGMA)


# -- the normal bridge ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_cross_covariance_is_that_of_sinkhorn_on_a_grid(sigma) -> None:
    """Normal distributions on a fine grid, where sums are integrals to all digits."""
    m0, v0, m1, v1 = -0.3, 0.6, 0.5, 1.4
    x, y = np.linspace(m0 - 6, m0 + 6, 240), np.linspace(m1 - 9, m1 + 9, 240)
    p, q = (np.exp(-0.5 * (g - m) ** 2 / v) for g, m, v in ((x, m0, v0), (y, m1, v1)))
    cost = (x[:, None] - y[None]) ** 2
    plan = np.asarray(
        ot.sinkhorn(
            p / p.sum(),
            q / q.sum(),
            cost,
            2 * sigma**2,
            method="sinkhorn_log",
            stopThr=1e-11,
            numItermax=5000,
        )
    )
    cross = float((x - m0) @ plan @ (y - m1))
    tensor = [torch.tensor([m], dtype=DOUBLE) for m in (m0, m1)]
    found = GaussianBridge(tensor[0], v0, tensor[1], v1, sigma).cross
    assert float(found) == pytest.approx(cross, abs=1e-6)


@pytest.mark.parametrize("sigma", [0.3, 0.8, 2.0])
def test_plan_has_the_form_of_an_entropic_plan(sigma) -> None:
    """Only exp(<x0, x1> / sigma^2) joins its ends: that block of its precision is -I / sigma^2."""
    bridge = GaussianBridge(*distributions(), sigma=sigma)
    joint = torch.cat(
        [torch.cat([bridge.cov0, bridge.cross], 1), torch.cat([bridge.cross.T, bridge.cov1], 1)]
    )
    block = torch.linalg.inv(joint)[:3, 3:]
    assert torch.allclose(block, -torch.eye(3, dtype=DOUBLE) / sigma**2, atol=1e-8 / sigma**4)


def test_marginals_are_those_of_the_draws(bridge) -> None:
    n = 100_000
    for t in (0.0, 0.3, 1.0):
        x0, x, x1 = bridge.sample(t, n, seeded("draws"))
        for rows, (mean, cov) in {
            "start": (x0, bridge.marginal(0.0)),
            "middle": (x, bridge.marginal(t)),
            "end": (x1, bridge.marginal(1.0)),
        }.values():
            # five standard errors; that of a covariance is below sqrt(2 / n) of the largest variance
            assert float((rows.mean(0) - mean).abs().max()) < 5 * float(cov.diag().max() / n) ** 0.5
            assert float((torch.cov(rows.T) - cov).abs().max()) < 5 * math.sqrt(2 / n) * float(
                cov.diag().max()
            )


def test_density_and_score(bridge) -> None:
    x = places(bridge)
    for t in (0.0, 0.4, 1.0):
        mean, cov = bridge.marginal(t)
        truth = multivariate_normal(mean.numpy(), cov.numpy()).logpdf(x.numpy())
        assert np.allclose(bridge.log_prob(t, x).numpy(), truth, rtol=1e-12)
        slope = vmap(jacrev(lambda y, t=t: bridge.log_prob(t, y[None])[0]))(x)
        assert torch.allclose(bridge.score(t, x), slope, rtol=1e-10)
    many = torch.linspace(0.1, 0.9, len(x), dtype=DOUBLE)
    rows = torch.cat([bridge.score(float(t), y[None]) for t, y in zip(many, x)])
    assert torch.allclose(bridge.score(many, x), rows)


def test_continuity_equation(bridge) -> None:
    """d/dt log p + div v + v . grad log p = 0."""
    for t in (0.0, 0.35, 1.0):
        for y in places(bridge):
            rate = jacrev(lambda s, y=y: bridge.log_prob(s, y[None])[0])(torch.tensor(t, dtype=DOUBLE))
            divergence = jacrev(lambda z, t=t: bridge(t, z[None])[0])(y).trace()
            along = (bridge(t, y[None]) * bridge.score(t, y[None])).sum()
            assert float(rate + divergence + along) == pytest.approx(0, abs=1e-10)


def test_drift_has_the_marginals_of_the_bridge(bridge) -> None:
    """Means and covariances of a linear SDE obey m' = b(m), S' = J S + S J^T + sigma^2 I."""
    eye = torch.eye(3, dtype=DOUBLE)

    def rates(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        mean, cov = state
        slope = jacrev(lambda y: bridge.drift(t, y[None])[0])(mean[0])
        return bridge.drift(t, mean), slope @ cov + cov @ slope.mT + SIGMA**2 * eye

    start = (bridge.mean0[None], bridge.cov0[None])
    problem = ODE(rates, controlled=2)
    found = Tsit5(rtol=1e-10, atol=1e-10).solve(problem, start, 0.0, 1.0, [0.2, 0.5, 1.0])
    assert found.path is not None
    for t, mean, cov in zip((0.2, 0.5, 1.0), *found.path):
        truth = bridge.marginal(t)
        assert torch.allclose(mean[0], truth[0], atol=1e-8) and torch.allclose(cov[0], truth[1], atol=1e-8)


def test_drift_points_to_the_expected_end(bridge) -> None:
    """drift = E[x1 - x_t | x_t] / (1-t), by linear regression on draws."""
    n, t = 200_000, 0.6
    _, x, x1 = bridge.sample(t, n, seeded("regression"))
    ones = torch.ones(n, 1, dtype=DOUBLE)
    fit = torch.linalg.lstsq(torch.cat([x, ones], 1), (x1 - x) / (1 - t)).solution
    y = places(bridge)
    found = torch.cat([y, torch.ones(len(y), 1, dtype=DOUBLE)], 1) @ fit
    # five standard errors: the residual's deviation is below 2, a place is some 4 deviations out
    assert float((found - bridge.drift(t, y)).abs().max()) < 5 * 2 * 5 / n**0.5


def test_without_noise_it_is_optimal_transport() -> None:
    m0, a, m1, b = distributions()
    bridge = GaussianBridge(m0, a, m1, b, sigma=0.0)
    root = np.real(np.asarray(sqrtm(a.numpy())))
    inverse = np.linalg.inv(root)
    monge = torch.from_numpy(inverse @ np.real(np.asarray(sqrtm(root @ b.numpy() @ root))) @ inverse)
    x0 = places(bridge)
    found = Tsit5(rtol=1e-10, atol=1e-10).solve(bridge, x0, 0.0, 1.0).x
    assert torch.allclose(found, m1 + (x0 - m0) @ monge.T, atol=1e-7)


def test_a_point_may_be_the_source() -> None:
    """From a point the bridge is the Foellmer process, whose coupling is trivial."""
    m0, _, m1, b = distributions()
    bridge = GaussianBridge(m0, 0.0, m1, b, sigma=1.0)
    assert float(bridge.cross.abs().max()) == 0
    x0, _, x1 = bridge.sample(0.5, 10, seeded(0))
    assert torch.allclose(x0, m0.expand(10, 3)) and bool(x1.isfinite().all())
    assert torch.allclose(bridge.marginal(0.5)[1], 0.25 * b + 0.25 * torch.eye(3, dtype=DOUBLE))


def test_wrong_bridges_are_refused() -> None:
    m0, a, m1, b = distributions()
    wrong: tuple[tuple[Any, str], ...] = (
        ((m0, a, m1[:2], b), "mean0, mean1: expected one dimension and equal shapes"),
        ((m0, a[:2], m1, b), r"cov0: expected a number or shape \(3, 3\), got \(2, 3\)"),
        ((m0, a, m1, b.triu()), "cov1: expected a symmetric matrix"),
        ((m0, a, m1, -b), "cov1: expected a positive semi-definite matrix"),
        ((m0, a, m1, b, -1.0), "sigma: expected a finite number >= 0, got -1.0"),
    )
    for arguments, message in wrong:
        with pytest.raises(ValueError, match=message):
            GaussianBridge(*arguments)
    with pytest.raises(ValueError, match="t: expected a number or one for each row"):
        GaussianBridge(m0, a, m1, b).marginal(torch.ones(2, 2))


# -- bridge matching -----------------------------------------------------------------------------------


class Exact(nn.Module):
    """The two minimisers of bridge matching, by conditioning the joint normal distribution of x0, x1, x_t."""

    def __init__(self, bridge: GaussianBridge):
        super().__init__()
        self.bridge = bridge

    def forward(self, t: Tensor, x: Tensor, condition=None) -> Tensor:
        return torch.cat([self.rows(i, t, x) for i in range(2)], 1)

    def rows(self, i: int, t: Tensor, x: Tensor) -> Tensor:
        b = self.bridge
        s = torch.as_tensor(t).reshape(-1, 1, 1)
        mean, cov = b.marginal(t)
        if i == 0:  # Cov(x1 - x0, x_t)
            joint = (1 - s) * (b.cross.T - b.cov0) + s * (b.cov1 - b.cross)
            return b.mean1 - b.mean0 + (joint @ torch.linalg.solve(cov, (x - mean)[..., None]))[..., 0]
        # -Cov(z, x_t) / sqrt(t (1-t)) = -sigma
        return -b.sigma * torch.linalg.solve(cov, (x - mean)[..., None])[..., 0]


class Head(nn.Module):
    def __init__(self, bridge: GaussianBridge, i: int):
        super().__init__()
        self.exact, self.i = Exact(bridge), i

    def forward(self, t: Tensor, x: Tensor, condition=None) -> Tensor:
        return self.exact.rows(self.i, t, x)


def test_bridge_fields_are_those_of_the_oracle(bridge) -> None:
    x = places(bridge)
    t = torch.linspace(0, 1, len(x), dtype=DOUBLE)
    score = SIGMA**2 / 2 * bridge.score(t, x)
    truth: dict[BridgeOutput, Tensor] = {
        "velocity": bridge(t, x),
        "score": bridge.score(t, x),
        "drift": bridge.drift(t, x),
        "backward": bridge(t, x) - score,
    }
    for output, value in truth.items():
        two = BridgeField(Head(bridge, 0), Head(bridge, 1), sigma=SIGMA, output=output)
        one = BridgeField(Exact(bridge), sigma=SIGMA, output=output)
        assert torch.allclose(two(t, x), value, atol=1e-10)
        assert torch.allclose(one(t, x), value, atol=1e-10)
        assert torch.allclose(one(0.4, x), two(torch.tensor(0.4, dtype=DOUBLE), x))


@pytest.mark.parametrize("g", [None, 0.3, lambda t: 1.2 - t], ids=["its own", "a number", "a function"])
def test_a_flow_of_a_bridge_field_knows_its_score_and_its_processes(bridge, g) -> None:
    """Exact fields: any noise keeps the marginals, which the scores of independent pairs would not."""
    source = GaussianMixture(bridge.mean0[None], bridge.cov0[None])
    flow = ContinuousFlow(BridgeField(Head(bridge, 0), Head(bridge, 1), sigma=SIGMA), source=source)
    x, t = places(bridge), 0.4
    assert torch.allclose(flow.score(t, x), bridge.score(torch.tensor(t, dtype=DOUBLE), x), atol=1e-10)
    with pytest.raises(ValueError, match="no score, data prediction or noise"):
        flow.data(t, x)
    x0 = source.sample(5000, generator=seeded("start"))
    noisy = flow.stochastic(g, StochasticHeun(40))
    found = noisy.trajectory(x0, [0.25, 0.5, 0.75, 1.0], generator=seeded("noise")).path
    assert found is not None
    # KL of the moments of n draws is d (d + 3) / 4 n on average, 0.0009, half of chi^2_9 / n; 3 times that
    # is exceeded in one of 2,000 draws
    assert max(kl(rows, bridge, at) for at, rows in zip((0.25, 0.5, 0.75, 1.0), found)) < 0.0029


def test_guidance_of_conditions_enters_velocity_and_score_of_a_bridge() -> None:
    def field(t: Tensor, x: Tensor, condition=None) -> Tensor:
        label = torch.full((len(x),), -1) if condition is None else condition
        return torch.where(label[:, None] < 0, 0.0, 1.0) * torch.ones_like(x)

    x, label = torch.zeros(1, 2), torch.tensor([1])
    flow = ContinuousFlow(BridgeField(field, field, sigma=2.0), source=Normal(2))
    drift = flow.replace(guidance=3.0).stochastic().drift(torch.tensor(0.5), x, label)
    # velocity a + sigma (t - 1/2) e and sigma^2 / 2 score = sigma / 2 e, each three times
    torch.testing.assert_close(drift, torch.full((1, 2), 6.0))
    with pytest.raises(ValueError, match="goes with guidance that compares conditions, got Autoguidance"):
        flow.replace(guidance=Autoguidance(field, 2.0)).stochastic()


def drawn(bridge: GaussianBridge, n: int) -> Batch:
    x0, _, x1 = bridge.sample(0.0, n, seeded("pairs"))
    return Batch((Rows(x0), Rows(x1)))


def test_exact_fields_reach_the_floor_of_the_loss() -> None:
    """In one dimension the conditional variances, which no field can explain, are integrals over time."""
    tensors = [torch.tensor([m], dtype=DOUBLE) for m in (-0.3, 0.7)]
    bridge = GaussianBridge(tensors[0], 0.5, tensors[1], 1.5, SIGMA)
    a, b, c = 0.5, 1.5, float(bridge.cross)

    def variance(t: float) -> float:
        return float(bridge.marginal(t)[1])

    first = quad(lambda t: a + b - 2 * c - ((1 - t) * (c - a) + t * (b - c)) ** 2 / variance(t), 0, 1)[0]
    second = quad(lambda t: 1 - SIGMA**2 * t * (1 - t) / variance(t), 0, 1)[0]
    n = 200_000
    models = nn.ModuleDict({"field": Head(bridge, 0), "score": Head(bridge, 1)})
    objective = BridgeMatching(SIGMA)
    step = Step(generator=seeded("loss"))
    loss = objective.loss(models, drawn(bridge, n), step)
    # five standard errors; a squared normal variable has deviation sqrt(2) times its mean
    assert float(loss.terms["velocity"]) == pytest.approx(first, rel=5 * math.sqrt(2 / n) * 1.2)
    assert float(loss.terms["score"]) == pytest.approx(second, rel=5 * math.sqrt(2 / n) * 1.2)
    assert float(loss.value) == pytest.approx(float(loss.terms["velocity"] + SIGMA**2 * loss.terms["score"]))
    assert float(loss.per_sample.mean()) == pytest.approx(float(loss.value))
    together = objective.loss(
        nn.ModuleDict({"field": Exact(bridge)}), drawn(bridge, n), Step(generator=seeded("loss"))
    )
    assert torch.allclose(together.value, loss.value)


def test_loss_weighs_rows_and_hides_conditions() -> None:
    seen: list[Tensor] = []

    class Watch(nn.Module):
        def forward(self, t: Tensor, x: Tensor, condition: Tensor) -> Tensor:
            seen.append(condition)
            return torch.zeros_like(x)

    x = torch.zeros(4, 2)
    far = torch.tensor([[3.0, 3.0], [0, 0], [0, 0], [0, 0]])
    models = nn.ModuleDict({"field": Watch(), "score": Watch()})
    batch = Batch((Rows(x), Rows(far, torch.arange(4))), torch.tensor([0.0, 1.0, 1.0, 1.0]))
    loss = BridgeMatching(0.5, drop_condition=1.0).loss(models, batch, Step(generator=seeded(0)))
    assert float(loss.terms["velocity"]) == 0
    assert all((condition == -1).all() for condition in seen)
    BridgeMatching(0.5).loss(models, batch, Step(generator=seeded(0)))
    assert torch.equal(seen[-1], torch.arange(4))


def test_wrong_bridge_matching_is_refused() -> None:
    field = MLP(2)
    with pytest.raises(ValueError, match="sigma: expected a positive number, got 0"):
        BridgeMatching(0.0)
    with pytest.raises(ValueError, match="drop_condition: expected a probability"):
        BridgeMatching(1.0, drop_condition=2.0)
    with pytest.raises(ValueError, match="output: expected one of velocity, score, drift, backward"):
        BridgeField(field, field, sigma=1.0, output="speed")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="sigma: expected a positive number, got -1"):
        BridgeField(field, field, sigma=-1.0)
    with pytest.raises(ValueError, match="field: without a score network expected twice the width"):
        BridgeField(field, sigma=1.0)(0.5, torch.zeros(3, 2))


def kl(x: Tensor, bridge: GaussianBridge, t: float) -> float:
    """KL(N(moments of x) | marginal at t)."""
    x = x.double()
    mean, cov = (value.double() for value in bridge.marginal(t))
    found = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T))
    return float(torch.distributions.kl_divergence(found, torch.distributions.MultivariateNormal(mean, cov)))


@pytest.mark.slow
@pytest.mark.parametrize("heads", ["two networks", "two heads"])
def test_bridge_matching_finds_the_bridge(heads) -> None:
    """Trained on entropic plans of batches, SDE and ODE have the bridge's distributions at all times."""
    bridge = GaussianBridge(torch.zeros(2), 1.0, torch.tensor([1.0, -1.0]), 0.25, 0.5)
    source = GaussianMixture(torch.zeros(1, 2), 1.0)
    data = GaussianMixture(torch.tensor([[1.0, -1.0]]), 0.5).sample(20_000, generator=seeded("data"))
    coupling = SinkhornOT(epsilon=0.5, relative=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = nn.ModuleDict(
            {"field": MLP(2), "score": MLP(2)} if heads == "two networks" else {"field": TwoHeads(MLP(4))}
        )
    batches = pairs(source, Rows(data), coupling, size=256, plans=Plans(512))
    optim = OptimConfig(steps=500, lr=5e-3, ema=0.99)
    trainer = Trainer(BridgeMatching(0.5), models, batches, optim)
    trainer.fit(title=None)
    assert trainer.ema is not None
    ema = trainer.ema.models
    score = ema["score"] if "score" in ema else None
    x0 = source.sample(5000, generator=seeded("start"))
    times = [0.25, 0.5, 0.75, 1.0]
    with torch.no_grad():
        drift = BridgeField(ema["field"], score, sigma=0.5, output="drift")
        sde = EulerMaruyama(50).solve(SDE(drift, 0.5), x0, 0.0, 1.0, times, seeded("noise"))
        velocity = BridgeField(ema["field"], score, sigma=0.5)
        ode = Tsit5().solve(velocity, x0, 0.0, 1.0, times)
    # with independent pairs the variance at 1/2 would be that of the ends and of the Brownian bridge alone
    independent = 0.5 * bridge.mean1 + x0 * (0.25 + 0.0625 + 0.0625) ** 0.5
    assert kl(independent, bridge, 0.5) > 0.05
    for found in (sde, ode):
        assert found.path is not None
        # the floor of 5,000 draws is d (d + 3) / 4 n = 0.0005; 500 steps of a small network reach 0.015
        assert max(kl(x, bridge, t) for t, x in zip(times, found.path)) < 0.025


def test_exact_densities_follow_from_the_bridge(bridge) -> None:
    source = GaussianMixture(bridge.mean0[None], bridge.cov0[None])
    flow = ContinuousFlow(bridge, Tsit5(rtol=1e-8, atol=1e-8), source)
    x = places(bridge)
    assert torch.allclose(flow.log_prob(x), bridge.log_prob(1.0, x), atol=1e-6)
