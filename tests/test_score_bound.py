"""The bound of the likelihood by errors of the score: tight for the true score, and above for others."""

from __future__ import annotations

import math

import pytest
import torch

from pushforward import ContinuousFlow, GaussianMixture, GaussianMixtureOracle, Normal, Transformed
from pushforward.bijections import Affine
from pushforward.fields import Parameterised
from pushforward.flows import nll_bound
from pushforward.paths import DDPM, Interpolant, Karras, Path, VariancePreserving
from pushforward.random import seeded

DOUBLE = torch.float64
PATHS: dict[str, tuple[Path, float]] = {
    "linear": (Interpolant(), 1.0),
    "vp": (Interpolant(VariancePreserving()), 1.0),
    "ddpm": (Interpolant(DDPM()), 1.0),
    "edm": (Interpolant(Karras()), 80.0),
}


def known(name: str) -> tuple[ContinuousFlow, GaussianMixture]:
    path, scale = PATHS[name]
    means = torch.tensor([[-1.0, 0.5], [1.0, 1.0], [0.0, -1.5]], dtype=DOUBLE)
    mixture = GaussianMixture(means, 0.4, [1.0, 2.0, 3.0]).double()
    return ContinuousFlow(
        GaussianMixtureOracle(mixture, path), source=Normal(2, scale).double(), path=path
    ), mixture


@pytest.mark.parametrize("name", PATHS)
def test_for_the_true_score_it_is_the_negative_log_density(name: str) -> None:
    flow, mixture = known(name)
    x = mixture.sample(400, generator=seeded(name))
    bound, error = nll_bound(flow, x, 64, generator=seeded(name, 1))
    gap = bound + mixture.log_prob(x)
    # the errors are right (strata make them a little large), and their mean is zero within four of its own;
    # 1e-3 for what the ends leave out: the source is not the start, and the end is not the data
    assert abs(gap.mean().item()) < 4 * gap.std().item() / math.sqrt(len(x)) + 1e-3
    assert 0.3 < (gap / error).std().item() < 1.1


def test_a_wrong_score_is_above_by_the_integral_of_its_error() -> None:
    """The score of N(0, v) in place of N(0, 1): KL(N(0, 1), p), which the bound of the mean exceeds."""
    flow, _ = known("vp")
    path = PATHS["vp"][0]
    normal = GaussianMixture(torch.zeros(1, 2, dtype=DOUBLE), 1.0).double()
    x = normal.sample(3000, generator=seeded(0))
    entropy = 1 + math.log(2 * math.pi)
    for deviation in (0.8, 1.0, 1.3):
        wrong = GaussianMixtureOracle(
            GaussianMixture(torch.zeros(1, 2, dtype=DOUBLE), deviation).double(), path
        )
        bound, _ = nll_bound(flow.replace(field=wrong), x, 64, generator=seeded(1))
        # of two columns, the divergence of the model's own distribution from the data
        divergence = 2 * (math.log(deviation) + 0.5 / deviation**2 - 0.5)
        mean, error = bound.mean().item(), bound.std().item() / math.sqrt(len(x))
        assert mean > entropy + divergence - 4 * error
        if deviation == 1.0:
            assert mean == pytest.approx(entropy, abs=4 * error + 1e-3)
        else:  # 1/2 int g^2 E|score error|^2 dt by quadrature, over and above the entropy
            t = torch.linspace(1e-3, 1 - 1e-3, 20_001, dtype=DOUBLE)
            c = path.coefficients(t)
            s2, a2 = c.noise_scale.square(), c.alpha.square()
            ratio = 1 / (a2 * deviation**2 + s2) - 1 / (a2 + s2)
            g2 = 2 * c.noise_scale * (c.noise_scale * c.d_alpha - c.alpha * c.d_noise_scale) / c.alpha
            excess = torch.trapezoid(0.5 * g2 * ratio.square() * 2 * (a2 + s2), t).item()
            assert mean == pytest.approx(entropy + excess, abs=4 * error + 0.01)


def test_it_is_in_the_units_of_the_data_and_knows_conditions() -> None:
    flow, mixture = known("vp")
    x = mixture.sample(50, generator=seeded(2))
    inner, _ = nll_bound(flow, x, 8, generator=seeded(3))
    outer, _ = nll_bound(Transformed(flow, Affine(0.0, 2.0), DOUBLE), 2 * x, 8, generator=seeded(3))
    assert torch.allclose(outer, inner + 2 * math.log(2))
    labelled = GaussianMixture(mixture.means, 0.4, [1.0, 2.0, 3.0], [0, 1, 2]).double()
    path = PATHS["vp"][0]
    field = GaussianMixtureOracle(labelled, path)
    labels = torch.arange(50) % 3
    found, error = nll_bound(flow.replace(field=field), x, 64, labels, generator=seeded(4))
    wanted = -labelled.log_prob(x, labels)
    # far rows of a component have larger errors; six standard errors of the largest of fifty
    assert ((found - wanted).abs() < 6 * error + 5e-3).all()


def test_any_parameterisation_gives_the_same_bound() -> None:
    flow, mixture = known("vp")
    x = mixture.sample(20, generator=seeded(5))
    oracle = GaussianMixtureOracle(mixture, PATHS["vp"][0])
    wanted, _ = nll_bound(flow, x, 8, generator=seeded(6))
    by_noise = flow.replace(field=Parameterised(oracle.noise, "noise", oracle.path))
    assert torch.allclose(nll_bound(by_noise, x, 8, generator=seeded(6))[0], wanted, atol=1e-8)


def test_what_has_no_path_has_no_bound() -> None:
    flow = ContinuousFlow(lambda t, x: x, source=Normal(2))
    with pytest.raises(ValueError, match="path"):
        nll_bound(flow, torch.zeros(1, 2))
    with pytest.raises(ValueError, match="draws: expected"):
        nll_bound(known("vp")[0], torch.zeros(1, 2), 1)
    with pytest.raises(ValueError, match="expected shape"):
        nll_bound(known("vp")[0], torch.zeros(1, 3))
