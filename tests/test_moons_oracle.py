"""The exact distribution of two moons against quadrature by SciPy and data by scikit-learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate
from sklearn.datasets import make_moons

from pushforward.oracles import TwoMoons
from pushforward.random import seeded

POINTS = [
    (0.0, 0.0),
    (1.0, 0.5),
    (1.0, 0.0),
    (0.5, 0.25),
    (-3.0, -4.0),
    (0.3, -0.7),
    (-1.0, 0.0),
    (30.0, -20.0),
]


def reference(x: tuple[float, float], noise: float) -> float:
    """log p(x) from the definition: SciPy's quadrature over both arcs, in pieces around each peak."""
    logs = []
    for (cx, cy), turn in (((0.0, 0.0), 1.0), ((1.0, 0.5), -1.0)):

        def exponent(a, cx=cx, cy=cy, turn=turn):
            square = (x[0] - cx - turn * np.cos(a)) ** 2 + (x[1] - cy - turn * np.sin(a)) ** 2
            return -square / (2 * noise**2)

        grid = np.linspace(0, math.pi, 20_001)
        top = exponent(grid).max()
        peak = grid[exponent(grid).argmax()]
        width = noise * np.array([-9, -3, -1, -0.1, -0.01, 0, 0.01, 0.1, 1, 3, 9])
        edges = np.unique(np.clip([0, math.pi, *(peak + width)], 0, math.pi))
        pieces = [
            integrate.quad(
                lambda a, f=exponent, m=top: math.exp(f(a) - m), low, high, epsabs=1e-14, epsrel=1e-11
            )
            for low, high in itertools.pairwise(edges)
        ]
        logs.append(top + math.log(sum(value for value, _ in pieces) / math.pi))
    return float(np.logaddexp(*logs)) - math.log(2) - math.log(2 * math.pi * noise**2)


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.5, 2.0])
def test_log_prob_is_the_integral_over_the_arcs(noise: float) -> None:
    x = torch.tensor(POINTS, dtype=torch.float64)
    expected = np.array([reference(point, noise) for point in POINTS])
    # far points have log-densities of -1e6, which doubles hold to 1e-10
    np.testing.assert_allclose(TwoMoons(noise).log_prob(x).numpy(), expected, rtol=1e-13, atol=1e-10)


@pytest.mark.parametrize("label", [None, 0, 1])
def test_integrates_to_one(label: int | None) -> None:
    across, up = np.arange(-2, 3, 0.05), np.arange(-1.5, 2, 0.05)
    points = torch.cartesian_prod(torch.from_numpy(across), torch.from_numpy(up))
    given = None if label is None else torch.full((len(points),), label)
    density = TwoMoons(0.1).log_prob(points, given).exp().reshape(len(across), len(up)).numpy()
    # the trapezoid rule is as good as exact for what is blurred over two of its steps
    assert integrate.trapezoid(integrate.trapezoid(density, up), across) == pytest.approx(1.0, abs=1e-12)


def test_labels_are_the_two_halves() -> None:
    distribution, x = TwoMoons(), torch.tensor(POINTS[:4], dtype=torch.float64)
    first, second = (distribution.log_prob(x, torch.full((4,), label)) for label in (0, 1))
    torch.testing.assert_close(torch.logaddexp(first, second) - math.log(2), distribution.log_prob(x))
    torch.testing.assert_close(distribution.log_prob(x, torch.full((4,), -1)), distribution.log_prob(x))
    # the arcs change places under the point reflection at (1/2, 1/4)
    torch.testing.assert_close(
        distribution.log_prob(torch.tensor([1.0, 0.5]) - x, torch.ones(4).long()), first
    )
    drawn = distribution.double().sample(1000, torch.zeros(1000).long(), seeded(0))
    assert bool((distribution.log_prob(drawn, torch.zeros(1000).long()) > -20).all())


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.3])
def test_entropy_is_that_of_data_from_scikit_learn_and_of_own_draws(noise: float) -> None:
    distribution = TwoMoons(noise).double()
    made = torch.from_numpy(make_moons(20_000, noise=noise, random_state=1)[0])
    for x in (made, distribution.sample(20_000, None, seeded(2))):
        nll = -distribution.log_prob(x)
        assert nll.dtype == torch.float64
        # 4 standard errors of the mean
        assert float(nll.mean()) == pytest.approx(
            distribution.entropy(), abs=4 * float(nll.std()) / 20_000**0.5
        )


def test_wide_noise_is_nearly_normal() -> None:
    # mean and covariance of the two arcs, see pushforward.data.toys.moons; at noise 30 the distribution is
    # normal with them up to terms of order noise^-4
    distribution, c = TwoMoons(30.0), (0.5 - 4 / math.pi) / 4
    v = 0.5 - 4 / math.pi**2 + (4 / math.pi - 0.5) ** 2 / 4
    covariance = torch.tensor([[0.75, c], [c, v]]).double() + 900 * torch.eye(2).double()
    normal = torch.distributions.MultivariateNormal(torch.tensor([0.5, 0.25]).double(), covariance)
    assert distribution.entropy() == pytest.approx(float(normal.entropy()), abs=1e-6)


def test_score_against_differences() -> None:
    distribution, x = TwoMoons(), torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    score = torch.autograd.grad(distribution.log_prob(x).sum(), x)[0]
    for i in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[i] = 1e-5
        with torch.no_grad():
            slope = (distribution.log_prob(x + step) - distribution.log_prob(x - step)) / 2e-5
        torch.testing.assert_close(score[:, i], slope, rtol=1e-5, atol=1e-4)


def test_dtype_and_mistakes() -> None:
    distribution = TwoMoons()
    assert distribution.log_prob(torch.zeros(3, 2)).dtype == torch.float32
    assert distribution.sample(3).dtype == torch.float32
    assert distribution.log_prob(torch.zeros(0, 2)).shape == (0,)
    for noise in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="noise: expected a positive number"):
            TwoMoons(noise)
    with pytest.raises(ValueError, match="expected 2 labels of an arc"):
        distribution.sample(2, torch.zeros(3).long())
    with pytest.raises(ValueError, match="labels 0 and 1"):
        distribution.log_prob(torch.zeros(2, 2), torch.tensor([0, 2]))
