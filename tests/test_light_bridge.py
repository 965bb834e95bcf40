"""The light bridge against quadrature and the normal bridge in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn
from torch.func import hessian, jacrev

from bridge_cases import DOUBLE, SIGMA, distributions, places
from narrowing import wrong
from pushforward.config import OptimConfig
from pushforward.couplings import Rows
from pushforward.objectives import Batch, LightSB, LightSBPotential, Step
from pushforward.oracles import GaussianBridge
from pushforward.random import seeded
from pushforward.solvers import SDE, EulerMaruyama
from pushforward.sources import GaussianMixture
from pushforward.training import Trainer


def potential(covariance: Any = "full", sigma: float = 0.7, d: int = 2) -> LightSBPotential:
    g = seeded("potential")
    made = LightSBPotential(torch.randn(4, d, generator=g, dtype=DOUBLE), sigma, covariance, 0.4)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=g, dtype=DOUBLE))
    return made


def test_potential_is_a_mixture() -> None:
    made = potential()
    mixture = GaussianMixture(
        made.centres.detach(), made.epsilon * made._spread().detach(), made.log_weights.detach().exp()
    )
    x = torch.randn(5, 2, generator=seeded(1), dtype=DOUBLE)
    mass = made.log_weights.logsumexp(0)
    assert torch.allclose(made.log_v(x) - mass, mixture.log_prob(x), rtol=1e-10)


def test_normaliser_is_the_integral() -> None:
    made = potential("diagonal", d=1)

    def integrand(y: float, x: float) -> float:
        with torch.no_grad():
            log_v = made.log_v(torch.tensor([[y]], dtype=DOUBLE))
        return math.exp(x * y / made.epsilon + float(log_v))

    for x in (-1.0, 0.0, 1.5):
        found = float(made.log_c(torch.tensor([[x]], dtype=DOUBLE)).detach())
        assert math.exp(found) == pytest.approx(quad(integrand, -15, 15, (x,))[0], rel=1e-6)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_drift_is_that_of_a_bridge(covariance) -> None:
    """phi solves the heat equation backwards in time, and the drift is eps times its logarithm's slope."""
    made = potential(covariance)
    for t in (0.0, 0.3, 1.0):
        for y in torch.randn(4, 2, generator=seeded(2), dtype=DOUBLE):

            def log_phi(s: Tensor, z: Tensor) -> Tensor:
                return made.log_potential(s, z[None])[0]

            s = torch.tensor(t, dtype=DOUBLE)
            slope = jacrev(log_phi, 1)(s, y)
            assert torch.allclose(made.drift(s, y[None])[0], made.epsilon * slope, rtol=1e-9)
            # with log phi = l: l_t + eps/2 (laplacian l + |grad l|^2) = 0
            laplacian = hessian(log_phi, 1)(s, y).trace()
            rate = jacrev(log_phi, 0)(s, y) + made.epsilon / 2 * (laplacian + slope.square().sum())
            assert float(rate.detach()) == pytest.approx(0, abs=1e-8)
    x = torch.randn(4, 2, generator=seeded(2), dtype=DOUBLE)
    times = torch.tensor([0.1, 0.9, 0.3, 0.0], dtype=DOUBLE)
    rows = torch.cat([made.drift(t, y[None]) for t, y in zip(times, x)])
    assert torch.allclose(made.drift(times, x), rows)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_plan_has_the_moments_of_its_normaliser(covariance) -> None:
    """E[x1 | x0] = eps grad log C and Cov[x1 | x0] = eps^2 hessian log C; the SDE ends there, too."""
    made = potential(covariance)
    place = torch.tensor([0.4, -0.6], dtype=DOUBLE)
    n = 20_000
    with torch.no_grad():
        x = made.sample_plan(place.expand(n, 2), seeded("plan"))
        problem = SDE(made.drift, made.sigma)
        arrived = EulerMaruyama(100).solve(problem, place.repeat(n, 1), 0.0, 1.0, generator=seeded("w")).x

    def log_c(y: Tensor) -> Tensor:
        return made.log_c(y[None])[0]

    mean = made.epsilon * jacrev(log_c)(place).detach()
    cov = made.epsilon**2 * hessian(log_c)(place).detach()
    for found, bias in ((x, 0.0), (arrived, 0.01)):  # 100 steps of Euler-Maruyama cost 0.01
        scale = float(cov.diag().max())
        # five standard errors of n draws
        assert float((found.mean(0) - mean).abs().max()) < 5 * (scale / n) ** 0.5 + bias
        assert float((torch.cov(found.T) - cov).abs().max()) < 5 * scale * math.sqrt(2 / n) + bias


@pytest.mark.slow
@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_training_finds_the_normal_optimum(covariance) -> None:
    """With one component S = A^-1 C and r = m1 - S m0; the drift is then the oracle's."""
    d = 1 if covariance == "diagonal" else 2
    m0, a, m1, b = distributions(d, seed=3)
    bridge = GaussianBridge(m0, a, m1, b, SIGMA)
    x0, _, x1 = bridge.sample(0.0, 4000, seeded("rows"))
    # whiten the draws, so that their moments are exact and the optimum is known without sampling error
    exact = []
    for x, m, v in ((x0, m0, a), (x1, m1, b)):
        white = torch.linalg.solve_triangular(
            torch.linalg.cholesky(torch.cov(x.T, correction=0).reshape(d, d)), (x - x.mean(0)).T, upper=False
        )
        exact.append(m + (torch.linalg.cholesky(v) @ white).T)
    made = LightSBPotential(m1[None] + 0.5, SIGMA, covariance)

    class Whole:
        size = 4000

        def rows(self, rank: int, world: int) -> tuple[int, int]:
            return 0, self.size

        def close(self) -> None:
            """It holds nothing open."""

        def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
            return Batch((Rows(exact[0]), Rows(exact[1])))

    optim = OptimConfig(steps=400, lr=0.05, ema=0.0)
    Trainer(LightSB(), nn.ModuleDict({"potential": made}), Whole(), optim).fit(title=None)
    slope = torch.linalg.solve(bridge.cov0, bridge.cross).T
    spread = made._spread().detach().reshape(d, d)
    assert torch.allclose(spread, slope, atol=1e-3)
    assert torch.allclose(made.centres.detach()[0], m1 - slope @ m0, atol=2e-3)
    x = places(bridge)
    for t in (0.0, 0.5, 1.0):
        assert torch.allclose(made.drift(t, x), bridge.drift(t, x), atol=2e-2)


def test_small_noise_does_no_harm() -> None:
    made = LightSBPotential(torch.randn(5, 3, generator=seeded(0)), 1e-3)
    x = torch.randn(6, 3, generator=seeded(1))
    values = [made.log_c(x), made.log_v(x), made.sample_plan(x, seeded(2)), made.drift(0.5, x)]
    assert all(bool(value.isfinite().all()) for value in values)
    batch = Batch((Rows(x), Rows(x + 1)), torch.tensor([1.0, 0, 0, 0, 0, 0]))
    loss = LightSB().loss(nn.ModuleDict({"potential": made}), batch, Step())
    loss.value.backward()
    assert float(loss.value.detach()) == pytest.approx(
        float((made.log_c(x[:1]) - made.log_v(x[:1] + 1)).detach()), rel=1e-5
    )
    assert made.centres.grad is not None and bool(made.centres.grad.isfinite().all())


def test_events_of_any_shape_and_wrong_potentials() -> None:
    made = LightSBPotential(torch.zeros(3, 2, 2))
    x = torch.ones(5, 2, 2)
    assert made.drift(0.5, x).shape == made.sample_plan(x, seeded(0)).shape == x.shape
    with pytest.raises(ValueError, match=r"x: expected events of shape \(2, 2\), got \(5, 2\)"):
        made.log_c(torch.ones(5, 2))
    with pytest.raises(ValueError, match="covariance: expected diagonal or full"):
        LightSBPotential(torch.zeros(3, 2), covariance=wrong("round"))
    with pytest.raises(ValueError, match="spread: expected a positive number"):
        LightSBPotential(torch.zeros(3, 2), spread=0.0)
    with pytest.raises(ValueError, match=r"centres: expected shape \(K, \*event\)"):
        LightSBPotential(torch.zeros(3))
    with pytest.raises(ValueError, match="sigma: expected a positive number"):
        LightSBPotential(torch.zeros(3, 2), sigma=0.0)
