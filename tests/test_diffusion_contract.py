"""The contract of every registered diffusion: its formula, and the distributions that it has to keep."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from contract import complete
from pushforward import registry
from pushforward.fields import PathDrift
from pushforward.oracles import GaussianMixtureOracle
from pushforward.paths import (
    Along,
    Brownian,
    DiffusionCoefficient,
    Interpolant,
    Linear,
    LipmanOT,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
)
from pushforward.sources import GaussianMixture

DOUBLE = torch.float64
#: Options, and g(t) along the linear path by NumPy.
CASES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "proportional": ("scale=0.5", lambda t: np.sqrt(1 - t)),
    "constant": ("g=2,taper=3", lambda t: 1 / np.sqrt(1 / 4 + 1 / (6 * (1 - t)))),
    "memoryless": ("floor=0.01", lambda t: np.sqrt(2 * (1 - t) / np.maximum(t, 0.01))),
}
PATHS = {
    "linear": Interpolant(),
    "lipman": Interpolant(LipmanOT(0.1)),
    "vp": Interpolant(VariancePreserving()),
    "ve": Interpolant(VarianceExploding(0.05, 8.0)),
    "trig": Interpolant(Trigonometric()),
    "brownian": Interpolant(Linear(), Brownian(0.5)),
}
TIMES = torch.linspace(0.02, 0.98, 13, dtype=DOUBLE)
named = pytest.mark.parametrize("name", CASES)


def test_every_registered_diffusion_has_a_case() -> None:
    complete("diffusion", CASES)


def made(name: str) -> DiffusionCoefficient:
    return registry.create("diffusion", f"{name},{CASES[name][0]}")


@named
def test_it_is_its_formula_along_the_linear_path(name: str) -> None:
    found = made(name)(TIMES, PATHS["linear"].coefficients(TIMES))
    np.testing.assert_allclose(found.numpy(), CASES[name][1](TIMES.numpy()), rtol=1e-12)


@named
@pytest.mark.parametrize("path", PATHS)
def test_it_is_finite_and_no_larger_than_steps_can_follow(name: str, path: str) -> None:
    """At both ends too; the rate g^2 / 2 s^2 at which noise is renewed is at most that of the path itself."""
    t = torch.cat([torch.zeros(1, dtype=DOUBLE), TIMES, torch.ones(1, dtype=DOUBLE)])
    c = PATHS[path].coefficients(t)
    g = made(name)(t, c)
    inside = slice(0, -1) if PATHS[path].open_ends[1] else slice(None)  # 0 times infinity
    assert bool((g[inside].isfinite() & (g[inside] >= 0)).all())
    rate = (g.square() / (2 * c.noise_scale.square()))[1:-1]
    natural = (c.d_alpha / c.alpha - c.d_noise_scale / c.noise_scale)[1:-1]
    assert bool((rate < 4 * natural).all())


@named
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("path", PATHS)
def test_mean_and_variance_of_the_process_are_those_of_the_path(name: str, path: str, backward: bool) -> None:
    """For normal data the drift is a x + b, and m' = a m + b and V' = 2 a V + g^2 (backward: minus g^2) must
    be the slopes of the mean and variance of x_t, by central differences."""
    mean, deviation, h = 0.7, 0.4, 1e-5
    oracle = GaussianMixtureOracle(
        GaussianMixture(torch.tensor([[mean]], dtype=DOUBLE), deviation).double(), PATHS[path]
    )
    g = Along(made(name), PATHS[path])
    drift = PathDrift(oracle, PATHS[path], g, backward)

    def moments(t: Tensor) -> tuple[float, float]:
        c = PATHS[path].coefficients(t)
        return float(c.alpha) * mean, float(c.alpha**2) * deviation**2 + float(c.noise_scale) ** 2

    for t in TIMES:
        b, one = (float(drift(t, torch.full((1, 1), x, dtype=DOUBLE))) for x in (0.0, 1.0))
        a, (m, v) = one - b, moments(t)
        (m1, v1), (m0, v0) = moments(t + h), moments(t - h)
        noise = (-1 if backward else 1) * float(g(t)) ** 2
        assert a * m + b == pytest.approx((m1 - m0) / (2 * h), rel=1e-6, abs=1e-6)
        # 1e-6 of the terms, which cancel
        assert 2 * a * v + noise == pytest.approx(
            (v1 - v0) / (2 * h), abs=1e-6 * (abs(2 * a * v) + abs(noise) + 1)
        )


def test_memoryless_is_the_reversed_diffusion_of_vp_and_ve() -> None:
    """g^2 = beta(1 - t) and g^2 = -d sigma^2 / dt: Song et al. 2021, arXiv 2011.13456, eq. 9 and 11."""
    free = registry.create("diffusion", "memoryless,floor=0")
    found = Along(free, Interpolant(VariancePreserving(0.1, 20.0)))(TIMES).square()
    assert torch.allclose(found, 0.1 + 19.9 * (1 - TIMES), rtol=1e-10)
    found = Along(free, Interpolant(VarianceExploding(0.01, 50.0)))(TIMES).square()
    assert torch.allclose(found, 2 * math.log(5000) * (0.01 * 5000 ** (1 - TIMES)) ** 2, rtol=1e-10)
