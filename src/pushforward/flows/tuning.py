"""Solver and time grid fitted to a flow, for a wanted number of evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from ..nn.checks import check_count
from ..solvers import (
    AB2,
    DDIM,
    GRIDS,
    ODE,
    RK4,
    Denoise,
    DPMSolver,
    Euler,
    Fitted,
    Gridded,
    Heun,
    Midpoint,
    NoiseSchedule,
    Problem,
    Solver,
    Tsit5,
    UniPC,
    Velocity,
)
from ..tensors import ConditionLike, condition_length, differentiable, take_condition
from .base import Flow
from .continuous import ContinuousFlow
from .denoising import denoising, noise_schedule

#: The solvers that are tried, with the evaluations of n steps: a factor of n and how many more.
CANDIDATES: dict[type[Gridded], tuple[int, int]] = {
    Euler: (1, 0),
    AB2: (1, 1),
    Midpoint: (2, 0),
    Heun: (2, 0),
    RK4: (4, 0),
    DDIM: (1, 0),
    DPMSolver: (1, 0),
    UniPC: (1, 0),
}
#: The grids on which each is tried.
TRIED = (*GRIDS, "shifted:0.5", "karras:3")
#: How many of the best are starts of a fit, and after how many iterations the held-out rows are looked at.
STARTS, ROUND = 3, 20


@dataclass(frozen=True)
class Tuned:
    """A solver for a number of evaluations.

    solver: what a flow follows, ``flow.replace(solver=...)``.  nfe: how often it may evaluate the field.
    error: root mean square distance, per element, of its ends to those of an accurate solver, on draws of the
        source that it was not fitted to.
    tried: the same of every known solver that was tried, by its text.
    """

    solver: Gridded
    nfe: int
    error: float
    tried: dict[str, float] = field(repr=False)


@dataclass(frozen=True)
class _Pairs:
    """Draws of the source and where an accurate solver takes them."""

    velocity: Velocity
    interval: tuple[float, float]
    start: Tensor
    end: Tensor

    def error(self, solver: Solver, schedule: NoiseSchedule) -> float:
        """Root mean square distance, inf where it is not finite."""
        problem = _posed(self.velocity, solver.solves, schedule)
        found = solver.solve(problem, self.start, *self.interval).x
        value = float((found - self.end).square().mean().sqrt())
        return value if math.isfinite(value) else math.inf


def _posed(velocity: Velocity, kind: type[Problem], schedule: NoiseSchedule) -> Problem:
    return denoising(velocity, schedule) if kind is Denoise else ODE(velocity)


def known_solvers(budget: int) -> dict[str, Gridded]:
    """The solvers of at most ``budget`` evaluations that are tried, by their text."""
    found = {}
    for cls, (factor, more) in CANDIDATES.items():
        steps = (budget - more) // factor
        if steps < cls.least:
            continue
        for grid in TRIED[: None if steps > 1 else 1]:
            solver = cls(steps, grid)
            found[repr(solver)] = solver
    return found


def as_fitted(solver: Gridded, interval: tuple[float, float], schedule: NoiseSchedule) -> Fitted | None:
    """``solver`` written as a :class:`~pushforward.solvers.Fitted`; None if it evaluates at equal times.

    All are linear in the initial state and in the velocities, so that their coefficients are read off from a
    solution whose velocities are unit vectors.
    """
    t0, t1 = interval
    times: list[float] = []
    states: list[Tensor] = []

    def unit(t: Tensor, x: Tensor) -> Tensor:
        times.append(float(t))
        states.append(x[0])
        one = torch.zeros_like(x)
        one[0, len(times)] = 1
        return one

    count = 4 * solver.steps + 3
    first = torch.zeros(1, count, dtype=torch.float64)
    first[0, 0] = 1
    states.append(solver.solve(_posed(unit, solver.solves, schedule), first, t0, t1).x[0])
    grid = [(t - t0) / (t1 - t0) for t in [*times, t1]]
    if grid[0] != 0 or not all(later > earlier for earlier, later in pairwise(grid)):
        return None
    n = len(times)
    rows = torch.stack(states)[1 : n + 1]
    weights = [w for i in range(n) for w in (rows[i, 1 : i + 2] / (t1 - t0)).tolist()]
    return Fitted(grid=grid, start=rows[:, 0].tolist(), weights=weights)


def tune_sampler(
    flow: Flow,
    budget: int,
    condition: ConditionLike | None = None,
    *,
    pairs: int = 512,
    iterations: int = 100,
    accurate: Solver | None = None,
    generator: torch.Generator | None = None,
) -> Tuned:
    """The solver that samples ``flow`` best with ``budget`` evaluations of its field.

    Source points are drawn and carried by an accurate solver.  Known solvers on several grids are compared by
    the distance of their ends to those; the best are written as :class:`~pushforward.solvers.Fitted`, whose
    times and coefficients are then fitted to half of the pairs by L-BFGS (Shaul et al. 2024, arXiv
    2403.01329).  What is best on the other half is returned, which may be a known solver.

    flow: a :class:`ContinuousFlow`, or one with preprocessing around it, in whose space the distances are.
    budget: at least 1.  condition: for a flow with conditions, a batch of them, which take turns.
    pairs: how many source points.  iterations: of each fit; 0 leaves the known solvers.
    accurate: :class:`~pushforward.solvers.Tsit5` at a tolerance of 1e-6 if none is given.

    Raises ValueError for a flow that follows no velocity field, a budget below 1, fewer than 16 pairs, and a
    single condition; SolverFailure if the accurate solver fails.

    >>> from pushforward import GaussianMixture, GaussianMixtureOracle, Normal
    >>> oracle = GaussianMixtureOracle(GaussianMixture(torch.tensor([[-2.0], [2.0]]), 0.5))
    >>> flow = ContinuousFlow(oracle, source=Normal(1))
    >>> tuned = tune_sampler(flow, 4, generator=torch.Generator().manual_seed(0))
    >>> tuned.nfe, tuned.error < 0.5 * min(tuned.tried.values())
    (4, True)
    """
    core = flow.core
    if not isinstance(core, ContinuousFlow):
        raise ValueError(f"flow: expected one that follows a velocity field, got a {type(core).__name__}")
    check_count("budget", budget)
    check_count("pairs", pairs, 16)
    check_count("iterations", iterations, 0)
    problem, x0 = _drawn(core, condition, pairs, generator)
    with torch.no_grad():
        end = (
            (accurate or Tsit5(rtol=1e-6, atol=1e-6))
            .solve(problem(slice(None)), x0, *core.interval)
            .check()
            .x
        )
        halves = slice(pairs // 2), slice(pairs // 2, None)
        fit, held = (_Pairs(problem(h).velocity, core.interval, x0[h], end[h]) for h in halves)
        schedule = noise_schedule(core.path)
        known = known_solvers(budget)
        errors = {text: fit.error(solver, schedule) for text, solver in known.items()}
    order = sorted(known, key=lambda text: errors[text])
    found = [known[text] for text in order[:STARTS]]
    written = (as_fitted(known[text], core.interval, schedule) for text in order)
    starts = [start for start in written if start is not None and start.steps == budget]
    for start in starts[: STARTS if iterations else 0]:
        found.append(fitted(start, fit, held, iterations))
    with torch.no_grad():
        best = min(found, key=lambda solver: held.error(solver, schedule))
        tried = {text: held.error(known[text], schedule) for text in order}
        return Tuned(best, budget, held.error(best, schedule), tried)


def _drawn(
    core: ContinuousFlow, condition: ConditionLike | None, pairs: int, generator: torch.Generator | None
) -> tuple[Callable[[slice], ODE], Tensor]:
    """The problem of a part of the pairs, and all starts."""
    given = core.conditions(condition)
    if given is not None:
        if len(core.condition_batch(given)) != 1:
            raise ValueError("condition: expected a batch of conditions, (B, ...)")
        turn = torch.arange(pairs) % condition_length(given)
        given = take_condition(given, turn)
    x0 = core.source.sample(pairs, given, generator)

    def problem(part: slice) -> ODE:
        return core.problem(take_condition(given, torch.arange(pairs)[part]))

    return problem, x0


def fitted(start: Fitted, fit: _Pairs, held: _Pairs, iterations: int) -> Fitted:
    """The solver fitted to the pairs ``fit`` from ``start``, as it was when it was best on ``held``."""
    assert start.start is not None and start.weights is not None
    t0, t1 = fit.interval
    scale = fit.end.std()
    gaps = torch.tensor([later - earlier for earlier, later in pairwise(start.grid)]).log()
    numbers = [
        p.to(fit.end).requires_grad_() for p in (gaps, *map(torch.tensor, (start.start, start.weights)))
    ]
    optimiser = torch.optim.LBFGS(
        numbers, max_iter=ROUND, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-12
    )

    def ends(pairs: _Pairs) -> Tensor:
        gaps, factors, weights = numbers
        grid = torch.cat([gaps.new_zeros(1), gaps.softmax(0).cumsum(0)])
        x, slopes = pairs.start, list[Tensor]()
        for n in range(start.steps):
            slopes.append(pairs.velocity(t0 + (t1 - t0) * grid[n], x))
            row = weights[n * (n + 1) // 2 :][: n + 1]
            x = factors[n] * pairs.start + (t1 - t0) * sum(w * k for w, k in zip(row, slopes))
        return (x - pairs.end) / scale

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = ends(fit).square().mean()
        grads = torch.autograd.grad(value, numbers, allow_unused=True, materialize_grads=True)
        for number, grad in zip(numbers, grads):
            number.grad = grad
        return value.detach()

    best, kept = math.inf, [number.detach().clone() for number in numbers]
    for _ in range(-(-iterations // ROUND)):
        with differentiable(), torch.enable_grad():
            optimiser.step(loss)
        with torch.no_grad():
            error = float(ends(held).square().mean())
        if not error < best:
            break
        best, kept = error, [number.detach().clone() for number in numbers]
    grid = [0.0, *kept[0].double().softmax(0).cumsum(0)[:-1].tolist(), 1.0]
    return Fitted(grid=grid, start=kept[1].tolist(), weights=kept[2].tolist())
