"""The contract of every registered schedule and noise level: formula, marginal, and field of the oracle."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from contract import complete
from pushforward import registry
from pushforward.oracles import GaussianMixtureOracle
from pushforward.paths import Interpolant, Linear
from pushforward.random import seeded
from pushforward.sources import GaussianMixture

Formula = Callable[[np.ndarray], np.ndarray]
#: Of 37 steps, so that no time below is one of the chain.
BETAS = np.linspace(1e-4, 0.02, 37) * 1000 / 37


def chain(t: np.ndarray) -> np.ndarray:
    """log alpha of the chain with these betas, a monotone cubic between its steps."""
    logs = np.concatenate([[0.0], 0.5 * np.cumsum(np.log(1 - BETAS))])
    return PchipInterpolator(np.arange(38), logs)((1 - t) * 37)


#: Options, alpha and sigma by NumPy.
SCHEDULES: dict[str, tuple[str, Formula, Formula]] = {
    "linear": ("", lambda t: t, lambda t: 1 - t),
    "lipman": ("sigma_min=0.2", lambda t: t, lambda t: 1 - 0.8 * t),
    "vp": (
        "beta_min=0.3,beta_max=7",
        lambda t: np.exp(-0.15 * (1 - t) - 6.7 / 4 * (1 - t) ** 2),
        lambda t: np.sqrt(1 - np.exp(-0.3 * (1 - t) - 6.7 / 2 * (1 - t) ** 2)),
    ),
    "ve": ("sigma_min=0.1,sigma_max=5", np.ones_like, lambda t: 0.1 * 50 ** (1 - t)),
    "sub-vp": (
        "beta_min=0.3,beta_max=7",
        lambda t: np.exp(-0.15 * (1 - t) - 6.7 / 4 * (1 - t) ** 2),
        lambda t: 1 - np.exp(-0.3 * (1 - t) - 6.7 / 2 * (1 - t) ** 2),
    ),
    "cosine": (
        "offset=0.05",
        lambda t: np.cos((1 - t + 0.05) / 1.05 * np.pi / 2) / np.cos(0.05 / 1.05 * np.pi / 2),
        lambda t: np.sqrt(1 - (np.cos((1.05 - t) / 1.05 * np.pi / 2) / np.cos(np.pi / 42)) ** 2),
    ),
    "ddpm": (
        "steps=37",
        lambda t: np.exp(chain(t)),
        lambda t: np.sqrt(1 - np.exp(2 * chain(t))),
    ),
    "edm": (
        "sigma_min=0.1,sigma_max=9,rho=3",
        np.ones_like,
        lambda t: (9 ** (1 / 3) + t * (0.1 ** (1 / 3) - 9 ** (1 / 3))) ** 3,
    ),
    "trig": ("", lambda t: np.sin(np.pi * t / 2), lambda t: np.cos(np.pi * t / 2)),
    "polynomial": ("power=3", lambda t: t**3, lambda t: 1 - t**3),
    "follmer": ("", lambda t: t, lambda t: np.sqrt(1 - t**2)),
}
#: Options, and gamma by NumPy.
GAMMAS: dict[str, tuple[str, Formula]] = {
    "constant": ("value=0.3", lambda t: np.full_like(t, 0.3)),
    "brownian": ("sigma=0.7", lambda t: 0.7 * np.sqrt(t * (1 - t))),
    "quadratic": ("scale=2", lambda t: 2 * t * (1 - t)),
    "sine": ("scale=0.5", lambda t: 0.5 * np.sin(np.pi * t) ** 2),
}
TIMES = np.linspace(0.05, 0.95, 19)
#: The step of central differences, whose error is of the order of its square.
STEP = 1e-5


def test_every_schedule_and_noise_level_has_a_case() -> None:
    complete("path", SCHEDULES)
    complete("gamma", GAMMAS)


def create(kind: str, name: str):
    options = {"path": SCHEDULES, "gamma": GAMMAS}[kind][name][0]
    return registry.create(kind, f"{name},{options}".rstrip(","))


def slope(formula: Formula) -> np.ndarray:
    return (formula(TIMES + STEP) - formula(TIMES - STEP)) / (2 * STEP)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_its_formula_and_has_its_slopes(name: str) -> None:
    _, alpha, sigma = SCHEDULES[name]
    found = create("path", name)(torch.from_numpy(TIMES))
    for value, wanted in zip(found, (alpha(TIMES), sigma(TIMES), slope(alpha), slope(sigma))):
        np.testing.assert_allclose(value.numpy(), wanted, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", GAMMAS)
def test_a_noise_level_is_its_formula_and_has_its_slope(name: str) -> None:
    formula = GAMMAS[name][1]
    found = create("gamma", name)(torch.from_numpy(TIMES))
    wanted = formula(TIMES), slope(formula), formula(TIMES) * slope(formula)
    for value, expected in zip(found, wanted):
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-7, atol=1e-8)


def paths() -> dict[str, Interpolant]:
    with_noise = {f"linear and {name}": Interpolant(Linear(), create("gamma", name)) for name in GAMMAS}
    return {name: Interpolant(create("path", name)) for name in SCHEDULES} | with_noise


@pytest.mark.parametrize("name", paths())
def test_the_marginal_of_a_normal_target_is_normal_and_moves_with_the_field_of_the_oracle(name: str) -> None:
    """x_t ~ N(m, v) with m = alpha 2 and v = 0.25 alpha^2 + s^2; its field is m' + v' (x - m) / (2 v)."""
    path = paths()[name]
    mean, deviation = 2.0, 0.5
    target = GaussianMixture(torch.tensor([[mean]], dtype=torch.float64), deviation)
    oracle = GaussianMixtureOracle(target.double(), path)
    x = torch.linspace(-1, 3, 5, dtype=torch.float64)[:, None]

    def moments(t: Tensor) -> tuple[Tensor, Tensor]:
        c = path.coefficients(t)
        return c.alpha * mean, c.alpha.square() * deviation**2 + c.sigma.square() + c.gamma.square()

    for time in (0.1, 0.5, 0.9):
        t = torch.tensor([time], dtype=torch.float64)
        (m, v), (after, before) = moments(t), (moments(t + STEP), moments(t - STEP))
        dm, dv = ((a - b) / (2 * STEP) for a, b in zip(after, before))
        field = dm + 0.5 * dv / v * (x - m)
        assert torch.allclose(oracle(t[0], x), field, rtol=1e-6, atol=1e-7)
        log_density = -0.5 * ((x - m).square() / v + v.log() + math.log(2 * math.pi))
        assert torch.allclose(oracle.log_prob(t[0], x), log_density[:, 0], rtol=1e-12)
        # five standard errors of draws of the path itself
        n, generator = 20_000, seeded(name, int(100 * time))
        x0, z = torch.randn(2, n, 1, generator=generator, dtype=torch.float64)
        drawn = path.sample(t[0], x0, mean + deviation * z, generator=generator).x
        assert float(drawn.mean()) == pytest.approx(float(m), abs=5 * math.sqrt(float(v) / n))
        assert float(drawn.var()) == pytest.approx(float(v), rel=5 * math.sqrt(2 / n))
