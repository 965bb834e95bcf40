"""Solvers of stochastic equations against the Ornstein-Uhlenbeck process, and flows made of them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from contract import classes, every
from pushforward.fields import Drift
from pushforward.flows import ContinuousFlow, DiffusionFlow, InvertibleFlow
from pushforward.oracles import GaussianMixtureOracle
from pushforward.random import RowGenerator, seeded
from pushforward.solvers import (
    ODE,
    SDE,
    Dopri5,
    EulerMaruyama,
    Heun,
    SolverFailure,
    Status,
    StochasticHeun,
    StochasticSolver,
    Tsit5,
)
from pushforward.sources import Empirical, GaussianMixture, Normal

DOUBLE = torch.float64
stochastic = every("cls", {name: cls for name, cls in classes("solver").items() if cls.solves is SDE})

#: dX = (MEAN - RATE X) dt + LEVEL dW
RATE, MEAN, LEVEL = 1.5, 0.6, 0.8


def ou(x: Tensor) -> Tensor:
    return MEAN - RATE * x


def exact_moments(mean: float, variance: float, t: float) -> tuple[float, float]:
    decay = math.exp(-RATE * t)
    rest = MEAN / RATE
    return rest + (mean - rest) * decay, variance * decay**2 + LEVEL**2 * (1 - decay**2) / (2 * RATE)


def moments_of(cls: type[StochasticSolver], steps: int) -> tuple[float, float]:
    """Mean and variance of the scheme itself on the linear problem, without sampling error.

    A step on a linear problem is affine in the state and in the noise: its coefficients are read off
    from noiseless runs and from runs whose noise is known.
    """
    solver = cls(1)
    mean, variance = 0.3, 0.5
    for n in range(steps):
        t, t_next = n / steps, (n + 1) / steps
        run = {}
        for name, x0 in {"origin": 0.0, "one": 1.0}.items():
            problem = SDE(lambda t, x: ou(x), 0.0)
            run[name] = float(solver.solve(problem, torch.full((1, 1), x0, dtype=DOUBLE), t, t_next).x)
        g = seeded("noise")
        xi = float(torch.randn(1, 1, generator=seeded("noise"), dtype=DOUBLE))
        noisy = solver.solve(
            SDE(lambda t, x: ou(x), LEVEL), torch.zeros(1, 1, dtype=DOUBLE), t, t_next, generator=g
        )
        gain, weight = run["one"] - run["origin"], (float(noisy.x) - run["origin"]) / xi
        mean, variance = run["origin"] + gain * mean, gain**2 * variance + weight**2
    return mean, variance


@stochastic
def test_weak_order(cls) -> None:
    truth = exact_moments(0.3, 0.5, 1.0)
    errors = [[abs(a - b) for a, b in zip(moments_of(cls, steps), truth)] for steps in (16, 32, 64)]
    for coarse, fine in itertools.pairwise(errors):
        for a, b in zip(coarse, fine):
            assert math.log2(a / b) == pytest.approx(cls.order, abs=0.15)


@stochastic
def test_strong_order_for_additive_noise(cls) -> None:
    """Coarse and fine solutions of a nonlinear equation on one Brownian path; order 1 for both schemes."""
    fine, paths, level = 1024, 400, 0.7
    dw = torch.randn(fine, paths, generator=seeded("path"), dtype=DOUBLE) / math.sqrt(fine)

    def drift(t: Tensor, x: Tensor) -> Tensor:
        return torch.sin(2 * x) + t

    def along(steps: int) -> Tensor:
        from pushforward.solvers.state import Evaluation

        solver, x = cls(steps), torch.full((paths,), 0.4, dtype=DOUBLE)
        evaluation = Evaluation(drift, x)
        for n, increment in enumerate(level * dw.reshape(steps, -1, paths).sum(1)):
            x = solver.step(evaluation, n / steps, (n + 1) / steps, x, increment)
        return x

    best = along(fine)
    errors = [float((along(steps) - best).abs().mean()) for steps in (8, 16, 32)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(0.85 < order < 1.25 for order in orders), orders


@stochastic
def test_moments_of_samples(cls) -> None:
    n = 100_000
    x0 = 0.3 + math.sqrt(0.5) * torch.randn(n, 1, generator=seeded("start"), dtype=DOUBLE)
    problem = SDE(lambda t, x: ou(x), LEVEL)
    times = [0.25, 0.51, 0.5101, 1.0]  # two of them within one step
    found = cls(50).solve(problem, x0, 0.0, 1.0, times, seeded("noise"))
    assert found.path is not None and found.calls == 50 * (1 if cls is EulerMaruyama else 2)
    for t, x in zip(times, found.path):
        mean, variance = exact_moments(0.3, 0.5, t)
        # five standard errors of n draws, and the bias of Euler-Maruyama with 50 steps, below 0.005
        assert float(x.mean()) == pytest.approx(mean, abs=5 * math.sqrt(variance / n) + 0.005)
        assert float(x.var()) == pytest.approx(variance, abs=5 * variance * math.sqrt(2 / n) + 0.005)
    # between nearby times the path moves as Brownian motion does: by LEVEL^2 dt
    moved = (found.path[2] - found.path[1]).square().mean() / (LEVEL**2 * 1e-4)
    assert float(moved) == pytest.approx(1, abs=5 * math.sqrt(2 / n) + 0.01)


@stochastic
def test_times_within_a_step_are_those_of_brownian_motion(cls) -> None:
    """One step of pure noise: Cov(W_s, W_t) = min(s, t) at all saved times."""
    n, times = 50_000, torch.tensor([0.25, 0.5, 0.9, 1.0], dtype=DOUBLE)
    zero = torch.zeros(n, 1, dtype=DOUBLE)
    found = cls(1).solve(SDE(lambda t, x: 0 * x), zero, 0.0, 1.0, times, seeded("within")).path
    assert found is not None
    # five standard errors of n draws of variance 1
    assert torch.allclose(
        torch.cov(found[..., 0]), torch.minimum(times[:, None], times), atol=5 * math.sqrt(2 / n)
    )


@stochastic
def test_diffusion_may_depend_on_time(cls) -> None:
    """int_0^1 (2 - t)^2 dt = 7/3 exactly for infinitely many steps; the midpoint rule leaves h^2 / 12."""
    zero = torch.zeros(50_000, 1, dtype=DOUBLE)
    found = cls(4).solve(SDE(lambda t, x: 0 * x, lambda t: 2 - t), zero, 0.0, 1.0, generator=seeded(1)).x
    # five standard errors of a variance of 50,000 draws
    assert float(found.var()) == pytest.approx(7 / 3, abs=5 * 7 / 3 * math.sqrt(2 / 50_000) + 1 / 192)


@stochastic
def test_diffusion_of_any_shape(cls) -> None:
    zero, rows, columns = (
        torch.zeros(3, 2, dtype=DOUBLE),
        torch.tensor([0.0, 1.0, 2.0]),
        torch.tensor([[0.0, 3.0]]),
    )

    def draw(diffusion) -> Tensor:
        return cls(5).solve(SDE(lambda t, x: 0 * x, diffusion), zero, 0.0, 1.0, generator=seeded(2)).x

    assert torch.allclose(draw(rows), rows[:, None] * draw(1.0))
    assert torch.allclose(draw(columns), columns * draw(1.0))
    assert torch.equal(draw(lambda t: rows), draw(rows))
    assert draw(0.0).abs().max() == 0


@stochastic
def test_noise_is_reproducible_and_saving_changes_nothing(cls) -> None:
    problem = SDE(lambda t, x: torch.sin(x) - t, 0.5)
    x0 = torch.randn(600, 2, generator=seeded("x0"))

    def run(rows: slice = slice(None), save_at=None, generator=None) -> Tensor:
        generator = generator or seeded(5)
        return cls(7).solve(problem, x0[rows], 0.0, 1.0, save_at, generator).x

    assert torch.equal(run(), run())
    assert torch.equal(run(), run(save_at=[0.1, 0.5, 0.55, 1.0]))
    assert not torch.equal(run(), run(generator=seeded(6)))
    # rows are the same whichever process computes them
    whole = run(generator=RowGenerator("rows", rows=(0, 600)))
    part = run(slice(400, 600), generator=RowGenerator("rows", rows=(400, 600)))
    assert torch.equal(whole[400:], part)


@stochastic
def test_saved_nodes_are_the_states_there(cls) -> None:
    problem = SDE(lambda t, x: -x, 0.3)
    x0 = torch.ones(4, 2, dtype=DOUBLE)
    whole = cls(4).solve(problem, x0, 0.0, 1.0, [0.0, 0.5, 1.0], seeded(1))
    assert whole.path is not None and whole.times is not None
    assert whole.times.tolist() == [0.0, 0.5, 1.0]
    half = cls(2).solve(problem, x0, 0.0, 0.5, generator=seeded(1)).x
    assert torch.equal(whole.path[0], x0) and torch.equal(whole.path[2], whole.x)
    assert torch.allclose(whole.path[1], half, rtol=1e-14)
    assert cls(4).solve(problem, x0, 0.0, 1.0, []).path.shape == (0, 4, 2)


@stochastic
def test_grid_replaces_equal_steps(cls) -> None:
    seen: list[float] = []

    def drift(t: Tensor, x: Tensor) -> Tensor:
        seen.append(float(t))
        return x

    cls(grid=[0.0, 0.25, 1.0]).solve(SDE(drift, 1.0), torch.ones(2, 1), 0.0, 1.0)
    assert seen == ([0.0, 0.25] if cls is EulerMaruyama else [0.0, 0.25, 0.25, 1.0])


@stochastic
def test_wrong_problems_are_refused(cls) -> None:
    x = torch.ones(3, 2)
    problem = SDE(lambda t, x: -x, 1.0)
    for solver in (Heun(), Dopri5()):
        with pytest.raises(ValueError, match="solves an ODE, got an SDE"):
            solver.solve(problem, x, 0.0, 1.0)
    for wrong in (ODE(lambda t, x: -x), lambda t, x: -x):
        with pytest.raises(ValueError, match=r"problem: .* solves an SDE"):
            cls(2).solve(wrong, x, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"x: .* carries one tensor, got tuple"):
        cls(2).solve(problem, (x, x), 0.0, 1.0)
    with pytest.raises(ValueError, match="drift: expected the shapes of x"):
        cls(2).solve(SDE(lambda t, x: x[:, :1]), x, 0.0, 1.0)
    for diffusion in (torch.ones(2), torch.ones(3, 4), torch.ones(3, 2, 1), lambda t: torch.ones(5)):
        with pytest.raises(ValueError, match="diffusion: expected a number"):
            cls(2).solve(SDE(lambda t, x: -x, diffusion), x, 0.0, 1.0)
    with pytest.raises(ValueError, match="steps: expected an integer of at least 1"):
        cls(0)
    with pytest.raises(ValueError, match="save_at"):
        cls(2).solve(problem, x, 0.0, 1.0, [0.5, 0.2])


@stochastic
def test_rows_that_overflow_are_reported(cls) -> None:
    problem = SDE(lambda t, x: torch.where(x > 1, math.inf, 0.0), 0.0)
    found = cls(2).solve(problem, torch.tensor([[0.0], [2.0]]), 0.0, 1.0)
    assert found.status.tolist() == [Status.OK, Status.NON_FINITE]


# -- flows -------------------------------------------------------------------------------------------


@pytest.fixture
def oracle() -> GaussianMixtureOracle:
    means = torch.tensor([[-1.0, 0.5], [1.5, -0.5]], dtype=DOUBLE)
    covariances = torch.tensor([[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]], dtype=DOUBLE)
    return GaussianMixtureOracle(GaussianMixture(means, covariances, [1.0, 2.0]))


@pytest.mark.parametrize("level", [0.0, 0.5, 2.0])
def test_drift_keeps_the_marginals_of_the_flow(oracle, level) -> None:
    """Noise of any size leaves the distribution at t = 1, and each between, as the oracle has it."""
    n = 5000
    # g vanishes at t = 1, where the score of a sharp distribution would be infinite
    drift = Drift(oracle, oracle.score, lambda t: level * (1 - t).sqrt())
    flow = DiffusionFlow(drift, lambda t: level * (1 - t).sqrt(), EulerMaruyama(50), Normal(2).double())
    x = flow.sample(n, generator=seeded("flow"))
    truth = oracle.mixture.sample(200_000, generator=seeded("truth"))
    for power in (1, 2, 3):
        a, b = x**power, truth**power
        # five standard errors of both samples, and 0.02 for the bias of 50 steps
        error = 5 * (a.std(0) / n**0.5 + b.std(0) / len(b) ** 0.5) + 0.02
        assert bool(((a.mean(0) - b.mean(0)).abs() < error).all())


def test_backward_drift_leads_to_the_source(oracle) -> None:
    n, level = 5000, 0.8

    def diffusion(t: Tensor) -> Tensor:
        return level * (1 - t).sqrt()

    x1 = oracle.mixture.sample(n, generator=seeded("truth"))
    problem = SDE(Drift(oracle, oracle.score, diffusion, backward=True), diffusion)
    # at t = 1 the score of the oracle is 0 / 0; the level there is 0
    x0 = EulerMaruyama(100).solve(problem, x1, 1 - 1e-6, 0.0, generator=seeded("noise")).x
    # five standard errors of n draws, and 0.02 for the bias of 100 steps
    assert float(x0.mean(0).abs().max()) < 5 / n**0.5 + 0.02
    assert float((torch.cov(x0.T) - torch.eye(2)).abs().max()) < 5 * math.sqrt(2 / n) + 0.02


def test_without_noise_a_diffusion_flow_is_the_continuous_one(oracle) -> None:
    source = Normal(2).double()
    x0 = source.sample(5, generator=seeded(1))
    exact = ContinuousFlow(oracle, Tsit5(), source).push(x0)
    found = DiffusionFlow(oracle, 0.0, StochasticHeun(200), source).push(x0)
    assert torch.allclose(found, exact, atol=1e-4)


def test_trajectory_ends_where_push_does() -> None:
    flow = DiffusionFlow(lambda t, x, condition: -x, 0.5, source=Normal(2))
    x0 = torch.ones(3, 2)
    found = flow.trajectory(x0, [0.0, 0.333, 1.0], generator=seeded(1))
    assert found.path is not None and found.path.shape == (3, 3, 2)
    assert torch.equal(found.path[0], x0) and torch.equal(found.path[-1], flow.push(x0, None, seeded(1)))


def test_condition_reaches_the_drift() -> None:
    flow = DiffusionFlow(
        lambda t, x, condition: condition[:, None] * torch.ones_like(x), 0.0, source=Normal(1)
    )
    x0 = torch.zeros(2, 1)
    assert torch.allclose(flow.push(x0, torch.tensor([1.0, 3.0])), torch.tensor([[1.0], [3.0]]), atol=1e-5)
    assert flow.sample(4, torch.tensor([1.0, 3.0])).shape == (4, 2, 1)


def test_a_diffusion_flow_has_no_density() -> None:
    flow = DiffusionFlow(lambda t, x, condition: -x, 1.0, source=Normal(2))
    assert not isinstance(flow, InvertibleFlow)
    with pytest.raises(ValueError, match="a DiffusionFlow has no density"):
        flow.log_prob(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="source: expected the distribution at t = 0"):
        DiffusionFlow(lambda t, x, condition: -x)
    wild = DiffusionFlow(lambda t, x, condition: x / 0, 1.0, source=Empirical(torch.ones(2, 1)))
    with pytest.raises(SolverFailure, match="non_finite"):
        wild.sample(2)
    with pytest.raises(ValueError, match="solves an ODE, got an SDE"):
        DiffusionFlow(lambda t, x, condition: -x, 1.0, Heun(), Normal(1)).sample(2)
