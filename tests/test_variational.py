"""Reverse KL, importance weights and the autoencoder that only bounds the likelihood."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from pushforward.config import OptimConfig
from pushforward.couplings import Rows
from pushforward.flows import VAE, realnvp
from pushforward.metrics import importance
from pushforward.objectives import MaximumLikelihood, ReverseKL
from pushforward.training import NoData, Trainer, pairs

DOUBLE = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quick(**changes) -> OptimConfig:
    return OptimConfig(**{"steps": 400, "lr": 5e-3, "log_every": 100, **changes})


def test_reverse_kl_finds_the_evidence_of_a_gaussian():
    """p~ is 7 times a correlated normal density, so that the evidence is log 7."""
    distribution = MultivariateNormal(torch.tensor([1.0, -1.0]), torch.tensor([[1.0, 0.8], [0.8, 1.5]]))

    def log_density(x):
        return distribution.log_prob(x) + math.log(7)

    torch.manual_seed(0)
    flow = realnvp(2, layers=4, width=32)
    start = ReverseKL(log_density)
    Trainer(start, flow, NoData(256), quick()).fit(title=None)
    with torch.no_grad():
        x, log_q = flow.sample_and_log_prob(4000, generator=gen(1))
    found = importance(log_density(x) - log_q)
    assert found.share > 0.9
    assert abs(found.log_evidence - math.log(7)) < 5 * found.error + 1e-4
    # the objective is the divergence less the evidence, and the divergence is at least 0
    bound = float((log_density(x) - log_q).mean())
    assert math.log(7) - 0.1 < bound < math.log(7)


def test_importance_weights_against_a_closed_form():
    """q = N(0, 1), p = N(0, s^2): E w^2 = 1 / (s sqrt(2 - s^2)), and the share is its inverse."""
    s = 0.8
    x = torch.randn(200_000, generator=gen(), dtype=DOUBLE)
    log_w = -0.5 * (x / s).square() - math.log(s) + 0.5 * x.square() + 3.0
    found = importance(log_w)
    assert found.share == pytest.approx(s * math.sqrt(2 - s * s), abs=0.01)
    assert abs(found.log_evidence - 3.0) < 5 * found.error
    repeats = [importance(part).log_evidence for part in log_w.split(2000)]
    spread = torch.tensor(repeats).std()
    # the error of a hundred repeats' deviation is 7 %
    assert importance(log_w[:2000]).error == pytest.approx(float(spread), rel=0.3)


@pytest.mark.parametrize(
    ("log_w", "says"),
    [
        (torch.zeros(2, 2), "shape"),
        (torch.zeros(1), "shape"),
        (torch.tensor([0.0, math.nan]), "infinity"),
        (torch.tensor([-math.inf, -math.inf]), "infinity"),
        (torch.tensor([0.0, math.inf]), "infinity"),
    ],
)
def test_weights_that_say_nothing_are_refused(log_w, says):
    with pytest.raises(ValueError, match=says):
        importance(log_w)


def linear_vae() -> tuple[VAE, MultivariateNormal]:
    """x = a z + b + s e, with distribution N(b, a a^T + s^2 I), and an encoder that is not the posterior."""
    vae = VAE(2, latent=1, width=8, depth=1).double()
    encoder, decoder = torch.nn.Linear(2, 2).double(), torch.nn.Linear(1, 4).double()
    vae.encoder.layers, vae.decoder.layers = torch.nn.Sequential(encoder), torch.nn.Sequential(decoder)
    a, b, s = torch.tensor([1.0, -0.5]), torch.tensor([0.3, 0.2]), 0.7
    raw = 5.0 * math.atanh(math.log(s) / 5.0)
    with torch.no_grad():
        decoder.weight.copy_(torch.cat([a, torch.zeros(2)])[:, None])
        decoder.bias.copy_(torch.cat([b, torch.full((2,), raw)]))
        encoder.weight.copy_(torch.tensor([[0.4, -0.1], [0.0, 0.0]]))
        encoder.bias.copy_(torch.tensor([0.0, -0.4]))
    cov = a[:, None] * a + s * s * torch.eye(2)
    return vae, MultivariateNormal(b.double(), cov.double())


def test_bounds_lie_below_the_likelihood_and_close_in_on_it():
    vae, truth = linear_vae()
    x = vae.sample(200, generator=gen(2)).detach()
    exact = truth.log_prob(x)
    with torch.no_grad():
        elbo = torch.stack([vae(x, None, gen(i)) for i in range(400)]).mean(0)
        few = torch.stack([vae.importance_weighted(x, None, 10, gen(i)) for i in range(100)]).mean(0)
        many = vae.importance_weighted(x, None, 3000, gen(3))
    loose, tight, rest = ((exact - bound).mean() for bound in (elbo, few, many))
    # each is a mean over 200 rows and all repeats, whose standard errors are below 3e-3
    assert loose > tight + 0.02 and tight > 0.003 and rest.abs() < 0.01
    assert float((exact - many).abs().quantile(0.9)) < 0.02


def test_draws_have_the_law_of_the_model():
    vae, truth = linear_vae()
    x = vae.sample(100_000, generator=gen(4)).detach()
    # five standard errors of a mean and of a covariance of independent normal draws
    assert ((x.mean(0) - truth.mean).abs() < 5 * (truth.variance / len(x)).sqrt()).all()
    c = truth.covariance_matrix
    error = ((c.diagonal()[:, None] * c.diagonal() + c.square()) / len(x)).sqrt()
    assert ((x.T.cov() - c).abs() < 5 * error).all()


def test_it_trains_by_the_same_objective_as_a_flow():
    x = torch.randn(4000, 1, generator=gen()) * torch.tensor([1.0, 0.5]) + torch.tensor([0.0, 2.0])
    torch.manual_seed(0)
    vae = VAE(2, latent=1, width=32)
    batches = pairs(None, Rows(x), size=256)
    result = Trainer(MaximumLikelihood(), vae, batches, quick()).fit(title=None)
    # the data lie on a line, so that the model gains without end; independent normal distributions have 1.07
    assert result.history[-1]["loss"] < 0.0
    drawn = vae.sample(2000, generator=gen(1)).detach()
    off = drawn[:, 1] - 2.0 - 0.5 * drawn[:, 0]
    assert float(off.std()) < 0.1 < float(drawn[:, 1].std())


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="samples"):
        VAE(2, samples=0)
    with pytest.raises(ValueError, match="size"):
        NoData(0)
