"""Flows: shapes of conditions, distributions, preprocessing as part of the density, divergences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from narrowing import known
from pushforward.bijections import Affine, Chain, Dequantise, Sigmoid
from pushforward.flows import ContinuousFlow, Transformed, divergence
from pushforward.nn import UNet
from pushforward.oracles import GaussianMixtureOracle
from pushforward.solvers import RK4, Dopri5, Euler, Tsit5
from pushforward.sources import Empirical, GaussianMixture, Normal

DOUBLE = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def mixture() -> GaussianMixture:
    means = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]], dtype=DOUBLE)
    return GaussianMixture(means, 0.5)


@pytest.fixture
def flow(mixture) -> ContinuousFlow:
    return ContinuousFlow(GaussianMixtureOracle(mixture), Tsit5(rtol=1e-8, atol=1e-8), Normal(2).double())


class Shifted(nn.Module):
    """Carries N(0, I) to N(c, I) for a continuous condition c of shape (2,)."""

    def forward(self, t, x, condition=None):
        return torch.zeros_like(x) if condition is None else condition.expand_as(x)


def test_shapes_follow_the_condition(flow):
    assert flow.sample(5, generator=gen()).shape == (5, 2)
    assert flow.sample(5, torch.tensor(1), gen()).shape == (5, 2)
    assert flow.sample(5, torch.tensor([0, 1, 2, 1]), gen()).shape == (5, 4, 2)
    x, log_p = flow.sample_and_log_prob(5, torch.tensor([0, 1]), gen())
    assert x.shape == (5, 2, 2) and log_p.shape == (5, 2)
    with pytest.raises(ValueError, match="n: expected a non-negative number"):
        flow.sample(-1)


def test_each_sample_obeys_its_own_condition(flow, mixture):
    x = flow.sample(200, torch.tensor([0, 1, 2]), gen())
    nearest = torch.cdist(x.reshape(-1, 2), mixture.means).argmin(1).reshape(200, 3)
    # the means are over five deviations apart
    assert torch.equal(nearest, torch.tensor([0, 1, 2]).expand(200, 3))


def test_log_prob_broadcasts_leading_dimensions(flow, mixture):
    x = mixture.sample(6, generator=gen()).reshape(2, 3, 2)
    labels = torch.tensor([0, 1, 2])
    log_p = flow.log_prob(x, labels)
    assert log_p.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            alone = mixture.log_prob(x[i, j][None], labels[j][None])
            assert log_p[i, j] == pytest.approx(alone.item(), abs=1e-5)
    assert flow.log_prob(x[0, 0]).shape == ()
    assert flow.log_prob(x[0, 0], labels).shape == (3,)
    with pytest.raises(ValueError, match="expected shape"):
        flow.log_prob(torch.zeros(4, 3, dtype=DOUBLE))


def test_continuous_conditions_are_told_by_their_shape():
    flow = ContinuousFlow(Shifted(), Dopri5(), Normal(2).double(), condition_shape=(2,))
    c = torch.tensor([[1.0, 2.0], [5.0, 6.0]], dtype=DOUBLE)
    assert flow.sample(7, c[0], gen()).shape == (7, 2)
    assert flow.sample(7, c, gen()).shape == (7, 2, 2)
    expected = Normal(2).double().log_prob(torch.zeros(1, 2, dtype=DOUBLE)).expand(2)
    assert torch.allclose(flow.log_prob(c, c), expected)
    with pytest.raises(ValueError, match="condition"):
        flow.sample(7, torch.zeros(3, dtype=DOUBLE))


def test_distribution_interface(flow, mixture):
    labels = torch.tensor([0, 1, 2])
    distribution = flow.given(labels, gen())
    assert distribution.batch_shape == (3,) and distribution.event_shape == (2,)
    x = distribution.sample((4,))
    assert x.shape == (4, 3, 2) and distribution.log_prob(x).shape == (4, 3)
    assert torch.allclose(distribution.log_prob(x)[:, 1], mixture.log_prob(x[:, 1], torch.ones(4)), atol=1e-5)
    wide = distribution.expand((5, 3))
    assert wide.sample((2,)).shape == (2, 5, 3, 2) and wide.log_prob(x[0]).shape == (5, 3)
    plain = flow.given()
    assert (
        plain.batch_shape == () and plain.sample().shape == (2,) and plain.sample((3, 2)).shape == (3, 2, 2)
    )
    y, log_p = plain.rsample_and_log_prob((6,))
    assert torch.allclose(log_p, mixture.log_prob(y), atol=1e-5)
    independent = torch.distributions.Independent(distribution, 1)
    assert independent.log_prob(x).shape == (4,)


def test_rsample_carries_gradients():
    """d E[x] / d shift = 1 for a field that shifts."""
    shift = torch.tensor([0.5, -1.0], dtype=DOUBLE, requires_grad=True)
    flow = ContinuousFlow(lambda t, x, c: shift.expand_as(x), RK4(steps=3), Normal(2).double())
    flow.given(generator=gen()).rsample((100,)).mean(0).sum().backward()
    assert torch.allclose(known(shift.grad), torch.ones(2, dtype=DOUBLE))


def test_trajectories_start_where_they_should(flow):
    x0 = flow.source.sample(50, generator=gen())
    out = flow.trajectory(x0, [0.0, 0.25, 1.0])
    assert out.path.shape == (3, 50, 2) and torch.equal(out.path[0], x0)
    assert torch.allclose(out.path[-1], flow.push(x0), atol=1e-10)
    back = flow.trajectory(out.path[-1], [1.0, 0.25, 0.0])
    assert torch.allclose(back.path[1], out.path[1], atol=1e-4)
    moved = Transformed(
        flow, Affine(torch.tensor(3.0, dtype=DOUBLE), torch.tensor(2.0, dtype=DOUBLE)), DOUBLE
    )
    assert torch.allclose(known(moved.trajectory(x0, [0.0, 0.25, 1.0]).path), 3 + 2 * out.path)
    again = moved.trajectory(3 + 2 * out.path[-1], [1.0, 0.25, 0.0])
    assert torch.allclose(known(again.path)[1], 3 + 2 * out.path[1], atol=1e-4)


def test_preprocessing_is_part_of_the_density(flow, mixture):
    """y = loc + scale x has density p(x) / prod(scale)."""
    loc, scale = torch.tensor([1e6, -3.0], dtype=DOUBLE), torch.tensor([100.0, 0.1], dtype=DOUBLE)
    moved = Transformed(flow, Affine(loc, scale), DOUBLE)
    x = mixture.sample(100, generator=gen())
    expected = mixture.log_prob(x) - scale.log().sum()
    assert torch.allclose(moved.log_prob(loc + scale * x), expected, atol=1e-5)
    y, log_p = moved.sample_and_log_prob(50, generator=gen())
    assert torch.allclose(log_p, moved.log_prob(y), atol=1e-5)
    assert moved.density == "exact"


def test_a_sigmoid_chain_integrates_to_one():
    """Quadrature of the density over the interval, which knows nothing of the log-determinant."""
    mixture = GaussianMixture(torch.tensor([[0.7]], dtype=DOUBLE), 0.8)
    inner = ContinuousFlow(GaussianMixtureOracle(mixture), Tsit5(rtol=1e-8, atol=1e-8), Normal(1).double())
    flow = Transformed(inner, Chain(Sigmoid(-1.0, 4.0, margin=0.05)), DOUBLE)
    low, high = flow.bijection.codomain.low, flow.bijection.codomain.high
    step = (4.0 + 1.0) / 4000
    y = torch.arange(-1.0 + step / 2, 4.0, step, dtype=DOUBLE)[:, None]
    inside = float((flow.log_prob(y).exp() * step).sum())
    x = flow.bijection.inverse(torch.tensor([[-1.0], [4.0]], dtype=DOUBLE))
    normal = torch.distributions.Normal(0.7, 0.8)
    assert inside == pytest.approx(float(normal.cdf(x[1]) - normal.cdf(x[0])), abs=1e-5)
    assert low < -1 and high > 4


def test_a_model_in_single_precision_keeps_the_digits_of_large_data():
    mixture = GaussianMixture(torch.zeros(1, 1), 1.0)
    inner = ContinuousFlow(GaussianMixtureOracle(mixture), RK4(steps=20), Normal(1))
    loc = torch.tensor([1.6e9], dtype=DOUBLE)
    flow = Transformed(inner, Affine(loc, torch.ones(1, dtype=DOUBLE)), DOUBLE)
    x = flow.sample(1000, generator=gen())
    assert x.dtype == DOUBLE and 0.9 < (x - loc).std() < 1.1
    assert flow.pull(x).dtype == torch.float32
    log_p = flow.log_prob(x)
    assert log_p.dtype == DOUBLE
    assert torch.allclose(log_p, torch.distributions.Normal(loc, 1.0).log_prob(x)[:, 0], atol=1e-3)


def test_a_dequantised_density_is_called_a_bound_and_is_one():
    """Fair coin in {0, 1}: the exact log-probability is log(1/2); the bound lies below, for any model."""
    wide = GaussianMixture(torch.tensor([[1.0]], dtype=DOUBLE), 0.6)
    inner = ContinuousFlow(GaussianMixtureOracle(wide), Tsit5(), Normal(1).double())
    flow = Transformed(inner, Dequantise(0.0, 1.0), DOUBLE)
    assert flow.density == "bound"
    coin = (torch.arange(2000) % 2).double()[:, None]
    bound = flow.log_prob(coin, generator=gen())
    normal = torch.distributions.Normal(1.0, 0.6)
    for value in (0.0, 1.0):
        exact = math.log(float(normal.cdf(torch.tensor(value + 1)) - normal.cdf(torch.tensor(value))))
        assert bound[coin[:, 0] == value].mean() < exact
    assert torch.equal(flow.log_prob(coin, generator=gen()), bound)
    assert set(flow.sample(500, generator=gen()).flatten().tolist()) == {0.0, 1.0}


def test_a_source_of_samples_has_no_density_and_says_why():
    flow = ContinuousFlow(Shifted(), Euler(steps=2), Empirical(torch.randn(20, 2)), condition_shape=(2,))
    assert flow.sample(3, generator=gen()).shape == (3, 2)
    with pytest.raises(ValueError, match="only by its samples"):
        flow.log_prob(torch.zeros(1, 2))


def test_replace_shares_parameters_and_changes_only_the_copy(flow):
    twin = flow.replace(solver=Euler(steps=1), guidance=2.0)
    assert isinstance(flow.solver, Tsit5) and flow.guidance == 1.0
    assert isinstance(twin.solver, Euler) and twin.field is flow.field
    outer = Transformed(flow, Affine(torch.tensor(0.0), torch.tensor(2.0)))
    changed = outer.replace(solver=Euler(steps=1))
    assert isinstance(changed.flow.solver, Euler) and isinstance(outer.flow.solver, Tsit5)
    with pytest.raises(ValueError, match="no attribute 'sovler'"):
        flow.replace(sovler=None)


def test_densities_ignore_guidance(flow):
    x = torch.tensor([[1.0, 1.0]], dtype=DOUBLE)
    labels = torch.tensor([0])
    assert torch.equal(flow.replace(guidance=3.0).log_prob(x, labels), flow.log_prob(x, labels))
    assert not torch.equal(flow.replace(guidance=3.0).push(x, labels), flow.push(x, labels))


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("chunk", [None, 5])
def test_divergence_of_a_network_is_the_trace_of_its_jacobian(inference, chunk):
    torch.manual_seed(0)
    net = UNet((1, 4, 4), width=8).double()
    for p in net.parameters():
        nn.init.normal_(p, std=0.2)
    with torch.inference_mode(inference):
        x = torch.randn(3, 1, 4, 4, dtype=DOUBLE)
        value, trace = divergence(lambda y: net(torch.tensor(0.3, dtype=DOUBLE), y), x, chunk)
    x = x.clone()
    jacobian = torch.autograd.functional.jacobian(lambda y: net(torch.tensor(0.3, dtype=DOUBLE), y).sum(0), x)
    by_row = jacobian.permute(3, 0, 1, 2, 4, 5, 6).reshape(3, 16, 16)
    assert torch.allclose(trace, by_row.diagonal(dim1=1, dim2=2).sum(1), atol=1e-10)
    assert torch.allclose(value, net(torch.tensor(0.3, dtype=DOUBLE), x), atol=1e-12)


def test_divergence_can_be_differentiated():
    """div(a x^3) = 3 a sum x^2, so d/da = 3 sum x^2."""
    a = torch.tensor(2.0, dtype=DOUBLE, requires_grad=True)
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=DOUBLE)
    divergence(lambda y: a * y**3, x)[1].sum().backward()
    assert a.grad == pytest.approx(3 * float(x.square().sum()))


def test_divergence_passes_through_attention():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(4, 2, batch_first=True).double().eval().requires_grad_(False)

    def field(x):
        return attention(x, x, x, need_weights=False)[0]

    x = torch.randn(2, 3, 4, dtype=DOUBLE)
    trace = divergence(field, x)[1]
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda y: field(y[None])[0], x[i]).reshape(12, 12)
        assert trace[i] == pytest.approx(float(jacobian.trace()), abs=1e-10)


@pytest.mark.parametrize("kind", ["data", "noise", "score", "v"])
def test_fields_of_other_predictions_flow_over_their_interval(mixture, kind):
    """Stopping a thousandth short moves the log-density by about as much, where the density is smooth."""
    from pushforward.fields import Parameterised
    from pushforward.paths import Interpolant

    oracle = GaussianMixtureOracle(mixture)
    field = Parameterised(getattr(oracle, kind), kind, Interpolant())
    # the oracle's score divides by s, which is 0 at t = 1
    interval = {"data": (0.0, 0.999), "noise": (0.001, 1.0), "score": (0.001, 0.999), "v": (0.0, 1.0)}[kind]
    flow = ContinuousFlow(field, Tsit5(rtol=1e-7, atol=1e-7), Normal(2).double(), interval=interval)
    x = mixture.sample(200, generator=gen())
    assert (flow.log_prob(x) - mixture.log_prob(x)).abs().max() < 0.05
    path = flow.trajectory(flow.source.sample(20, generator=gen()), [0.0, 0.5, 1.0]).path
    assert known(path).isfinite().all()
    with pytest.raises(ValueError, match="interval"):
        ContinuousFlow(field, source=Normal(2), interval=(1.0, 0.0))
