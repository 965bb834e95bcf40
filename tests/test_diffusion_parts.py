"""Schedules, times and weights of diffusion models against their definitions and each other."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pushforward.fields import PREDICTIONS, Prediction, convert
from pushforward.objectives import (
    Batch,
    Discrete,
    FlowMatching,
    KarrasWeighting,
    LikelihoodWeighting,
    LogNormalNoise,
    Step,
    UniformLogSNR,
)
from pushforward.paths import (
    DDPM,
    Cosine,
    Interpolant,
    Karras,
    SubVariancePreserving,
    VariancePreserving,
    log_snr,
    time_of_log_snr,
)
from pushforward.random import seeded
from pushforward.rows import Rows

DOUBLE = torch.float64


@pytest.mark.parametrize("betas", ["linear", "cosine"])
def test_the_chain_has_the_moments_that_its_steps_make(betas: Any) -> None:
    """x_k = sqrt(1 - beta_k) x_{k-1} + sqrt(beta_k) z, its mean and variance by recursion."""
    steps = 50
    if betas == "linear":
        chain = np.linspace(1e-4, 0.02, steps) * 1000 / steps
    else:
        f = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        chain = np.minimum(1 - f[1:] / f[:-1], 0.999)
    mean, variance, wanted = 1.0, 0.0, []
    for beta in chain:
        mean, variance = np.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        wanted.append((mean, np.sqrt(variance)))
    t = 1 - torch.arange(1, steps + 1, dtype=DOUBLE) / steps
    alpha, sigma, *_ = DDPM(steps, betas)(t)
    np.testing.assert_allclose(torch.stack([alpha, sigma], 1).numpy(), np.array(wanted), rtol=1e-10)


def test_many_steps_converge_to_the_continuous_schedule_at_first_order() -> None:
    t = torch.linspace(0, 0.99, 100, dtype=DOUBLE)  # steps of all these chains
    wanted = VariancePreserving()(t)[0]
    error = [(DDPM(n)(t)[0] - wanted).abs().max().item() for n in (1000, 2000, 4000)]
    np.testing.assert_allclose(np.log2(np.divide(error[:-1], error[1:])), 1.0, atol=0.02)
    # the betas of the cosine are made from it; near t = 0 they are cut off
    assert torch.allclose(DDPM(1000, "cosine")(t)[0][1:], Cosine()(t)[0][1:], rtol=0, atol=1e-12)


def test_sub_vp_has_the_mean_of_vp_and_less_variance() -> None:
    t = torch.linspace(0, 1, 101, dtype=DOUBLE)
    sub, full = SubVariancePreserving()(t), VariancePreserving()(t)
    assert torch.equal(sub[0], full[0]) and bool((sub[1] <= full[1]).all())
    assert all(value.isfinite().all() for value in sub)


def test_equal_steps_of_edm_are_the_published_noise_levels() -> None:
    """Karras et al. 2022, eq. 5, for 18 steps."""
    i = np.arange(18)
    wanted = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    schedule = Karras()
    t = torch.linspace(0, 1, 18, dtype=DOUBLE)
    np.testing.assert_allclose(schedule(t)[1].numpy(), wanted, rtol=1e-12)
    np.testing.assert_allclose(schedule.time_of(torch.from_numpy(wanted)).numpy(), t.numpy(), atol=1e-12)


@pytest.mark.parametrize("path", [Interpolant(), Interpolant(VariancePreserving()), Interpolant(Karras())])
def test_times_of_a_ratio_invert_it(path: Interpolant) -> None:
    t = torch.linspace(0.01, 0.99, 33, dtype=DOUBLE)
    assert torch.allclose(time_of_log_snr(path, log_snr(path, t)), t, rtol=0, atol=1e-12)
    times = UniformLogSNR(0.01).along(path).quantile(torch.linspace(0, 1, 9, dtype=DOUBLE))
    steps = log_snr(path, times).diff()
    assert torch.allclose(steps, steps.mean().expand(8), rtol=1e-4)


class Recorder(nn.Module):
    """A network that is zero and keeps the times that it is asked for."""

    def forward(self, t, x, condition=None):
        self.t = t
        return torch.zeros_like(x)


def batch(n: int = 500) -> Batch:
    x0, x1 = torch.randn(2, n, 2, generator=seeded(0), dtype=DOUBLE)
    return Batch((Rows(x0), Rows(x1)))


def test_training_in_discrete_time_sees_the_times_of_the_chain_alone() -> None:
    recorder = Recorder()
    models = nn.ModuleDict({"field": recorder})
    path = Interpolant(DDPM(100))  # whose velocity is infinite at t = 1
    objective = FlowMatching(path, "noise", times=Discrete(100))
    objective.loss(models, batch(), Step(generator=seeded(1)))
    k = (1 - recorder.t) * 100
    assert path.open_ends == (False, True) and torch.allclose(k, k.round(), rtol=0, atol=1e-9)
    assert set(k.round().int().tolist()) == set(range(1, 101))


@pytest.mark.parametrize("weighting", [LikelihoodWeighting(), KarrasWeighting(0.7)])
def test_a_weighting_is_the_same_loss_in_every_prediction(weighting) -> None:
    """For fields that are one another's conversions."""
    path, n = Interpolant(VariancePreserving()), 400
    losses = {}
    for kind in PREDICTIONS:

        class Wrong(nn.Module):
            def forward(self, t, x, condition=None, kind: Prediction = kind):
                return convert(0.3 * x, x, path.coefficients(t[:, None]), "data", kind)

        objective = FlowMatching(path, kind, times=UniformLogSNR(0.01), weighting=weighting)
        step = Step(generator=seeded(2))
        losses[kind] = objective.loss(nn.ModuleDict({"field": Wrong()}), batch(n), step).value.item()
    for one, other in itertools.pairwise(losses.values()):
        assert one == pytest.approx(other, rel=1e-9), losses


def test_likelihood_weights_and_times_uniform_in_the_ratio_are_one_loss() -> None:
    """Both are estimates of the same integral, up to the width of the interval of log(SNR)."""
    path, n = Interpolant(VariancePreserving()), 200_000
    models = nn.ModuleDict({"field": Recorder()})
    first, last = log_snr(path, torch.tensor([0.1, 0.9], dtype=DOUBLE)).tolist()
    by_weight = FlowMatching(path, "noise", weighting=LikelihoodWeighting(), margin=0.1)
    by_times = FlowMatching(path, "noise", times=UniformLogSNR(0.1))
    weighted, timed = (
        objective.loss(models, batch(n), Step(generator=seeded(3))).value.item()
        for objective in (by_weight, by_times)
    )
    # half the width, over the share of times; five standard errors of 400,000 squares under such weights
    assert weighted * 0.8 == pytest.approx(0.5 * (last - first) * timed, rel=5 * 2 * np.sqrt(2 / (2 * n)))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: DDPM(20), "steps: expected at least 21 for linear betas, got 20"),
        (lambda: DDPM(0, "cosine"), "steps: expected at least 10 for cosine betas, got 0"),
        (lambda: DDPM(100, "square"), "betas: expected one of linear, cosine, got 'square'"),  # type: ignore[arg-type]  # an unknown name
        (lambda: Cosine(0.0), "offset: expected a positive number"),
        (lambda: Karras(1.0, 0.5), "sigma_min, sigma_max: expected 0 < sigma_min < sigma_max, got 1.0"),
        (lambda: Karras(rho=0.5), "rho: expected a number from 1 to 100, got 0.5"),
        (lambda: Karras(rho=1e6), "rho: expected a number from 1 to 100, got 1000000.0"),
        (lambda: Karras(1e-9, 80.0), "a sigma_max of at most 1e+10 times sigma_min, got 1e-09 and 80.0"),
        (lambda: SubVariancePreserving(2.0, 1.0), "beta_min, beta_max: expected 0 <= beta_min"),
        (lambda: Discrete(0), "steps: expected at least 1, got 0"),
        (lambda: LogNormalNoise(std=0.0), "std: expected a positive number, got 0.0"),
        (lambda: LogNormalNoise(mean=float("nan")), "mean: expected a finite number, got nan"),
        (
            lambda: LogNormalNoise(50.0).along(Interpolant(Karras())),
            "1% of the levels at least between 0.002 and 80, those of the path",
        ),
        (
            lambda: LogNormalNoise().along(Interpolant(DDPM())),
            "those of the path edm alone; take other times",
        ),
        (lambda: LogNormalNoise().along(Interpolant(Karras(), 0.1)), "those of the path edm alone"),
        (lambda: UniformLogSNR(0.5), "margin: expected a number from 1e-6 to below 1/2, got 0.5"),
        (lambda: UniformLogSNR(1e-300), "margin: expected a number from 1e-6 to below 1/2, got 1e-300"),
        (lambda: KarrasWeighting(-1.0), "sigma_data: expected a positive number, got -1.0"),
    ],
)
def test_wrong_values_are_named(make, text: str) -> None:
    with pytest.raises(ValueError) as error:
        make()
    assert text in str(error.value)
