"""Scores, predictions and noisy processes of a velocity field with the marginals of a path."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pushforward.bijections import Affine, Chain, Dequantise, Sigmoid
from pushforward.fields import Drift, PathDrift, ScoreFromEta
from pushforward.flows import ContinuousFlow, DiffusionFlow, Transformed, nsf
from pushforward.oracles import GaussianMixtureOracle
from pushforward.paths import (
    Brownian,
    ConstantDiffusion,
    Interpolant,
    Linear,
    LipmanOT,
    Memoryless,
    Path,
    Proportional,
    SineSquared,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
)
from pushforward.random import seeded
from pushforward.solvers import SDE, Dopri5, EulerMaruyama, Heun, StochasticHeun
from pushforward.sources import Empirical, GaussianMixture, Normal

DOUBLE = torch.float64
PATHS = {
    "linear": Interpolant(),
    "lipman": Interpolant(LipmanOT(0.1)),
    "vp": Interpolant(VariancePreserving()),
    "ve": Interpolant(VarianceExploding(0.05, 8.0)),
    "trig": Interpolant(Trigonometric()),
    "brownian": Interpolant(Linear(), Brownian(0.5)),
}
paths = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())


@pytest.fixture(scope="module")
def mixture() -> GaussianMixture:
    means = torch.tensor([[-1.5, 0.5], [1.5, -0.5]], dtype=DOUBLE)
    covariances = torch.tensor([[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]], dtype=DOUBLE)
    return GaussianMixture(means, covariances, [1.0, 2.0])


def start_of(oracle: GaussianMixtureOracle) -> Normal | GaussianMixture:
    """The exact distribution at t = 0."""
    start, _ = oracle.path.ends()
    if start.target_scale == 0:
        return Normal(2, math.hypot(start.source_scale, start.noise_scale)).double()
    return oracle.mixture.convolved(start.target_scale, math.hypot(start.source_scale, start.noise_scale))


def flow_of(mixture: GaussianMixture, path: Path) -> ContinuousFlow:
    oracle = GaussianMixtureOracle(mixture, path)
    return ContinuousFlow(oracle, Dopri5(rtol=1e-8, atol=1e-8), start_of(oracle), path=path)


@paths
def test_score_and_data_are_those_of_the_oracle(mixture, path) -> None:
    flow, x = flow_of(mixture, path), mixture.sample(7, generator=seeded("x"))
    oracle = GaussianMixtureOracle(mixture, path)
    for t in (0.1, 0.5, 0.9, torch.linspace(0.05, 0.95, 7, dtype=DOUBLE)):
        assert torch.allclose(flow.score(t, x), oracle.score(t, x), rtol=1e-9, atol=1e-9)
        assert torch.allclose(flow.data(t, x), oracle.data(t, x), rtol=1e-9, atol=1e-9)
    with torch.inference_mode():
        assert torch.equal(flow.score(0.3, x.numpy()), flow.score(0.3, x))


@pytest.mark.parametrize(
    "outer", [Affine(0.2, 3.0), Chain(Affine(0.5, 0.1), Sigmoid(-1.0, 2.0))], ids=["affine", "sigmoid"]
)
def test_the_score_in_data_units_is_the_gradient_of_the_density_there(mixture, outer) -> None:
    """At t = 1, where the path still has noise, against autograd through the density of the whole flow."""
    whole = Transformed(flow_of(mixture, PATHS["lipman"]), outer, DOUBLE)
    x = whole.sample(5, generator=seeded("x")).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(whole.log_prob(x).sum(), x)
    found = whole.score(1.0, x.detach())
    assert torch.allclose(found, gradient, rtol=1e-5, atol=1e-5) and not found.requires_grad
    with torch.inference_mode():
        assert torch.equal(whole.score(1.0, x.detach()), found)


def test_predictions_in_data_units_are_mapped_there(mixture) -> None:
    flow = flow_of(mixture, PATHS["linear"])
    whole, x = Transformed(flow, Affine(0.2, 3.0), DOUBLE), mixture.sample(5, generator=seeded("x"))
    assert torch.allclose(whole.data(0.5, 0.2 + 3.0 * x), 0.2 + 3.0 * flow.data(0.5, x))


def moments(x: Tensor, centre: Tensor) -> Tensor:
    """Per row what is averaged: mean, second moments, and the weight of the component nearest to x."""
    side = ((x @ (centre[1] - centre[0])) > 0).to(x)[:, None]
    return torch.cat([x, x.square(), x.prod(1, keepdim=True), side], 1)


def check_moments(x: Tensor, truth: Tensor, centre: Tensor, bias: float) -> None:
    """Means of moments within three standard errors of both samples and ``bias`` deviations."""
    a, b = moments(x, centre), moments(truth, centre)
    error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
    assert bool(((a.mean(0) - b.mean(0)).abs() < 3.5 * error + bias * b.std(0)).all())


@paths
@pytest.mark.parametrize("g", [None, 1.0, Memoryless()], ids=["proportional", "constant", "memoryless"])
def test_noise_keeps_the_distribution_at_every_time(mixture, path, g) -> None:
    """Mean, second moments and weights at four times; exact draws of the path are the truth."""
    n, times = 4000, [0.25, 0.5, 0.75, 1.0]
    flow = flow_of(mixture, path).stochastic(g, StochasticHeun(100))
    x0 = flow.source.sample(n, generator=seeded("start"))
    found = flow.trajectory(x0, times, generator=seeded("noise")).path
    assert found is not None
    for t, x in zip(times, found):
        c = path.coefficients(torch.tensor(t, dtype=DOUBLE))
        truth = mixture.convolved(float(c.alpha), float(c.noise_scale)) if c.noise_scale > 0 else mixture
        # 0.03: the bias of 100 steps, whose order is measured in test_sde.py
        check_moments(x, truth.sample(100_000, generator=seeded("truth")), mixture.means, 0.03)


def test_the_last_step_has_no_noise(mixture) -> None:
    """A single step goes to the mean of the data whatever the noise; with noise it would not."""
    flow = flow_of(mixture, PATHS["linear"]).stochastic(1.0, EulerMaruyama(1))
    x = flow.sample(5, generator=seeded("x"))
    mean = (mixture.log_weights.exp()[:, None] * mixture.means).sum(0)
    assert torch.allclose(x, mean.expand(5, 2), atol=1e-12)
    # 100 steps of a narrow distribution: what noise the last step would leave is sqrt(0.02) = 0.14 wide
    narrow = GaussianMixture(torch.zeros(1, 2, dtype=DOUBLE), 1e-3).double()
    drawn = flow_of(narrow, PATHS["linear"]).stochastic(None, EulerMaruyama(100)).sample(500)
    assert float(drawn.std()) < 2e-3


def test_without_noise_it_is_the_ode(mixture) -> None:
    flow = flow_of(mixture, PATHS["linear"])
    x0 = flow.source.sample(5, generator=seeded("x0"))
    found = flow.stochastic(0.0, StochasticHeun(400)).push(x0)
    assert torch.allclose(found, flow.push(x0), atol=2e-3)


def test_following_a_solver(mixture) -> None:
    flow = flow_of(mixture, PATHS["linear"])
    assert repr(flow.following(Heun(5)).solver) == "Heun(steps=5)"
    noisy = flow.following(EulerMaruyama(5))
    assert isinstance(noisy, DiffusionFlow) and repr(noisy.solver) == "EulerMaruyama(steps=5)"
    whole = Transformed(flow, Affine(0.0, 2.0)).following(EulerMaruyama(5))
    assert isinstance(whole, Transformed) and isinstance(whole.flow, DiffusionFlow)
    assert whole.sample(3).shape == (3, 2)
    with pytest.raises(ValueError, match="solves an ODE, and this flow follows an SDE"):
        noisy.following(Heun(5))
    with pytest.raises(ValueError, match="solver: a BijectiveFlow needs none"):
        nsf(2).following(Heun(5))


def test_trajectories_in_data_units_have_the_noise_of_the_generator(mixture) -> None:
    inner = flow_of(mixture, PATHS["linear"]).stochastic(1.0, EulerMaruyama(8))
    whole, x0 = Transformed(inner, Affine(0.5, 2.0), DOUBLE), torch.zeros(3, 2, dtype=DOUBLE)
    found = whole.trajectory(x0, [0.25, 1.0], generator=seeded("noise")).path
    wanted = inner.trajectory(x0, [0.25, 1.0], generator=seeded("noise")).path
    assert found is not None and wanted is not None
    assert torch.allclose(found, 0.5 + 2.0 * wanted)
    with pytest.raises(ValueError, match="expected increasing times"):
        whole.trajectory(x0, [1.0, 0.5])


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_interpolants_between_dependent_points_have_processes_both_ways(backward) -> None:
    """Correlated normal ends: b and eta are the regressions of the velocity and of the noise on x_t.

    x_t = m + L (a, b, z) is normal, so that the regressions are covariances over variances; the velocity and
    score of no independent pairs would do.
    """
    path, means, n = Interpolant(Linear(), Brownian(0.8)), torch.tensor([-1.0, 2.0], dtype=DOUBLE), 20_000
    joint = torch.tensor([[0.6, 0.3], [0.3, 0.4]], dtype=DOUBLE)

    def moments(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance of x_t, and gamma."""
        c = path.coefficients(t)
        w = torch.stack([c.sigma, c.alpha])
        return w @ means, w @ joint @ w + c.gamma.square(), c.gamma

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        c = path.coefficients(t)
        w, slope = torch.stack([c.sigma, c.alpha]), torch.stack([c.d_sigma, c.d_alpha])
        mean, variance, _ = moments(t)
        return slope @ means + (slope @ joint @ w + c.gamma_d_gamma) / variance * (x - mean)

    def eta(t: Tensor, x: Tensor) -> Tensor:
        mean, variance, gamma = moments(t)
        return gamma / variance * (x - mean)

    drift = Drift(velocity, ScoreFromEta(eta, path), lambda t: 1.2, backward)
    start, stop = (1 - 1e-6, 1e-6) if backward else (1e-6, 1 - 1e-6)
    mean, variance, _ = moments(torch.tensor(start, dtype=DOUBLE))
    x = mean + variance.sqrt() * torch.randn(n, 1, generator=seeded("ends"), dtype=DOUBLE)
    times = sorted((0.25, 0.5, 0.75, stop), reverse=backward)
    noise = seeded("noise")
    found = StochasticHeun(100).solve(SDE(drift, lambda t: 1.2), x, start, stop, times, noise).path
    assert found is not None
    for t, rows in zip(times, found):
        mean, variance, _ = moments(torch.tensor(t, dtype=DOUBLE))
        # three and a half standard errors of 20,000 normal draws
        assert abs(rows.mean() - mean) < 3.5 * (variance / n).sqrt()
        assert abs(rows.var() - variance) < 3.5 * variance * math.sqrt(2 / n)


def test_where_there_is_no_noise_an_infinite_score_counts_for_nothing() -> None:
    drift = Drift(lambda t, x: x, lambda t, x: x / 0, lambda t: 1 - t)
    assert torch.equal(drift(torch.tensor(1.0), torch.ones(1, 1)), torch.ones(1, 1))
    path = PathDrift(lambda t, x: x, Interpolant(), lambda t: 1 - t)
    assert torch.equal(path(torch.tensor(1.0), torch.ones(1, 1)), torch.ones(1, 1))


def test_guidance_enters_the_process_and_not_the_score(mixture) -> None:
    flow = ContinuousFlow(
        lambda t, x, condition: -x if condition is None else x * (condition[:, None] >= 0),
        source=Normal(1),
        path=Interpolant(),
    )
    x, label = torch.ones(2, 1), torch.tensor([1, 1])
    guided = flow.replace(guidance=3.0)
    assert torch.equal(guided.score(0.5, x, label), flow.score(0.5, x, label))
    drifts = [f.stochastic(1.0).drift(torch.tensor(0.5), x, label) for f in (flow, guided)]
    assert not torch.equal(*drifts)


# -- what is refused ---------------------------------------------------------------------------------


def test_a_flow_without_a_path_says_why() -> None:
    def field(t: Tensor, x: Tensor) -> Tensor:
        return -x

    x, reason = torch.zeros(1, 2), "--coupling ot makes noise depend on the data"
    plain = ContinuousFlow(field, source=Normal(2))
    told = ContinuousFlow(field, source=Normal(2), path=reason)
    noisy = ContinuousFlow(field, source=Normal(2), path=Interpolant()).stochastic()
    for flow, says in (
        (plain, "it has no path"),
        (told, reason),
        (noisy, "it follows a drift"),
        (nsf(2), ""),
    ):
        for ask in (lambda f: f.score(0.5, x), lambda f: f.data(0.5, x), lambda f: f.stochastic()):
            for whole in (flow, Transformed(flow, Affine(0.0, 1.0))):
                with pytest.raises(ValueError, match=f"no score, data prediction or noise: .*{says}"):
                    ask(whole)


def test_a_path_starts_from_a_standard_normal_source() -> None:
    def flow(source, path=None) -> ContinuousFlow:
        return ContinuousFlow(lambda t, x: -x, source=source, path=path or Interpolant())

    with pytest.raises(ValueError, match="path: scores are known for a normal source only, got a Empirical"):
        flow(Empirical(torch.zeros(3, 2)))
    with pytest.raises(
        ValueError, match=r"path: expected its start N\(0, 1\^2\) as the source, got N\(0, 3\^2\)"
    ):
        flow(Normal(2, 3.0))
    with pytest.raises(ValueError, match=r"got N\(1, 1\^2\)"):
        flow(Normal(2, loc=1.0))
    flow(Normal(2, 10.0), Interpolant(VarianceExploding(0.01, 10.0)))
    with pytest.raises(ValueError, match="path: expected alpha that rises and sigma that falls"):
        flow(Normal(2), Interpolant(gamma=SineSquared(3.0)))


def test_times_outside_and_without_noise_are_refused(mixture) -> None:
    flow, x = flow_of(mixture, PATHS["linear"]), torch.zeros(3, 2, dtype=DOUBLE)
    for t in (-0.1, 1.1, math.nan, [0.5, 0.5]):
        with pytest.raises(ValueError, match=r"t: expected a time in \[0, 1\], or one for each of 3 rows"):
            flow.score(t, x)
    with pytest.raises(ValueError, match="t: the score is infinite where no noise is left, got t = 1"):
        flow.score(1.0, x)
    with pytest.raises(ValueError, match=r"x: expected shape \(B, 2\)"):
        flow.data(0.5, x[0])


def test_a_bijection_that_draws_noise_has_no_score(mixture) -> None:
    flow = Transformed(flow_of(mixture, PATHS["linear"]), Dequantise())
    with pytest.raises(ValueError, match="a Dequantise draws noise, through which no score is known"):
        flow.score(0.5, torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("g", "says"),
    [
        (lambda t: t - 0.5, "at least 0, got -0.49"),
        (lambda t: 1 / t, "at least 0, got inf at t = 0"),
        (lambda t: math.nan, "got nan"),
        (Memoryless(floor=0), "got inf at t = 0"),
        (torch.tensor(-1.0), "got -1"),
    ],
    ids=["negative", "infinite", "nan", "memoryless", "tensor"],
)
def test_a_diffusion_that_is_negative_or_infinite_is_refused(mixture, g, says) -> None:
    flow = flow_of(mixture, PATHS["linear"]).stochastic(g)
    with pytest.raises(ValueError, match=f"diffusion: expected finite numbers of .*{says}"):
        flow.sample(3)


def test_options_of_diffusions_are_checked() -> None:
    for make in (ConstantDiffusion, Proportional, Memoryless):
        for value in (-1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match="expected a finite number of at least 0"):
                make(value)
    with pytest.raises(ValueError, match="at most 1,000,000, got 1e"):
        ConstantDiffusion(1e300)  # whose square is no number
    with pytest.raises(ValueError, match="taper: expected a positive number, got 0"):
        ConstantDiffusion(1.0, taper=0)
