"""Wasserstein gradient flows against closed forms, finite volumes and direct minimisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.optimize import minimize
from torch import Tensor

from pushforward import GaussianMixture, Normal
from pushforward.gradient_flows import (
    JKO,
    Entropy,
    Grid,
    Interaction,
    Points,
    Potential,
    Support,
    fokker_planck,
    gaussian_jko,
    kullback_leibler,
    langevin,
    stein,
)
from pushforward.random import seeded
from pushforward.solvers import EulerMaruyama, Heun

D = torch.float64
WELL = Potential(lambda x: (x[:, 0].square() - 1).square())
NORMAL = kullback_leibler(Normal(1).log_prob)
LINE = Grid((-10.0, 10.0, 160))


def bell(support: Support, mean: float, variance: float) -> Tensor:
    return support.weights((-(support.points - mean).square().sum(1) / (2 * variance)).exp())


@pytest.mark.parametrize("h", [0.02, 0.3, 2.0])
def test_variances_of_normal_distributions_follow_the_published_recursion(h: float) -> None:
    """sigma+ = [sigma/h + sqrt(sigma^2/h^2 + 4 D (1/h + lambda))] / (2 (1/h + lambda))."""
    rate, heat, sigma, mean = 0.7, 1.3, 2.0, 5.0
    m, c = torch.tensor([mean], dtype=D), torch.tensor([[sigma**2]], dtype=D)
    for _ in range(10):
        m, c = gaussian_jko(m, c, rate, h, heat)
        mean /= 1 + rate * h
        sigma = (sigma / h + math.sqrt(sigma**2 / h**2 + 4 * heat * (1 / h + rate))) / (2 * (1 / h + rate))
        assert (m.item(), c.item()) == pytest.approx((mean, sigma**2), rel=1e-13)
    fixed = torch.eye(1, dtype=D) * heat / rate
    torch.testing.assert_close(gaussian_jko(m, fixed, rate, h, heat)[1], fixed, rtol=1e-13, atol=0)


def test_covariances_that_do_not_commute_are_the_minimum() -> None:
    """Beside a direct minimisation over Cholesky factors with the Bures distance, by SciPy."""
    generator = seeded("jko", "covariances")
    a, p = (torch.randn(3, 3, generator=generator, dtype=D) for _ in range(2))
    covariance, precision, h, heat = a @ a.T + 0.3 * torch.eye(3), p @ p.T, 0.4, 0.8
    mean = torch.randn(3, generator=generator, dtype=D)
    old, bend, root = covariance.numpy(), precision.numpy(), np.real(sqrtm(covariance.numpy()))

    def objective(numbers: np.ndarray) -> float:
        m, lower = numbers[:3], np.zeros((3, 3))
        lower[np.tril_indices(3)] = numbers[3:]
        new = lower @ lower.T
        bures = np.trace(old + new - 2 * np.real(sqrtm(root @ new @ root)))
        far = ((m - mean.numpy()) ** 2).sum() + bures
        potential = 0.5 * (np.trace(bend @ new) + m @ bend @ m)
        return far / (2 * h) + potential - 0.5 * heat * np.linalg.slogdet(new)[1]

    start = np.concatenate([mean.numpy(), np.linalg.cholesky(old)[np.tril_indices(3)]])
    best = minimize(objective, start, method="BFGS", options={"gtol": 1e-7})
    m, c = gaussian_jko(mean, covariance, precision, h, heat)
    ours = np.concatenate([m.numpy(), np.linalg.cholesky(c.numpy())[np.tril_indices(3)]])
    assert objective(ours) <= best.fun + 1e-9
    np.testing.assert_allclose(ours, best.x, atol=1e-4)


def test_the_scheme_is_of_first_order() -> None:
    """Against the Ornstein-Uhlenbeck process, of variance D/lambda + (s0 - D/lambda) exp(-2 lambda t)."""
    errors = []
    for steps in (20, 40, 80):
        m, c = torch.zeros(1, dtype=D), torch.full((1, 1), 4.0, dtype=D)
        for _ in range(steps):
            m, c = gaussian_jko(m, c, 1.0, 1.0 / steps)
        errors.append(abs(c.item() - (1 + 3 * math.exp(-2))))
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.1)


def samples(count: int = 300) -> Points:
    """Points of a wide normal distribution, as even as a sequence of Sobol makes them."""
    uniform = (
        torch.quasirandom.SobolEngine(1, scramble=True, seed=4).draw(count, dtype=D).clamp(1e-6, 1 - 1e-6)
    )
    x = 3 * math.sqrt(2) * torch.erfinv(2 * uniform - 1)
    return Points(x, 1 / (count * Normal(1, scale=3.0).double().log_prob(x).exp()))


@pytest.mark.parametrize(
    ("support", "blur", "close"),
    [(LINE, None, 0.003), (Grid((-7, 7, 40), (-7, 7, 40)), None, 0.02), (samples(), 0.2, 0.02)],
    ids=["line", "plane", "samples"],
)
def test_weights_follow_the_closed_form(support: Support, blur: float | None, close: float) -> None:
    """Ten steps under KL to N(0, I), variances within 2 per cent; the energy falls."""
    d = support.points.shape[1]
    energy = kullback_leibler(Normal(d).double().log_prob)
    w = bell(support, 1.0, 3.0)
    m, c = support.moments(w)
    scheme, values = JKO(energy, support, step=0.2, blur=blur), []
    for step in scheme.run(w, 10):
        m, c = gaussian_jko(m, c, 1.0, 0.2)
        mean, covariance = support.moments(step.weights)
        torch.testing.assert_close(mean, m, rtol=0, atol=0.01)
        torch.testing.assert_close(covariance.diag(), c.diag(), rtol=close, atol=0)
        torch.testing.assert_close(covariance, c, rtol=0.02, atol=0.02)  # off the diagonal 0
        values.append(step.energy)
    assert values == sorted(values, reverse=True)


def test_the_double_well_is_that_of_finite_volumes() -> None:
    """L1 distance below 0.02, falling with the step; the free energy falls."""
    grid = Grid((-2.6, 2.6, 120))
    w = bell(grid, 1.2, 0.04)
    truth = fokker_planck(WELL, grid, w, [0.5], diffusion=0.5)[0]
    found = []
    for h in (0.05, 0.025):
        steps = [*JKO(WELL + Entropy(0.5), grid, h).run(w, round(0.5 / h))]
        found.append(float((steps[-1].weights - truth).abs().sum()))
        energies = [step.energy for step in steps]
        assert energies == sorted(energies, reverse=True)
    assert found[0] < 0.02
    assert found[0] / found[1] == pytest.approx(2, abs=0.25)


def test_finite_volumes_follow_the_ornstein_uhlenbeck_process() -> None:
    """Of second order in the width, with exp(-V/D) at rest."""
    times, heat = [0.0, 0.3, 2.0], 0.7
    potential, errors = Potential(lambda x: x[:, 0].square() / 2), []
    for cells in (160, 320):
        grid = Grid((-9.0, 9.0, cells))
        found = fokker_planck(potential, grid, bell(grid, 0.0, 3.0), times, heat)
        variances = torch.stack([grid.moments(w)[1][0, 0] for w in found])
        truth = heat + (3.0 - heat) * torch.exp(-2 * torch.tensor(times, dtype=D))
        errors.append(float((variances - truth).abs().max()))
        rest = bell(grid, 0.0, heat)
        torch.testing.assert_close(
            fokker_planck(potential, grid, rest, [3.0], heat)[0], rest, rtol=0, atol=1e-12
        )
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.5) and errors[1] < 1e-3


def test_particles_that_attract_each_other_keep_their_mean() -> None:
    """W = z^2/2 is the potential (x - mean)^2/2, of which the closed form holds around the mean."""
    w = bell(LINE, 2.0, 3.0)
    m, c = torch.zeros(1, dtype=D), LINE.moments(w)[1]
    for step in JKO(Interaction(lambda z: z[:, 0].square() / 2) + Entropy(), LINE, 0.2).run(w, 5):
        m, c = gaussian_jko(m, c, 1.0, 0.2)
        mean, covariance = LINE.moments(step.weights)
        assert mean.item() == pytest.approx(2.0, abs=1e-3)
        torch.testing.assert_close(covariance, c, rtol=0.02, atol=0)


def test_a_step_says_where_the_mass_went() -> None:
    """Between normal distributions the map is affine: here from deviation 2 to that of the closed form."""
    w = bell(LINE, 0.0, 4.0)
    step = JKO(NORMAL, LINE, 0.2)(w)
    new = gaussian_jko(torch.zeros(1, dtype=D), torch.full((1, 1), 4.0, dtype=D), 1.0, 0.2)[1]
    x = LINE.points[:, 0]
    middle = x.abs() < 3
    wanted = x * math.sqrt(new.item() / 4)
    torch.testing.assert_close(step.moved[middle, 0], wanted[middle], rtol=0, atol=0.03)


def test_forces_are_minus_the_slopes_of_the_first_variation() -> None:
    """Particles of equal weight are Points, whose slope is known at them; by differences along x."""
    x = torch.randn(5, 2, generator=seeded("forces"), dtype=D)
    energy = Potential(lambda x: x.pow(4).sum(1)) + Interaction(lambda z: (1 + z.square().sum(1)).log())
    w = torch.full((5,), 0.2, dtype=D)
    for i in range(5):
        for k in range(2):
            ahead, behind = x.clone(), x.clone()
            ahead[i, k] += 1e-5
            behind[i, k] -= 1e-5
            values = [energy.value(w, Points(y, torch.ones(5))) for y in (ahead, behind)]
            slope = (values[0] - values[1]) / 2e-5 / 0.2  # dF/dx_i = w_i grad of the variation
            assert energy.force(x)[i, k].item() == pytest.approx(-slope.item(), abs=1e-8)


def test_stein_moves_as_its_sum_says() -> None:
    x = torch.randn(6, 2, generator=seeded("stein"), dtype=D)
    score = lambda y: -(y - 1.0) / 4.0  # noqa: E731
    energy = kullback_leibler(lambda y: -(y - 1.0).square().sum(1) / 8)
    wanted = torch.zeros(6, 2, dtype=D)
    for i in range(6):
        for j in range(6):
            z = x[j] - x[i]
            kernel = math.exp(-float(z @ z) / (2 * 0.7**2))
            wanted[i] += (kernel * score(x[j]) - kernel * z / 0.7**2) / 6
    torch.testing.assert_close(stein(energy, bandwidth=0.7).velocity(torch.zeros(()), x), wanted)


def test_particles_find_both_modes() -> None:
    """From N((3, 3), I) under KL to a mixture: Stein's by symmetry half and half; Langevin's variance."""
    target = GaussianMixture(torch.tensor([[1.2, 0.0], [-1.2, 0.0]]), 0.8)
    energy, generator = kullback_leibler(target.log_prob), seeded("modes")
    x = torch.randn(2000, 2, generator=generator) + 3
    end = EulerMaruyama(steps=600).solve(langevin(energy), x, 0.0, 30.0, generator=generator).x
    # deviations of 2,000 nearly independent rows: share .011, variance of the second coordinate .02
    assert float((end[:, 0] > 0).float().mean()) == pytest.approx(0.5, abs=0.06)
    assert end[:, 1].var().item() == pytest.approx(0.64, abs=0.08)
    spread = Heun(steps=200).solve(stein(energy), x[:200] * 0.5 - 1.5, 0.0, 60.0).x
    assert float((spread[:, 0] > 0).float().mean()) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: JKO(WELL + Entropy(), LINE, step=0.5), "h below 0.25"),
        (lambda: JKO(NORMAL, LINE, step=0.0), "step: expected a finite number above 0"),
        (lambda: JKO(NORMAL, LINE, 0.1)(torch.ones(3)), "w: expected one weight for each of 160 points"),
        (lambda: JKO(NORMAL, LINE, 0.1)(torch.ones(160)), "w: expected weights >= 0 of sum 1"),
        (lambda: gaussian_jko(torch.zeros(1), torch.eye(1), -2.0, 0.5), "no minimum"),
        (lambda: gaussian_jko(torch.zeros(2), torch.eye(1), 1.0, 0.5), "covariance: expected"),
        (lambda: gaussian_jko(torch.zeros(1), torch.eye(1), torch.eye(2), 0.5), "precision: expected"),
        (lambda: fokker_planck(WELL, Grid((0, 1, 3), (0, 1, 3)), torch.ones(9) / 9, [1.0]), "one dimension"),
        (lambda: fokker_planck(WELL, LINE, bell(LINE, 0, 1), [-1.0]), "times: expected"),
        (lambda: Grid(), "axes: expected"),
        (lambda: Grid((1.0, 0.0, 5)), "low < high"),
        (lambda: Points(torch.zeros(3), torch.ones(3)), "x, volumes: expected"),
        (lambda: Points(torch.zeros(3, 1), torch.zeros(3)), "volumes: expected positive"),
        (lambda: LINE.weights(torch.ones(3)), "density: expected one number"),
        (lambda: LINE.weights(-torch.ones(160)), "density: expected finite numbers"),
        (lambda: Potential(lambda x: x).force(torch.zeros(3, 2)), "function: expected one number"),
        (
            lambda: Potential(lambda x: x[:, 0].log()).value(bell(LINE, 0, 1), LINE),
            "not finite at every point",
        ),
        (lambda: stein(NORMAL, bandwidth=0.0), "bandwidth: expected"),
        (lambda: Entropy(-1.0), "weight: expected"),
    ],
)
def test_what_does_not_fit_is_said(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_scaling_that_does_not_converge_is_said() -> None:
    with pytest.raises(RuntimeError, match="did not converge: after 3 iterations"):
        JKO(NORMAL, LINE, 0.1, max_iterations=3)(bell(LINE, 0.0, 4.0))
