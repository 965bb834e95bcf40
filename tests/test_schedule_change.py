"""A field along another path than its own, against the oracle of that path."""

from __future__ import annotations

import itertools

import pytest
import torch

from pushforward.fields import ScheduleChange
from pushforward.flows import ContinuousFlow
from pushforward.oracles import GaussianMixtureOracle
from pushforward.paths import (
    Brownian,
    Follmer,
    Interpolant,
    Linear,
    LipmanOT,
    MapPath,
    Polynomial,
    SineSquared,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
)
from pushforward.random import seeded
from pushforward.solvers import Dopri5
from pushforward.sources import GaussianMixture, Normal

DOUBLE = torch.float64
PATHS = {
    "linear": Interpolant(),
    "lipman": Interpolant(LipmanOT(0.1)),
    "vp": Interpolant(VariancePreserving()),
    "vp from beta 0": Interpolant(VariancePreserving(0.0, 12.0)),
    "ve": Interpolant(VarianceExploding(0.01, 8.0)),
    "trig": Interpolant(Trigonometric()),
    "polynomial": Interpolant(Polynomial(3.0)),
    "follmer": Interpolant(Follmer()),
    "brownian": Interpolant(Linear(), Brownian(0.5)),
}
PAIRS = list(itertools.permutations(PATHS, 2))


@pytest.fixture(scope="module")
def mixture() -> GaussianMixture:
    means = torch.tensor([[-1.5, 0.5], [1.5, -0.5]], dtype=DOUBLE)
    covariances = torch.tensor([[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]], dtype=DOUBLE)
    return GaussianMixture(means, covariances, [1.0, 2.0])


@pytest.mark.parametrize(("old", "new"), PAIRS, ids=lambda name: name)
def test_the_field_is_that_of_the_oracle_along_the_new_path(mixture, old, new) -> None:
    """To ten digits wherever the old path has the wanted ratio of signal and noise at some time."""
    before, after = (GaussianMixtureOracle(mixture, PATHS[name]) for name in (old, new))
    changed = ScheduleChange(before, PATHS[old], PATHS[new])
    times = torch.linspace(0.02, 0.98, 25, dtype=DOUBLE)
    ratio = [
        PATHS[name].coefficients(torch.linspace(1e-6, 1 - 1e-6, 999, dtype=DOUBLE)) for name in (old, new)
    ]
    low, high = (ratio[0].alpha / ratio[0].noise_scale)[[0, -1]]
    c = PATHS[new].coefficients(times)
    times = times[(c.alpha / c.noise_scale > low) & (c.alpha / c.noise_scale < high)]
    assert len(times) > 5
    for t in times:
        c = PATHS[new].coefficients(t)
        x = c.alpha * mixture.sample(6, generator=seeded("x")) + c.noise_scale * torch.randn(
            6, 2, generator=seeded("n"), dtype=DOUBLE
        )
        truth = after(t, x)
        assert torch.allclose(changed(t, x), truth, rtol=1e-10, atol=1e-10 * float(truth.abs().max()))
    rows = times[:6].repeat(6)[:6]
    x = torch.randn(6, 2, generator=seeded("rows"), dtype=DOUBLE)
    each = torch.cat([changed(t, row[None]) for t, row in zip(rows, x)])
    assert torch.allclose(changed(rows, x), each, rtol=1e-12)


@pytest.mark.parametrize("old", ["linear", "lipman", "vp", "ve"])
@pytest.mark.parametrize("new", ["linear", "trig"])
def test_the_changed_flow_has_the_density_of_the_data(mixture, old, new) -> None:
    """Through both ends, where the old path need not have the noise or the signal that is asked for."""
    field = ScheduleChange(GaussianMixtureOracle(mixture, PATHS[old]), PATHS[old], PATHS[new])
    flow = ContinuousFlow(field, Dopri5(rtol=1e-6, atol=1e-7), Normal(2).double(), path=PATHS[new])
    x = mixture.sample(10, generator=seeded("x"))
    # the old path is known up to noise of deviation 0.1 (lipman), 0.01 (ve), and from signals of 1/8 (ve) and
    # 0.007 (vp) on; beyond them the field is a guess
    close = {"linear": 1e-5, "lipman": 0.1, "vp": 0.01, "ve": 0.2}[old]
    assert torch.allclose(flow.log_prob(x), mixture.log_prob(x), rtol=0, atol=close)
    assert flow.push(torch.zeros(1, 2, dtype=DOUBLE)).isfinite().all()


def test_single_precision_and_inference_mode(mixture) -> None:
    path = PATHS["trig"]
    changed = ScheduleChange(GaussianMixtureOracle(mixture, PATHS["linear"]), PATHS["linear"], path)
    x = torch.randn(50, 2, generator=seeded("x"))
    truth = GaussianMixtureOracle(mixture, path)(0.6, x.double())
    with torch.inference_mode():
        found = changed.float()(torch.tensor(0.6), x)
    assert found.dtype == torch.float32 and torch.allclose(found.double(), truth, atol=1e-5)


def test_paths_whose_signal_turns_are_refused() -> None:
    still = torch.zeros_like
    with pytest.raises(ValueError, match="path: expected alpha that rises"):
        ScheduleChange(lambda t, x: still(x), PATHS["linear"], Interpolant(gamma=SineSquared(3.0)))
    with pytest.raises(ValueError, match="path: expected an affine one"):
        ScheduleChange(lambda t, x: still(x), MapPath(lambda t, x0, x1: x0), PATHS["linear"])
