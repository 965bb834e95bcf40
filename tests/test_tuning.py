"""Samplers fitted to a flow, on fields that are known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pushforward.bijections import Affine
from pushforward.flows import ContinuousFlow, Transformed, realnvp, tune_sampler
from pushforward.flows.denoising import denoising, noise_schedule
from pushforward.flows.tuning import CANDIDATES, as_fitted, known_solvers
from pushforward.metrics import energy_distance
from pushforward.oracles import GaussianMixtureOracle
from pushforward.random import seeded
from pushforward.solvers import Denoise, Dopri5, Euler, Fitted, Gridded, Heun
from pushforward.sources import GaussianMixture, Normal
from pushforward.tensors import expand_time
from solver_cases import tensor

MIXTURE = GaussianMixture(tensor([-1.5, 0.0], [1.0, 1.0], [0.5, -1.5]), 0.4)
ORACLE = GaussianMixtureOracle(MIXTURE)
FLOW = ContinuousFlow(ORACLE, Dopri5(rtol=1e-8, atol=1e-8), Normal(2).double())
START = torch.randn(64, 2, generator=seeded("tuning"), dtype=torch.float64)


def ends(solver: Gridded, x: Tensor, stop: float = 1.0) -> tuple[Tensor, int]:
    problem = FLOW.problem()
    posed = denoising(problem.velocity, noise_schedule(None)) if solver.solves is Denoise else problem
    found = solver.solve(posed, x, 0.0, stop)
    return found.x, found.calls


@pytest.mark.parametrize("budget", [1, 3, 6, 9])
def test_known_solvers_stay_within_the_budget(budget: int) -> None:
    known = known_solvers(budget)
    assert known
    for solver in known.values():
        calls = ends(solver, START[:2])[1]
        assert calls <= budget and calls > budget - 4, solver


def test_known_solvers_written_as_fitted_ones_give_the_same() -> None:
    """Whatever a solver makes of a field, its coefficients do too; also over a part of the interval."""
    written = set()
    for solver in known_solvers(6).values():
        for stop in (0.9, 1.0):
            found = as_fitted(solver, (0.0, stop), noise_schedule(None))
            if found is not None:
                written.add(type(solver))
                (x, calls), (y, more) = ends(found, START, stop), ends(solver, START, stop)
                torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)
                assert calls == more
    # the others evaluate twice at one time
    assert {cls.__name__ for cls in CANDIDATES.keys() - written} == {"AB2", "Heun", "RK4"}


@pytest.mark.parametrize("seed", [3, 4])
def test_a_fitted_sampler_is_several_times_as_near_as_any_known(seed: int) -> None:
    """On starts that it has not seen; and its samples are as good as those of the exact solution."""
    tuned = tune_sampler(FLOW, 6, generator=seeded(seed, "tune"))
    fresh = torch.randn(4000, 2, generator=seeded(seed, "fresh"), dtype=torch.float64)
    exact = FLOW.push(fresh)
    near, calls = ends(tuned.solver, fresh)
    error = float((near - exact).square().mean().sqrt())
    best = min(float((ends(s, fresh)[0] - exact).square().mean().sqrt()) for s in known_solvers(6).values())
    # seen 0.12 and 0.13 on seeds 1 and 2
    assert calls == tuned.nfe == 6 and error < 0.4 * best
    # the error on held-out pairs is that on fresh ones, to the fluctuation of 256 heavy-tailed distances
    assert 0.5 * error < tuned.error < 2 * error
    data = MIXTURE.sample(4000, generator=seeded(seed, "data"))
    # the floor is about 2e-4: half the difference of means of distances of 4,000 rows
    assert energy_distance(near, data) < energy_distance(exact, data) + 3e-4


def test_numbers_repeat_and_the_flow_is_not_touched() -> None:
    net = torch.nn.Linear(3, 2).double()

    def field(t: Tensor, x: Tensor, condition: object) -> Tensor:
        return net(torch.cat([x, t.expand(len(x))[:, None]], 1))

    flow = ContinuousFlow(field, source=Normal(2).double())
    first, again = (tune_sampler(flow, 3, pairs=64, generator=seeded(0)) for _ in range(2))
    assert repr(first) == repr(again) and first.tried == again.tried
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    with torch.no_grad():
        assert tune_sampler(flow, 3, pairs=64, generator=seeded(0)).error == first.error


def test_without_iterations_the_best_known_solver_is_chosen() -> None:
    tuned = tune_sampler(FLOW, 6, pairs=128, iterations=0, generator=seeded(0))
    assert repr(tuned.solver) in tuned.tried
    assert tuned.error < 1.2 * min(tuned.tried.values())  # chosen on the other half


def test_conditions_and_guidance_are_those_of_the_flow() -> None:
    """Means that the condition moves: a sampler tuned to a strong guidance is wrong for a weak one."""

    def field(t: Tensor, x: Tensor, condition: Tensor) -> Tensor:
        centre, t = condition.nan_to_num(0.0), expand_time(t, x)  # nan stands for an absent condition
        return (centre - t * x) / (1 - t + 0.1)

    flow = ContinuousFlow(field, source=Normal(1), condition_shape=(1,), guidance=3.0)
    condition = torch.linspace(-1, 1, 8)[:, None]
    tuned = tune_sampler(flow, 4, condition, pairs=64, generator=seeded(0))
    guided = flow.replace(solver=tuned.solver).push(torch.zeros(8, 1), condition)
    torch.testing.assert_close(guided, flow.push(torch.zeros(8, 1), condition), rtol=0, atol=0.02)


def test_a_flow_with_preprocessing_is_tuned_inside() -> None:
    around = Transformed(FLOW, Affine(1.0, 10.0), torch.float64)
    tuned = tune_sampler(around, 5, pairs=64, generator=seeded(0))
    assert tuned.error == tune_sampler(FLOW, 5, pairs=64, generator=seeded(0)).error
    x = around.replace(solver=tuned.solver).push(START)
    assert float((x - around.push(START)).square().mean().sqrt()) < 10 * 3 * tuned.error


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="budget: expected an integer of at least 1, got 0"):
        tune_sampler(FLOW, 0)
    with pytest.raises(ValueError, match="pairs: expected an integer of at least 16, got 4"):
        tune_sampler(FLOW, 6, pairs=4)
    with pytest.raises(
        ValueError, match="flow: expected one that follows a velocity field, got a BijectiveFlow"
    ):
        tune_sampler(realnvp(2), 6)
    flow = ContinuousFlow(lambda t, x, condition: -x, source=Normal(2), condition_shape=(3,))
    with pytest.raises(ValueError, match=r"condition: expected a batch of conditions"):
        tune_sampler(flow, 6, torch.zeros(3))


def test_wrong_coefficients_are_refused() -> None:
    with pytest.raises(ValueError, match="start, weights: expected both or none"):
        Fitted(2, start=[1.0, 1.0])
    with pytest.raises(ValueError, match="weights: expected 3 numbers for 2 steps, got 2"):
        Fitted(2, start=[1.0, 1.0], weights=[1.0, 1.0])
    with pytest.raises(ValueError, match="start: expected 3 numbers for 3 steps, got 2"):
        Fitted(grid=[0, 0.1, 0.3, 1], start=[1.0, 1.0], weights=[1.0] * 6)
    for wrong in (math.nan, math.inf, 1e308, "x"):  # the last would overflow in single precision
        with pytest.raises(ValueError, match=r"weights: expected a finite number between -1e\+12 and 1e\+12"):
            Fitted(2, start=[1.0, 1.0], weights=[0.5, wrong, 1.0])  # type: ignore[list-item]  # no number
    halves = Fitted(2, start=[1.0, 1.0], weights=[0.5, 0.0, 1.0])
    with pytest.raises(ValueError, match="was fitted forwards in time"):
        halves.solve(lambda t, x: x, START, 1.0, 0.0)
    assert torch.equal(Fitted(5).solve(ORACLE, START, 0.0, 1.0).x, Euler(5).solve(ORACLE, START, 0.0, 1.0).x)
    assert Heun(2).solve(ORACLE, START, 0.0, 1.0).calls == 4
