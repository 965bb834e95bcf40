"""The scheme of Jordan, Kinderlehrer and Otto by networks, against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.distributions import Normal as Normal1

from narrowing import one_tensor
from pushforward import GaussianMixture, Normal, Rows
from pushforward.flows import ContinuousFlow, Hutchinson
from pushforward.gradient_flows import (
    Energy,
    Entropy,
    Interaction,
    NetworkJKO,
    NetworkStep,
    Points,
    Potential,
    ProximalStep,
    gaussian_jko,
    kullback_leibler,
)
from pushforward.nn import MLP
from pushforward.objectives import Batch, Step
from pushforward.random import seeded
from pushforward.solvers import RK4

D = torch.float64
NORMAL = kullback_leibler(Normal(2).log_prob)


def small(d: int) -> MLP:
    return MLP(d, width=32, depth=2, activation="tanh")


class Linear(nn.Module):
    """f = A x, symmetric, whose flow is exp(A)."""

    def __init__(self, numbers: Any):
        super().__init__()
        a, b, c = numbers
        self.a = nn.Parameter(torch.tensor([[a, b], [b, c]], dtype=D))

    def forward(self, t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
        return x @ self.a.T


@pytest.mark.parametrize("backwards", [False, True])
def test_the_least_loss_is_the_step_of_normal_distributions(backwards: bool) -> None:
    """Over linear blocks, by SciPy, from rows of exactly that mean and covariance."""
    rows = torch.randn(50, 2, generator=seeded("network"), dtype=D)
    rows = rows - rows.mean(0)
    x = rows @ torch.linalg.inv(torch.linalg.cholesky(rows.T @ rows / 50)).T
    x = x @ torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=D)
    energy, sign = Potential(lambda x: 0.5 * (x.square() * torch.tensor([1.0, 3.0])).sum(1)) + Entropy(0.7), 1
    objective, sign = ProximalStep(energy, 0.3, backwards=backwards), -1 if backwards else 1

    def loss(numbers: Any) -> float:
        flow = ContinuousFlow(Linear(numbers), RK4(8), Normal(2).double())
        return objective.loss(nn.ModuleDict({"block": flow}), Batch((Rows(x),)), Step()).value.item()

    found = minimize(loss, [0.0, 0.0, 0.0], method="BFGS", options={"gtol": 1e-8}).x
    a, b, c = sign * torch.tensor(found, dtype=D)
    map_ = torch.linalg.matrix_exp(torch.stack([torch.stack([a, b]), torch.stack([b, c])]))
    old = x.T @ x / 50
    precision = torch.diag(torch.tensor([1.0, 3.0], dtype=D))
    wanted = gaussian_jko(torch.zeros(2, dtype=D), old, precision, 0.3, 0.7)[1]
    torch.testing.assert_close(map_ @ old @ map_.T, wanted, rtol=1e-4, atol=1e-4)


def test_energies_at_moved_particles_are_those_of_their_distributions() -> None:
    """A scaled normal distribution has the entropy of the closed form; the others are sums over points."""
    x = torch.randn(7, 2, generator=seeded("moved"), dtype=D)
    w, points, zero = torch.full((7,), 1 / 7, dtype=D), Points(x, torch.ones(7)), torch.zeros(7, dtype=D)
    for energy in (
        Potential(lambda x: x.pow(4).sum(1)),
        Interaction(lambda z: (1 + z.square().sum(1)).log()),
    ):
        torch.testing.assert_close(energy.moved(x, zero).mean(), energy.value(w, points))
    log_det = torch.full((7,), 2 * math.log(3.0), dtype=D)
    one, three = (Normal1(zero[0], zero[0] + k).entropy() for k in (1, 3))
    change = one - three
    torch.testing.assert_close(Entropy(0.5).moved(x, log_det), (0.5 * 2 * change).expand(7))
    both = Potential(lambda x: x[:, 0]) + Entropy(0.5)
    torch.testing.assert_close(both.moved(x, log_det), x[:, 0] + change)


@pytest.fixture(scope="module")
def ten() -> list[NetworkStep]:
    """From N(0, 4 I) under KL to N(0, I)."""
    scheme = NetworkJKO(NORMAL, 0.2, small, iterations=80, batch=256, lr=1e-2)
    return [*scheme.run(Normal(2, scale=2.0), 10, seeded("ten"))]


def test_variances_follow_the_closed_form(ten: list[NetworkStep]) -> None:
    """Within 2 per cent after each of ten blocks, relative to the variance of the same draws at the start."""
    m, c = torch.zeros(2), 4 * torch.eye(2)
    start = ten[0].flow.pull(ten[0].x).detach().var(0).mean() / 4
    kl = []
    for step in ten:
        m, c = gaussian_jko(m, c, 1.0, 0.2)
        assert float(step.x.var(0).mean() / start) == pytest.approx(float(c[0, 0]), rel=0.02)
        kl.append(float(c[0, 0] - 1 - c[0, 0].log()))
    # 4,096 draws of log(rho / p), of deviation below one, and what the maps err
    energies = [step.energy for step in ten]
    assert energies == sorted(energies, reverse=True)
    torch.testing.assert_close(torch.tensor(energies), torch.tensor(kl), rtol=0, atol=0.04)


def test_the_flow_has_the_density_and_an_inverse(ten: list[NetworkStep]) -> None:
    flow, x = ten[-1].flow, torch.randn(500, 2, generator=seeded("inverse"))
    c = 4 * torch.eye(2)
    for _ in range(10):
        c = gaussian_jko(torch.zeros(2), c, 1.0, 0.2)[1]
    with torch.no_grad():
        assert float((flow.push(flow.pull(x)) - x).abs().max()) < 1e-4
        error = flow.log_prob(x) - Normal(2, scale=float(c[0, 0].sqrt())).log_prob(x)
        middle = one_tensor(flow.trajectory(flow.pull(x), [0.0, 0.5]).path)[1]
    assert float(error.square().mean().sqrt()) < 0.05
    # half of the time is five blocks
    assert float(middle.var(0).mean() / x.var(0).mean()) == pytest.approx(
        float(ten[4].x.var(0).mean() / ten[9].x.var(0).mean()), rel=0.05
    )


def test_even_steps_go_equally_far_and_equal_draws_give_equal_blocks() -> None:
    start = GaussianMixture(torch.tensor([[3.0, 3.0]]), 1.0)

    def steps(**options: Any) -> list[NetworkStep]:
        scheme = NetworkJKO(NORMAL, 0.15, small, iterations=30, batch=128, lr=1e-2)
        return [*scheme.run(start, 4, seeded("even"), **options)]

    even, again, plain = steps(even=True), steps(even=True), steps()
    assert [step.step for step in plain] == [0.15] * 4
    # under a constant step the mean of 3 falls by 1 / 1.15; the next step knows the distance of the last
    far = [step.distance for step in even]
    assert max(far) / min(far) < 1.25 < 1.4 < plain[0].distance / plain[3].distance
    for one, other in zip(even, again):
        assert torch.equal(one.x, other.x) and one.energy == other.energy


def test_in_double_precision_with_an_estimated_divergence() -> None:
    flow = ContinuousFlow(small(2).double(), RK4(2), Normal(2).double(), divergence=Hutchinson())
    batch = Batch((Rows(torch.randn(20, 2, generator=seeded("rows"), dtype=D)),))
    models, objective = nn.ModuleDict({"block": flow}), ProximalStep(NORMAL, 1)
    one, other = (objective.loss(models, batch, Step(generator=seeded("n", k))).value for k in range(2))
    assert one.dtype == D and not torch.equal(one, other)
    scheme = NetworkJKO(NORMAL, [0.1, 0.2], small, iterations=1)
    found = [*scheme.run(Normal(2).double(), 2, seeded("double"))]
    assert found[1].x.dtype == D and [step.step for step in found] == [0.1, 0.2]


class Odd(Energy):
    def value(self, w: Tensor, support: Any) -> Tensor:
        return w.sum()

    def slope(self, w: Tensor, support: Any) -> Tensor:
        return w


WELL = Potential(lambda x: (x[:, 0].square() - 1).square())


def run(energy: Any, step: Any, steps: int = 1, **options: Any) -> None:
    list(NetworkJKO(energy, step, small, iterations=1).run(Normal(2), steps, seeded(0), **options))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: run(WELL + Entropy(), 0.5),
            r"step: with h = 0.5 the problem is not convex.* take h below 0.2",
        ),
        (lambda: run(Odd() + Entropy(), 0.5), "energy: a Odd has no value at moved particles"),
        (lambda: run("kl", 0.5), "energy: expected an Energy, got a str"),
        (lambda: run(NORMAL, 0.0), "step: expected a finite number above 0"),
        (lambda: run(NORMAL, []), "step: expected a number, or one for each step"),
        (lambda: run(NORMAL, [0.1, 0.2], 3), "step: expected one number or 3, got 2"),
        (lambda: run(NORMAL, [0.1, 0.2], 2, even=True), "step: expected one number, the first of even steps"),
        (lambda: run(NORMAL, 0.1, 0), "steps: expected an integer"),
        (lambda: run(kullback_leibler(Normal(3).log_prob), 0.1), "expected"),
    ],
)
def test_what_does_not_fit_is_said(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        make()
    assert "\n" not in str(error.value)
