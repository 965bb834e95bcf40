"""Solvers of denoising problems against the closed forms of a Gaussian mixture."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from narrowing import known
from pushforward import random
from pushforward.oracles import GaussianMixtureOracle
from pushforward.paths import Interpolant, Linear, Schedule, Trigonometric, VariancePreserving
from pushforward.random import seeded
from pushforward.solvers import DDIM, Denoise, Dopri5, DPMSolver, DPMSolverSDE, EDMStochastic, Solver, UniPC
from pushforward.sources import GaussianMixture
from solver_cases import slope, tensor

DOUBLE = torch.float64
MIXTURE = GaussianMixture(tensor([-1.5, 0.0], [1.0, 1.0], [0.5, -1.5]), 0.4)
START = torch.randn(256, 2, generator=seeded("denoise"), dtype=DOUBLE)
#: each stochastic method with the steps whose bias is below the standard errors of the tests
STOCHASTIC = {"dpm++sde": DPMSolverSDE(steps=100), "edm": EDMStochastic(steps=60)}
DETERMINISTIC = {"ddim": DDIM, "dpm++": DPMSolver, "unipc": UniPC}
deterministic = pytest.mark.parametrize("name", DETERMINISTIC)


def problem(schedule: Schedule) -> tuple[Denoise, GaussianMixtureOracle]:
    oracle = GaussianMixtureOracle(MIXTURE, Interpolant(schedule))
    return Denoise(oracle.data, schedule), oracle


def uniform_in_lambda(steps: int, start: float, stop: float) -> list[float]:
    """Fractions of [start, stop] that are equally far apart in log(t / (1 - t))."""
    low, high = (math.log(t / (1 - t)) for t in (start, stop))
    lambdas = torch.linspace(low, high, steps + 1, dtype=DOUBLE)
    nodes = (lambdas.sigmoid() - start) / (stop - start)
    return [0.0, *nodes[1:-1].tolist(), 1.0]


@deterministic
def test_the_order_on_a_mixture(name: str) -> None:
    """On a grid uniform in lambda, as the papers' theorems ask; the truth is that of another solver."""
    denoise, oracle = problem(Linear())
    ends, steps = (0.02, 0.98), (40, 80, 160)
    truth = Dopri5(rtol=1e-11, atol=1e-11).solve(oracle, START, *ends).x
    cls, errors = DETERMINISTIC[name], []
    for n in steps:
        found = cls(grid=uniform_in_lambda(n, *ends)).solve(denoise, START, *ends)
        errors.append(float((found.x - truth).square().mean().sqrt()))
    assert slope(steps, errors) == pytest.approx(cls.order, abs=0.25)
    print(name, errors)


@pytest.mark.parametrize(
    "schedule", [Linear(), Trigonometric(), VariancePreserving()], ids=lambda s: type(s).__name__
)
@deterministic
def test_a_single_point_is_reached_exactly_from_pure_noise(name: str, schedule: Schedule) -> None:
    point = tensor([2.0, -1.0]).expand(256, 2)
    cls = DETERMINISTIC[name]
    found = cls(steps=3).solve(Denoise(lambda t, x: point, schedule), START, 0.0, 1.0, save_at=[0.4, 1.0])
    alpha, sigma, *_ = schedule(tensor(0.0, 0.4, 1.0))
    noise = (START - alpha[0] * point) / sigma[0]
    for x, a, s in zip(known(found.path), alpha[1:], sigma[1:]):
        torch.testing.assert_close(x, a * point + s * noise, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "most"), [("ddim", 0.02), ("dpm++", 2e-3), ("unipc", 5e-4)])
@pytest.mark.parametrize("schedule", [Linear(), Trigonometric()], ids=["linear", "trigonometric"])
def test_the_whole_interval_needs_no_margin(name: str, most: float, schedule: Schedule) -> None:
    denoise, oracle = problem(schedule)
    truth = Dopri5(rtol=1e-9, atol=1e-9).solve(oracle, START, 0.0, 1.0).x
    found = DETERMINISTIC[name](steps=200).solve(denoise, START, 0.0, 1.0).check()
    assert float((found.x - truth).square().mean().sqrt()) < most


@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_samplers_keep_the_marginals(name: str) -> None:
    """Means and second moments at the end and at times inside steps, within three standard errors."""
    n = 20_000
    denoise, _ = problem(Linear())
    x0 = torch.randn(n, 2, generator=seeded(name, "start"), dtype=DOUBLE)
    times = [0.303, 0.703, 0.7049, 1.0]  # two of them inside one step
    found = STOCHASTIC[name].solve(denoise, x0, 0.0, 1.0, times, seeded(name, "noise"))
    exact = MIXTURE.sample(200_000, generator=seeded(name, "exact"))
    noise = torch.randn(exact.shape, generator=seeded(name, "more"), dtype=DOUBLE)
    path = known(found.path)
    for t, x in zip(times, path):
        wanted = t * exact + (1 - t) * noise
        for a, b in [(x, wanted), (x.square(), wanted.square()), (x.prod(1), wanted.prod(1))]:
            error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
            assert ((a.mean(0) - b.mean(0)).abs() < 3 * error).all(), (t, a.mean(0), b.mean(0))
    # between nearby times it moves by little, and not as if the noise were drawn anew
    assert float((path[2] - path[1]).square().mean()) < 0.02
    alone = STOCHASTIC[name].solve(denoise, x0, 0.0, 1.0, generator=seeded(name, "noise"))
    assert torch.equal(alone.x, found.x)


def test_the_weak_order_of_the_stochastic_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    """For normal data the end is linear in the start and in all noise; unit vectors find the coefficients."""
    deviation, ends = 0.5, (0.05, 0.9)

    def pop(draws: list[Tensor], *_: Any) -> Tensor:
        return draws.pop(0)

    def data(t: Tensor, x: Tensor) -> Tensor:
        variance = (t * deviation) ** 2 + (1 - t) ** 2
        return t * deviation**2 * x / variance

    def variance(t: float) -> float:
        return (t * deviation) ** 2 + (1 - t) ** 2

    errors, steps = [], (20, 40, 80)
    for n in steps:
        draws = torch.eye(n, n + 1, dtype=DOUBLE)[:, :, None]
        monkeypatch.setattr(random, "normal", partial(pop, list(draws)))
        start = torch.eye(1, n + 1, dtype=DOUBLE).flip(1).T
        grid = uniform_in_lambda(n, *ends)
        weights = DPMSolverSDE(grid=grid).solve(Denoise(data, Linear()), start, *ends).x[:, 0]
        found = float(weights[:-1].square().sum() + weights[-1] ** 2 * variance(ends[0]))
        errors.append(abs(found - variance(ends[1])))
    assert slope(steps, errors) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("solver", [DDIM(), DPMSolver(), UniPC(), DPMSolverSDE(), EDMStochastic()], ids=repr)
def test_wrong_problems_are_refused(solver: Solver) -> None:
    good, _ = problem(Linear())
    with pytest.raises(
        ValueError, match="t0: expected a time with noise, got 1.0" if not solver.draws else "t0, t1"
    ):
        solver.solve(good, START, 1.0, 0.0)
    with pytest.raises(ValueError, match="schedule: expected alpha / sigma to rise with the time"):
        solver.solve(Denoise(good.data, lambda t: (1 - t, t + 0.1, -1 + 0 * t, 1 + 0 * t)), START, 0.0, 0.9)
    with pytest.raises(ValueError, match=r"data: expected the shapes of x, .*\(256, 2\).*got .*\(256,\)"):
        solver.solve(Denoise(lambda t, x: x[:, 0], Linear()), START, 0.0, 1.0)
    with pytest.raises(ValueError, match="carries one tensor, got tuple"):
        solver.solve(good, (START, START), 0.0, 1.0)


@pytest.mark.parametrize("cls", [DPMSolver, DPMSolverSDE, UniPC])
def test_a_method_of_two_steps_needs_two(cls: type[Any]) -> None:
    with pytest.raises(ValueError, match="steps: expected an integer of at least 2, got 1"):
        cls(steps=1)
    with pytest.raises(ValueError, match="steps of the grid: expected an integer of at least 2, got 1"):
        cls(grid=[0, 1])


def test_points_inside_long_steps_have_the_marginals_too() -> None:
    """For data of a single point two steps are exact, so that the bridge inside them has to be as well."""
    n, point = 20_000, 1.5
    denoise = Denoise(lambda t, x: torch.full_like(x, point), Linear())
    start = torch.randn(n, 1, generator=seeded("bridge start"), dtype=DOUBLE)
    times = [0.2, 0.35, 0.6, 0.9]
    found = DPMSolverSDE(steps=2).solve(denoise, start, 0.0, 1.0, times, seeded("bridge"))
    path = known(found.path)[..., 0]
    for t, x in zip(times, path):
        # the standard error of a deviation is 1 / sqrt(2 n) of it; four of them
        assert float(x.std()) == pytest.approx(1 - t, rel=4 / math.sqrt(2 * n))
        assert float(x.mean()) == pytest.approx(t * point, abs=4 * (1 - t) / math.sqrt(n))
    # x / alpha has independent increments, so that its covariance is the smaller variance; its error is
    # about sqrt(2 / n) times the ratio of the deviations, which is 2.2, and four of these are allowed
    noise = (path - torch.tensor(times)[:, None] * point) / torch.tensor(times)[:, None]
    covariance = torch.cov(noise[:2])
    assert float(covariance[0, 1] / covariance[1, 1]) == pytest.approx(1, abs=4 * math.sqrt(2 / n) * 2.2)
