"""How the flow moves: quality against evaluations, straightness, transport cost, round trips."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ..flows import InvertibleFlow
from ..metrics import optimal_cost, path_energy, straightness, transport_cost
from ..recipes.samplers import kept
from ..solvers import AB2, DDIM, DPMSolver, Euler, Heun, Midpoint, Solver, UniPC
from ..tensors import Condition, condition_to, take_condition
from .budget import LOOSE_EVALUATIONS
from .heads import HeadDensity, head_density
from .leaps import Leaps, leaps
from .loaded_run import LoadedRun
from .rounding import Rounded, rounded
from .sampler import CHUNK

#: The solvers that are compared.
FIXED = (Euler, Midpoint, Heun)
#: Share of what straightness and cost add up to, below which rows count as not moved.
STILL = 1e-6
#: Evaluations at which they are.
EVALUATIONS = (1, 2, 4, 8, 16, 32, 64)
#: More solvers, with the evaluations of n steps beyond n, and the few evaluations at which they are compared.
MORE, FEW = {AB2: 1, DDIM: 0, DPMSolver: 0, UniPC: 0}, (4, 8, 16)
#: What the table calls a solver that was fitted to the run, and the flow map of one.
TUNED, LEAPS = "tuned", "flow map"


@dataclass(frozen=True)
class Budgeted:
    """Quality for a number of field evaluations.

    energy: energy distance to held-out rows, in ``unit`` of the curve.  seconds: per 1,000 samples.
    """

    solver: str
    nfe: float
    energy: float
    seconds: float


@dataclass(frozen=True)
class Curve:
    """The quality of samples for each number of evaluations, and that of as many real rows.

    few: that of more solvers, at few evaluations.
    """

    points: list[Budgeted]
    few: list[Budgeted]
    unit: str
    rows: int
    floor: float
    floor_spread: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        parts = {"points": self.points, "few": self.few}
        return {**self.__dict__, **{key: [p.__dict__ for p in points] for key, points in parts.items()}}


def curve(loaded: LoadedRun) -> Curve | None:
    """The quality of samples against evaluations, all from the same source points."""
    if loaded.inner is None or loaded.budget.solver is None:
        return None
    evaluations, most = EVALUATIONS, min(500, loaded.rows)

    def affordable(least: int) -> int:
        every = 3.0 * sum(evaluations) + len(MORE) * sum(FEW) + LOOSE_EVALUATIONS
        return loaded.budget.affordable("samples for each number of evaluations", most, 0.2, every, least)

    # A slow network pays for fewer evaluations rather than for too few rows to see a difference with.
    while len(evaluations) > 3 and affordable(1) < min(100, most):
        evaluations = evaluations[:-1]
    rows = affordable(32)
    held = loaded.reference.x[:rows]
    condition = take_condition(loaded.condition(loaded.reference), slice(rows))
    solvers: list[tuple[str, Solver]] = [
        (make.__name__, make(nfe // make.evaluations))
        for make in FIXED
        for nfe in evaluations
        if nfe % make.evaluations == 0
    ]
    solvers.append((type(loaded.budget.solver).__name__, loaded.budget.solver))

    def judged(solvers: list[tuple[str, Solver]]) -> list[Budgeted]:
        points = []
        for name, solver in solvers:
            begin = time.perf_counter()
            try:
                drawn = loaded.sampler.draw(rows, "curve", condition=condition, solver=solver)
            except RuntimeError:  # too few steps for this field: no point on the curve
                continue
            seconds = time.perf_counter() - begin
            energy = loaded.energy(drawn.x, held)
            points.append(Budgeted(name, drawn.nfe, energy, 1000 * seconds / rows))
        return points

    def leapt() -> list[Budgeted]:
        """Of the flow map, in as many steps as evaluations."""
        points = []
        for nfe in evaluations if loaded.map is not None else ():
            begin = time.perf_counter()
            drawn = loaded.sampler.draw(rows, "curve", condition=condition, steps=nfe)
            seconds = time.perf_counter() - begin
            points.append(Budgeted(LEAPS, drawn.nfe, loaded.energy(drawn.x, held), 1000 * seconds / rows))
        return points

    points = [*leapt(), *judged(solvers)]
    if not points:
        raise ValueError("no solver carried the samples to their end")
    few = judged([(make.__name__, make(nfe - extra)) for make, extra in MORE.items() for nfe in FEW])
    tuned = loaded.left_out.attempt("samplers of few evaluations", {}, kept, loaded.run)
    few += judged([(TUNED, solver) for _, solver in sorted(tuned.items())])
    floor = torch.tensor(
        [loaded.energy(loaded.like_reference(i)[:rows], held) for i in range(loaded.repeats[0])]
    )
    return Curve(points, few, loaded.distance_unit, rows, float(floor.mean()), float(floor.std()))


@dataclass(frozen=True)
class Motion:
    """Straightness and transport cost from source to data, in the space of the model.

    profile: E|dx/dt - (x1 - x0)|^2 between consecutive ``times``.
    """

    rows: int
    straightness: float
    energy: float
    cost: float
    least: float
    nfe: float
    times: list[float]
    profile: list[float]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        # where points end where they start, ratios to their distance mean nothing
        moves = min(self.cost, self.least) > STILL * (self.straightness + self.cost)
        return {
            **self.__dict__,
            "relative_straightness": self.straightness / self.cost if moves else None,
            "cost_over_least": self.cost / self.least if moves else None,
            "normalised_path_energy": abs(self.energy - self.least) / self.least if moves else None,
        }


@torch.no_grad()
def motion(loaded: LoadedRun) -> Motion | None:
    """Follow some rows, and measure the straightness and the cost of their trajectories."""
    if loaded.inner is None or loaded.budget.solver is None:
        return None
    rows = loaded.budget.affordable("trajectories", 500, 0.04, None, least=32)
    times = torch.linspace(0, 1, 41)
    path, _, nfe = trajectory(loaded, rows, times, "motion")
    x = path.double()
    velocity = x.diff(dim=0) / times.double().diff().reshape(-1, *[1] * (x.ndim - 1))
    profile = (velocity - (x[-1] - x[0])).flatten(2).square().sum(-1).mean(1)
    return Motion(
        rows=rows,
        straightness=straightness(x, times),
        energy=path_energy(x, times),
        cost=transport_cost(x[0], x[-1]),
        least=optimal_cost(x[0], x[-1]),
        nfe=nfe,
        times=times.tolist(),
        profile=profile.tolist(),
    )


@torch.no_grad()
def trajectory(
    loaded: LoadedRun, rows: int, times: Tensor, *parts: int | str, leap: bool = False
) -> tuple[Tensor, Condition | None, float]:
    """States ``(T, rows, *event)`` in the space of the model on the CPU, conditions, mean evaluations.

    leap: whether a flow map carries them itself, and not the solver of its velocity.
    """
    assert loaded.inner is not None and loaded.budget.solver is not None
    condition = loaded.condition(loaded.test, rows)
    generator = loaded.generator("trajectory", *parts)
    given = condition_to(condition, loaded.device)
    start = loaded.inner.source.sample(rows, given, generator).to(loaded.device)
    found, total = [], 0.0
    for index in torch.arange(rows).split(CHUNK):
        if leap and loaded.map is not None:
            carried = loaded.map.trajectory(start[index], times, take_condition(given, index))
            found.append(cast(Tensor, carried.path).cpu())
            total += float(carried.nfe.double().sum())
            continue
        problem = loaded.inner.problem(take_condition(given, index))
        inside = times.clamp(*loaded.inner.interval).tolist()
        solution = loaded.budget.solver.solve(
            problem, start[index], *loaded.inner.interval, save_at=inside
        ).check()
        assert isinstance(solution.path, Tensor)
        found.append(solution.path.cpu())
        total += float(solution.nfe.double().sum())
    return torch.cat(found, 1), condition, total / rows


def to_data(loaded: LoadedRun, path: Tensor) -> Tensor:
    """States ``(T, B, *event)`` of the model's space in data units."""
    return loaded.sampler.outwards(path.flatten(0, 1).to(loaded.device)).unflatten(0, path.shape[:2])


@dataclass(frozen=True)
class RoundTrip:
    """|push(pull(x)) - x| over all elements of held-out rows, as shares of their deviation."""

    rows: int
    largest: float
    median: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**self.__dict__}


@torch.no_grad()
def round_trip(loaded: LoadedRun) -> RoundTrip | None:
    """Pull held-out rows back to the source and push them out again.

    In the space of the model, where no dequantisation rounds the difference away; with the run's own
    solver, whose tolerance this is a test of.
    """
    if not loaded.invertible:
        return None
    most = min(200, len(loaded.test))
    rows = loaded.budget.affordable("round trips", most, 0.05, 2 * loaded.budget.evaluations, least=0)
    if rows < 2:
        return None
    held = loaded.subset(loaded.test, rows, "round trip")
    condition = loaded.condition(held)
    given = condition_to(condition, loaded.device)
    y, _ = loaded.sampler.inwards(held.x, loaded.generator("round trip noise"))
    inner = None if loaded.map is not None else loaded.inner
    try:
        if inner is None:
            flow = cast(InvertibleFlow, loaded.flow)
            back = flow.push(flow.pull(held.x.to(loaded.device), given), given).cpu()
            y, gap = held.x, back - held.x
        else:
            gap = inner.push(inner.pull(y, given), given) - y
    except RuntimeError:
        return None
    # Columns have a deviation each; pixels share one, for some of them never change.
    deviation = y.double().std(0) if y.ndim == 2 else y.double().std()
    error = (gap.double().abs() / deviation.clamp(min=1e-300)).flatten().cpu()
    return RoundTrip(rows, float(error.max()), float(error.median()))


@dataclass(frozen=True)
class Dynamics:
    """How a flow moves, each None where it was not measured."""

    curve: Curve | None
    motion: Motion | None
    round_trip: RoundTrip | None
    leaps: Leaps | None
    head: HeadDensity | None
    rounded: Rounded | None


def measure_dynamics(loaded: LoadedRun) -> Dynamics:
    """All of it; what fails is left out, see :meth:`LeftOut.attempt`."""
    attempt = loaded.left_out.attempt
    return Dynamics(
        attempt("quality for a number of evaluations", None, curve, loaded),
        attempt("straightness and transport cost", None, motion, loaded),
        attempt("round trip", None, round_trip, loaded),
        attempt("composition of leaps", None, leaps, loaded),
        attempt("density of the head", None, head_density, loaded),
        attempt("rounding to tokens", None, rounded, loaded),
    )
