"""The contract of every registered solver: order, counts, saved times, direction, shapes, randomness."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from contract import classes, complete
from narrowing import known
from pushforward.random import seeded
from pushforward.solvers import ODE, SDE, Denoise, Solver, TableauSolver
from solver_cases import slope, tensor


@dataclass(frozen=True)
class Case:
    """What a solver declares, told again, and how it is made.

    declared: order, stages, evaluations.  extra: evaluations beside those of the steps.  steps: of the
    measurement of the order.  solves: the kind of problem.  draws: whether it draws noise.
    """

    declared: tuple[int, int, int]
    extra: int = 0
    steps: tuple[int, ...] = (40, 80, 160, 320)
    solves: type = ODE
    adaptive: bool = False
    draws: bool = False


CASES = {
    "euler": Case((1, 1, 1)),
    "midpoint": Case((2, 2, 2)),
    "heun": Case((2, 2, 2)),
    "ab2": Case((2, 2, 1), extra=1),
    "rk4": Case((4, 4, 4)),
    "dopri5": Case((5, 7, 6), extra=1, steps=(16, 32, 64), adaptive=True),
    "tsit5": Case((5, 7, 6), extra=1, steps=(16, 32, 64), adaptive=True),
    "bosh3": Case((3, 4, 3), extra=1, steps=(16, 32, 64), adaptive=True),
    "dopri8": Case((8, 14, 13), extra=1, steps=(3, 4, 6, 8), adaptive=True),
    "euler-maruyama": Case((1, 1, 1), solves=SDE, draws=True),
    "stochastic-heun": Case((2, 2, 2), solves=SDE, draws=True),
    "ddim": Case((1, 1, 1), solves=Denoise),
    "dpm++": Case((2, 2, 1), solves=Denoise),
    "fitted": Case((1, 1, 1)),
    "unipc": Case((3, 3, 1), solves=Denoise),
    "edm": Case((2, 2, 2), solves=Denoise, draws=True),
    "dpm++sde": Case((2, 2, 1), solves=Denoise, draws=True),
}
#: Solvers of jumps, which are held to closed forms of tokens in ``test_discrete.py``.
JUMPS = ("tau-leaping", "jump-euler", "single-jumps")
CLASSES = {name: made for name, made in classes("solver").items() if name not in JUMPS}
START = tensor([0.3, -0.7], [0.5, 0.4])


def field(t: Tensor, x: Tensor) -> Tensor:
    """Nonlinear and with explicit time, so that no low-order error term vanishes."""
    return x**2 * torch.cos(t).reshape(-1, *[1] * (x.ndim - 1))


def exact(x: Tensor, t0: float, t1: float) -> Tensor:
    """The closed form of its solution: 1/x falls by sin t1 - sin t0."""
    return 1 / (1 / x - (math.sin(t1) - math.sin(t0)))


def circle(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A noise schedule whose log(alpha / sigma) is finite at both ends."""
    angle = 0.3 + 0.9 * t
    return angle.sin(), angle.cos(), 0.9 * angle.cos(), -0.9 * angle.sin()


def problem(case: Case, noise: float = 0.0, velocity: Any = field) -> Any:
    """The equation of ``velocity``, of the kind that the solver solves."""
    if case.solves is ODE:
        return ODE(velocity)
    if case.solves is SDE:
        return SDE(velocity, noise)

    def data(t: Tensor, x: Tensor) -> Tensor:
        alpha, sigma, d_alpha, d_sigma = circle(t)
        return (sigma * velocity(t, x) - d_sigma * x) / (sigma * d_alpha - alpha * d_sigma)

    return Denoise(data, circle)


def make(name: str, steps: int = 20) -> Solver:
    """A solver of so many steps, or one that meets a tolerance which is below the error of these."""
    return CLASSES[name](rtol=1e-8, atol=1e-8) if CASES[name].adaptive else CLASSES[name](steps=steps)


def test_every_solver_has_a_case() -> None:
    complete("solver", [*CASES, *JUMPS])


named = pytest.mark.parametrize("name", CASES)
#: those that follow the closed form: an SDE without noise does too, what always draws noise does not
followers = pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if not (case.draws and case.solves is Denoise)]
)


@named
def test_a_solver_declares_what_it_is(name: str) -> None:
    cls, case = CLASSES[name], CASES[name]
    assert (cls.order, cls.stages, cls.evaluations) == case.declared
    assert cls.solves is case.solves and (cls.adaptive, cls.draws) == (case.adaptive, case.draws)
    if issubclass(cls, TableauSolver):
        assert cls.order == cls.tableau.order and cls.stages == len(cls.tableau.b)


@followers
def test_the_order_is_the_one_declared(name: str) -> None:
    """Over equal steps, to which an adaptive solver is held by solving for one after the other."""
    cls, case, errors = CLASSES[name], CASES[name], []
    for n in case.steps:
        x = START
        if not case.adaptive:
            x = cls(steps=n).solve(problem(case), x, 0.0, 1.0).x
        for k in range(n * case.adaptive):
            x = cls(atol=1e9, first_step=1 / n).solve(problem(case), x, k / n, (k + 1) / n).x
        errors.append(float((x - exact(START, 0.0, 1.0)).abs().max()))
    assert slope(case.steps, errors) == pytest.approx(cls.order, abs=0.5 if case.adaptive else 0.2)


@named
def test_evaluations_are_counted(name: str) -> None:
    cls, case, made = CLASSES[name], CASES[name], []

    def counted(t: Tensor, x: Tensor) -> Tensor:
        made.append(t)
        return field(t, x)

    solver = cls(steps=6) if not case.adaptive else cls(atol=1e9, first_step=2.0)
    found = solver.solve(problem(case, 1.0, counted), START, 0.0, 1.0)
    steps = 1 if case.adaptive else 6
    assert found.calls == len(made) == steps * cls.evaluations + case.extra
    assert found.nfe.dtype == torch.int64 and found.nfe.tolist() == [found.calls] * len(START)


@followers
def test_saved_times_lie_on_the_path_and_change_nothing(name: str) -> None:
    case, solver, times = CASES[name], make(name, 400), [0.0, 0.2, 0.57, 1.0]
    alone = solver.solve(problem(case), START, 0.0, 1.0)
    saved = solver.solve(problem(case), START, 0.0, 1.0, save_at=times)
    assert alone.path is None and saved.path is not None and saved.times is not None
    assert torch.equal(saved.x, alone.x) and saved.times.tolist() == times
    assert torch.equal(saved.path[0], START) and torch.equal(saved.path[-1], saved.x)
    for t, x in zip(times, saved.path):
        # the closed form, to the error of 400 steps of first order
        assert torch.allclose(x, exact(START, 0.0, t), atol=2e-3 if solver.order == 1 else 1e-5)
    assert known(solver.solve(problem(case), START, 0.0, 1.0, save_at=[]).path).shape == (0, 2, 2)


@followers
def test_time_runs_backwards_too(name: str) -> None:
    case, solver = CASES[name], make(name, 400)
    found = solver.solve(problem(case), exact(START, 0.0, 1.0), 1.0, 0.0)
    assert torch.allclose(found.x, START, atol=2e-3 if solver.order == 1 else 1e-5)
    still = solver.solve(problem(case), START, 0.5, 0.5, save_at=[0.5])
    assert torch.equal(still.x, START) and torch.equal(known(still.path)[0], START) and still.calls == 0


@followers
@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 2)], ids=str)
def test_rows_of_any_shape_do_not_see_each_other(name: str, shape: tuple[int, ...]) -> None:
    case, solver = CASES[name], make(name)
    x = 0.5 * torch.rand(5, *shape, generator=seeded("rows"), dtype=torch.float64)
    whole = solver.solve(problem(case), x, 0.0, 1.0, save_at=[0.3])
    assert whole.x.shape == x.shape and known(whole.path).shape == (1, *x.shape) and whole.ok
    for rows in (slice(0, 2), slice(3, 3)):
        part = solver.solve(problem(case), x[rows], 0.0, 1.0, save_at=[0.3])
        assert torch.allclose(part.x, whole.x[rows], rtol=1e-14)
        assert torch.equal(part.nfe, whole.nfe[rows]) and torch.equal(part.status, whole.status[rows])
        assert known(part.path).shape == (1, *part.x.shape)


@named
def test_only_stochastic_solvers_draw_and_the_generator_decides_what(name: str) -> None:
    case, solver = CASES[name], make(name)

    def end(seed: int) -> tuple[Tensor, Tensor]:
        generator = seeded(seed)
        decay = problem(case, 0.5, lambda t, x: -x)
        return solver.solve(decay, START, 0.0, 1.0, generator=generator).x, generator.get_state()

    (first, after), (again, _), (other, _) = end(1), end(1), end(2)
    assert torch.equal(first, again)
    drew = not torch.equal(after, seeded(1).get_state())
    assert drew is (not torch.equal(first, other)) is case.draws


@named
def test_a_problem_of_another_kind_is_refused(name: str) -> None:
    case, solver = CASES[name], make(name)
    others = {ODE: ODE(field), SDE: SDE(field), Denoise: Denoise(field, circle)}
    for other in others.keys() - {case.solves}:
        with pytest.raises(ValueError, match=rf"solves an? {case.solves.__name__}.*, got .*{other.__name__}"):
            solver.solve(others[other], START, 0.0, 1.0)
    with pytest.raises(TypeError, match=r"problem: .* solves an? .*, got str"):
        solver.solve("x' = x", START, 0.0, 1.0)  # type: ignore[arg-type]
