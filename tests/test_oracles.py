"""The mixture oracle against autograd, and continuous flows against the mixture's exact density."""

from __future__ import annotations

import pytest
import torch
from torch.func import jacrev, vmap

from effort import first
from narrowing import known
from pushforward import registry
from pushforward.entries import SCHEDULES
from pushforward.fields import PREDICTIONS, Guided, Parameterised, from_velocity, to_velocity
from pushforward.flows import ContinuousFlow
from pushforward.oracles import GaussianMixtureOracle
from pushforward.paths import (
    Brownian,
    Interpolant,
    Quadratic,
    SineSquared,
    Trigonometric,
    VariancePreserving,
)
from pushforward.solvers import Tsit5
from pushforward.sources import GaussianMixture, Normal

DOUBLE = torch.float64


PATHS = {name: Interpolant(registry.create("path", name)) for name in SCHEDULES} | {
    "linear, gamma 0.1": Interpolant(gamma=0.1),
    "linear, brownian": Interpolant(gamma=Brownian(0.5)),
    "trig, quadratic": Interpolant(Trigonometric(), Quadratic()),
    "vp, sine": Interpolant(VariancePreserving(), SineSquared()),
}


@pytest.fixture(params=list(PATHS))
def path(request) -> Interpolant:
    return PATHS[request.param]


@pytest.fixture
def mixture() -> GaussianMixture:
    """Five full-covariance components in 3-D, of unequal weight."""
    g = torch.Generator().manual_seed(0)
    means = 2 * torch.randn(5, 3, generator=g, dtype=DOUBLE)
    roots = 0.3 * torch.randn(5, 3, 3, generator=g, dtype=DOUBLE)
    covariances = roots @ roots.mT + 0.05 * torch.eye(3, dtype=DOUBLE)
    return GaussianMixture(means, covariances, [1.0, 2.0, 3.0, 1.0, 0.5], [0, 0, 1, 1, 2])


def points(n: int = 64, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    t = 0.02 + 0.96 * torch.rand(n, generator=g, dtype=DOUBLE)
    return t, 2 * torch.randn(n, 3, generator=g, dtype=DOUBLE)


def test_log_density_is_that_of_scipy(mixture):
    from scipy.stats import multivariate_normal

    x = points()[1]
    covariances = mixture.axes @ torch.diag_embed(mixture.variances) @ mixture.axes.mT
    weights = mixture.log_weights.exp()
    truth = sum(
        w.item() * multivariate_normal(m.numpy(), c.numpy()).pdf(x.numpy())
        for w, m, c in zip(weights, mixture.means, covariances)
    )
    assert torch.allclose(mixture.log_prob(x).exp(), torch.as_tensor(truth), rtol=1e-12)


def test_samples_have_the_moments_of_the_mixture(mixture):
    x = mixture.sample(200_000, generator=torch.Generator().manual_seed(3))
    weights = mixture.log_weights.exp()
    mean = weights @ mixture.means
    # five standard errors of a mean of 200,000 draws
    assert ((x.mean(0) - mean).abs() < 5 * x.std(0) / len(x) ** 0.5).all()
    only = mixture.sample(1000, torch.full((1000,), 2), torch.Generator().manual_seed(3))
    assert (only.mean(0) - mixture.means[4]).abs().max() < 0.2


def test_predictions_agree_with_autograd_of_the_log_density(mixture, path):
    """Tweedie: data and noise follow from the score, the score from autograd of log p_t."""
    oracle = GaussianMixtureOracle(mixture, path)
    t, x = points()
    x.requires_grad_()
    (score,) = torch.autograd.grad(oracle.log_prob(t, x).sum(), x)
    c = path.coefficients(t[:, None])
    noise = -c.noise_scale * score
    data = (x + c.noise_scale.square() * score) / c.alpha
    velocity = c.d_alpha * data + c.d_noise_scale * noise
    angle = torch.atan2(c.noise_scale, c.alpha)
    v = angle.cos() * noise - angle.sin() * data
    for name, truth in {"score": score, "noise": noise, "data": data, "v": v}.items():
        assert torch.allclose(getattr(oracle, name)(t, x), truth, rtol=0, atol=1e-10), name
    assert torch.allclose(oracle(t, x), velocity, rtol=0, atol=1e-10)


def test_continuity_equation(mixture, path):
    """d/dt log p + div u + u . grad log p = 0, every derivative by autograd."""
    oracle = GaussianMixtureOracle(mixture, path)
    t, x = points()
    t.requires_grad_()
    x.requires_grad_()
    log_p = oracle.log_prob(t, x)
    d_t, score = torch.autograd.grad(log_p.sum(), (t, x))
    u = oracle(t, x)
    divergence = vmap(lambda s, y: jacrev(lambda z: oracle(s, z[None])[0])(y).diagonal().sum())(t, x)
    residual = d_t + divergence + (u * score).sum(1)
    assert residual.abs().max() < 1e-9


def test_conditional_velocity_averages_to_the_marginal_one(mixture, path):
    """E[dx_t/dt | x_t = x], by weighting draws of x1 with the exact conditional density of x given x1.

    The noise given (x, x1) is (x - alpha x1) / s for gamma = 0, so the average is over x1 alone.
    """
    if path.noisy:
        c_path = Interpolant(path.schedule)
    else:
        c_path = path
    oracle = GaussianMixtureOracle(mixture, c_path)
    x1 = mixture.sample(400_000, generator=torch.Generator().manual_seed(5))
    t, x = torch.tensor(0.4, dtype=DOUBLE), torch.tensor([[0.3, -0.5, 0.2]], dtype=DOUBLE)
    c = c_path.coefficients(t)
    x0 = (x - c.alpha * x1) / c.sigma
    weight = torch.softmax(-0.5 * x0.square().sum(1), 0)
    velocity = known(c_path.sample(t, x0, x1).velocity)
    mean = weight @ velocity
    deviation = (weight.square() @ (velocity - mean).square()).sqrt()
    # six standard errors of a self-normalised importance average
    assert ((mean - oracle(t, x)[0]).abs() < 6 * deviation).all()


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_conversions_round_trip_through_every_prediction(mixture, path, kind):
    oracle = GaussianMixtureOracle(mixture, path)
    t, x = points()
    c = path.coefficients(t[:, None])
    truth = oracle(t, x) if kind == "velocity" else getattr(oracle, kind)(t, x)
    assert torch.allclose(from_velocity(kind, oracle(t, x), x, c), truth, rtol=0, atol=1e-10)
    assert torch.allclose(to_velocity(kind, truth, x, c), oracle(t, x), rtol=0, atol=1e-10)
    if kind != "velocity":
        field = Parameterised(getattr(oracle, kind), kind, path)
        assert torch.allclose(field(t, x), oracle(t, x), rtol=0, atol=1e-10)


def fixed_flow() -> tuple[ContinuousFlow, GaussianMixture]:
    g = torch.Generator().manual_seed(2)
    mixture = GaussianMixture(
        3 * torch.randn(6, 2, generator=g, dtype=DOUBLE), 0.5, labels=[0, 0, 0, 1, 1, 1]
    )
    source = Normal(2).double()
    return ContinuousFlow(GaussianMixtureOracle(mixture), Tsit5(rtol=1e-9, atol=1e-9), source), mixture


@pytest.mark.parametrize("inference", first([True, False]))
def test_log_prob_through_the_ode_is_the_mixtures(inference):
    flow, mixture = fixed_flow()
    x = mixture.sample(1000, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode(inference):
        assert (flow.log_prob(x) - mixture.log_prob(x)).abs().max() < 1e-6
        labels = torch.arange(1000) % 2
        error = flow.log_prob(x, labels) - mixture.log_prob(x, labels)
        assert error.abs().max() < 1e-6


def test_push_and_pull_are_inverse():
    flow, mixture = fixed_flow()
    x = mixture.sample(1000, generator=torch.Generator().manual_seed(8))
    z = flow.source.sample(1000, generator=torch.Generator().manual_seed(9))
    assert (flow.push(flow.pull(x)) - x).abs().max() < 1e-6
    assert (flow.pull(flow.push(z)) - z).abs().max() < 1e-6


def test_samples_and_their_density_agree_with_log_prob():
    flow, mixture = fixed_flow()
    x, log_p = flow.sample_and_log_prob(500, generator=torch.Generator().manual_seed(0))
    assert (log_p - mixture.log_prob(x)).abs().max() < 1e-6
    assert torch.equal(log_p, flow.sample_and_log_prob(500, generator=torch.Generator().manual_seed(0))[1])


def test_guidance_moves_the_end_point_by_the_closed_form():
    """Conditional N(mu, 1), unconditional N(0, 1): the guided flow ends at x0 + w mu for every x0."""

    class Field(torch.nn.Module):
        def forward(self, t, x, condition=None):
            present = 0.0 if condition is None else (condition >= 0).to(x)[:, None]
            oracle = GaussianMixtureOracle(GaussianMixture(torch.tensor([[0.0]], dtype=DOUBLE), 1.0))
            return oracle(t, x) + present * self.shift(t, x)

        def shift(self, t, x):
            moved = GaussianMixtureOracle(GaussianMixture(torch.tensor([[1.5]], dtype=DOUBLE), 1.0))
            still = GaussianMixtureOracle(GaussianMixture(torch.tensor([[0.0]], dtype=DOUBLE), 1.0))
            return moved(t, x) - still(t, x)

    x0 = torch.randn(10, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(10, dtype=torch.long)
    for weight in (0.0, 1.0, 2.5):
        solver = Tsit5(rtol=1e-10, atol=1e-10)
        flow = ContinuousFlow(Field(), solver, Normal(1).double(), guidance=weight)
        assert torch.allclose(flow.push(x0, labels), x0 + 1.5 * weight, atol=1e-7)
    field = Field()
    t = torch.tensor(0.3, dtype=DOUBLE)
    assert torch.equal(Guided(field, 0.0)(t, x0, labels), field(t, x0, None))
