"""Distributions at t = 0 with parameters: densities against SciPy, draws against densities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from pushforward.flows import nsf
from pushforward.sources import LearntMixture, StudentT

DOUBLE = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def student() -> StudentT:
    distribution = StudentT(2, df=3.0).double()
    with torch.no_grad():
        distribution.loc.copy_(torch.tensor([1.0, -2.0]))
        distribution.log_scale.copy_(torch.tensor([0.5, -0.3]))
        distribution.log_df.copy_(torch.tensor([0.7, 2.0]))
    return distribution


def mixture() -> LearntMixture:
    distribution = LearntMixture(2, components=3).double()
    with torch.no_grad():
        for p in distribution.parameters():
            p.copy_(torch.randn(p.shape, generator=gen(p.numel()), dtype=DOUBLE))
    return distribution


def test_student_t_is_scipys():
    distribution = student()
    x = 5 * torch.randn(50, 2, dtype=DOUBLE, generator=gen())
    df, loc, scale = (
        v.detach().numpy()
        for v in (distribution.log_df.exp(), distribution.loc, distribution.log_scale.exp())
    )
    truth = stats.t.logpdf(x.numpy(), df, loc, scale).sum(1)
    assert np.allclose(distribution.log_prob(x).detach().numpy(), truth, rtol=1e-12)
    draws = distribution.sample(20_000, generator=gen(1)).detach().numpy()
    for i in range(2):
        # a level of 1e-3 for one fixed seed
        assert stats.kstest(draws[:, i], stats.t(df[i], loc[i], scale[i]).cdf).pvalue > 1e-3


def test_a_mixture_is_the_sum_of_its_parts():
    distribution = mixture()
    x = 2 * torch.randn(50, 2, dtype=DOUBLE, generator=gen())
    w = torch.softmax(distribution.logits.detach(), 0).numpy()
    parts = [
        w[k] * stats.norm.pdf(x.numpy(), m, s).prod(1)
        for k, (m, s) in enumerate(
            zip(distribution.means.detach().numpy(), distribution.log_scales.detach().exp().numpy())
        )
    ]
    assert np.allclose(distribution.log_prob(x).exp().detach().numpy(), np.sum(parts, 0), rtol=1e-12)
    draws = distribution.sample(20_000, generator=gen(1)).detach()
    mean = torch.from_numpy(w) @ distribution.means.detach()
    # five standard errors of the mean of independent draws
    assert ((draws.mean(0) - mean).abs() < 5 * draws.std(0) / len(draws) ** 0.5).all()


def test_a_mixture_starts_on_the_rows_that_a_flow_is_given():
    flow = nsf(2, source=LearntMixture(2, components=40), layers=2, bins=4).double()
    with torch.no_grad():  # off the identity, so that latent points are not the rows themselves
        for p in flow.bijection.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=gen(p.numel()), dtype=DOUBLE))
    x = torch.tensor([3.0, -1.0]) + torch.tensor([2.0, 0.5]) * torch.randn(
        30, 2, dtype=DOUBLE, generator=gen()
    )
    flow.initialise(x)
    distribution = flow.source
    assert isinstance(distribution, LearntMixture)
    start = flow.pull(x).detach()
    assert torch.allclose(distribution.means.detach(), start[torch.arange(40) % 30])
    # 40 boxes of a component's deviations are as large as one of the data's
    spread = start.std(0, correction=0)
    assert torch.allclose(40 * distribution.log_scales.detach().sum(1).exp(), spread.prod())
    assert torch.allclose(
        (distribution.log_scales[:, 0] - distribution.log_scales[:, 1]).exp(), spread[0] / spread[1]
    )
    # one component stays the normal distribution that the data were whitened for, and equal rows have a
    # density
    one = LearntMixture(2, components=1)
    one.initialise(torch.ones(5, 2))
    assert torch.equal(one.means.detach(), torch.zeros(1, 2))
    distribution.initialise(torch.ones(5, 2, dtype=DOUBLE))
    assert bool(distribution.log_prob(x).isfinite().all())


@pytest.mark.parametrize("distribution", [student, mixture], ids=["student-t", "mixture"])
def test_draws_follow_the_generator_and_carry_gradients(distribution):
    distribution = distribution()
    assert torch.equal(distribution.sample(5, generator=gen(3)), distribution.sample(5, generator=gen(3)))
    flow = nsf(2, source=distribution, layers=2, bins=4).double()
    x, log_p = flow.sample_and_log_prob(16, generator=gen())
    (log_p.mean() + x.square().mean()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in distribution.parameters())
    assert torch.allclose(flow.log_prob(x.detach()), log_p, atol=1e-9)


def test_a_heavy_tailed_source_learns_its_tail():
    """Maximum likelihood on 20,000 draws of t with 3 degrees of freedom, against SciPy's own fit."""
    x = torch.from_numpy(stats.t.rvs(3, size=(20_000, 1), random_state=0))
    distribution = StudentT(1, df=20.0).double()
    optimiser = torch.optim.LBFGS(distribution.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = -distribution.log_prob(x).mean()
        value.backward()
        return value

    optimiser.step(loss)
    df, loc, scale = stats.t.fit(x.numpy()[:, 0])
    found = [
        float(p.detach()) for p in (distribution.log_df.exp(), distribution.log_scale.exp(), distribution.loc)
    ]
    assert found[:2] == pytest.approx([df, scale], rel=1e-3)
    assert found[2] == pytest.approx(loc, abs=1e-3)


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="df"):
        StudentT(2, df=0.0)
    with pytest.raises(ValueError, match="components"):
        LearntMixture(2, components=0)
