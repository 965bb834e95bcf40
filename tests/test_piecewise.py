"""Velocities that jump at known times: solvers stop there, and lose no order."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from narrowing import one_tensor
from pushforward import ContinuousFlow, Normal
from pushforward.fields import Masked, Piecewise
from pushforward.flows import divergence
from pushforward.nn import MLP
from pushforward.random import seeded
from pushforward.solvers import AB2, ODE, RK4, Dopri5, Midpoint, Solver, Tsit5, WithIntegrals

D = torch.float64
RATES = (1.0, -2.0, 0.5)


class Growth(nn.Module):
    """x' = rate (1 + t) x, which is exp(1.5 rate) times as large after its own time."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, t: Tensor, x: Tensor, condition: Tensor | None = None) -> Tensor:
        t = t[:, None] if t.ndim else t
        return self.rate * (1 + t) * x


FIELD = Piecewise([Growth(rate) for rate in RATES], lengths=[1.0, 0.5, 2.0])
#: the exponents of the three parts
GROWN = (1.5, -1.5, 1.5)


def flow(solver: Solver) -> ContinuousFlow:
    return ContinuousFlow(FIELD, solver, Normal(2).double())


@pytest.mark.parametrize("solver", [Midpoint, RK4, AB2])
@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.0)])
def test_jumps_take_nothing_from_the_order(solver: type[Midpoint], ends: tuple[float, float]) -> None:
    x, sign = torch.ones(3, 2, dtype=D), 1 if ends[0] == 0 else -1
    errors = []
    for steps in (8, 16, 32):
        problem = ODE(lambda t, x: FIELD(t, x), breaks=FIELD.breaks)
        found = solver(steps).solve(problem, x, *ends)
        errors.append(float((found.x - math.exp(sign * sum(GROWN))).abs().max()))
        assert found.calls >= 3 * steps
    slope = math.log2(errors[1] / errors[2])
    assert slope > solver.order - 0.3 and errors[2] < 0.05


def test_without_being_told_a_solver_loses_its_order() -> None:
    """What the rest of this file would show if solvers did not stop."""
    x = torch.ones(1, 1, dtype=D)
    errors = [
        float((RK4(steps).solve(lambda t, x: FIELD(t, x), x, 0.0, 1.0).x - math.exp(1.5)).abs())
        for steps in (8, 32)
    ]
    assert math.log(errors[0] / errors[1], 4) < 1.5


@pytest.mark.parametrize("solver", [RK4(20), Tsit5(rtol=1e-8, atol=1e-8)])
def test_states_are_saved_on_both_sides_and_at_the_jumps(solver: Solver) -> None:
    times = torch.tensor([0.0, 1 / 6, 1 / 3, 0.5, 2 / 3, 0.9, 1.0], dtype=D)
    ends = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0], dtype=D)

    def grown(t: float) -> float:
        total = 0.0
        for k, factor in enumerate(GROWN):
            own = min(max(3 * t - k, 0.0), 1.0)
            total += factor / 1.5 * (own + own**2 / 2)
        return math.exp(total)

    for order in (times, times.flip(0), ends):
        x = torch.full((2, 2), grown(float(order[0])), dtype=D)
        path = one_tensor(flow(solver).trajectory(x, order).path)
        wanted = torch.tensor([grown(float(t)) for t in order], dtype=D)
        torch.testing.assert_close(path[:, 0, 0], wanted, rtol=1e-5, atol=0)


@pytest.mark.parametrize("solver", [RK4(20), Dopri5(rtol=1e-8, atol=1e-8)])
def test_densities_are_those_of_the_closed_form(solver: Solver) -> None:
    """The image of N(0, I) is N(0, s^2 I), s = exp of the sum of the exponents."""
    x, scale = torch.randn(5, 2, generator=seeded("piecewise"), dtype=D), math.exp(sum(GROWN))
    wanted = Normal(2, scale=scale).double().log_prob(x)
    torch.testing.assert_close(flow(solver).log_prob(x), wanted, rtol=1e-5, atol=0)
    torch.testing.assert_close(flow(solver).push(flow(solver).pull(x)), x, rtol=1e-5, atol=0)


def test_an_adaptive_solver_takes_fewer_evaluations_where_it_knows_the_jumps() -> None:
    solver, x = Dopri5(rtol=1e-8, atol=1e-8), torch.ones(1, 1, dtype=D)
    known = solver.solve(ODE(FIELD, breaks=FIELD.breaks), x, 0.0, 1.0)
    assert int(known.nfe) < 0.7 * int(solver.solve(ODE(FIELD), x, 0.0, 1.0).nfe)


def test_each_row_has_the_field_of_its_time_and_divergences_are_those_of_differentiation() -> None:
    torch.manual_seed(0)
    parts = [MLP(3, width=8, depth=2).double() for _ in range(3)]
    field, x = Piecewise(parts, [1.0, 2.0, 3.0]), torch.randn(6, 3, generator=seeded("rows"), dtype=D)
    t = torch.tensor([0.1, 0.3, 0.4, 0.65, 0.7, 1.0], dtype=D)
    by_row = torch.stack([field(s, row[None])[0] for s, row in zip(t, x)])
    torch.testing.assert_close(field(t, x), by_row)
    torch.testing.assert_close(by_row[2], 6 * parts[1](t[2] * 3 - 1, x[2:3])[0])
    value, change = field.value_and_divergence(t, x)  # type: ignore[misc]
    torch.testing.assert_close(value, by_row)
    for row in range(6):
        differentiated = divergence(partial(field, t[row]), x[row : row + 1])[1]
        torch.testing.assert_close(change[row : row + 1], differentiated)


def test_integrals_and_masks_know_the_jumps() -> None:
    """An integral along the path is left out of stages that need none, on each side of a jump."""
    area = WithIntegrals(lambda t, s: (FIELD(t, s[0]), s[0][:, 0]), lambda t, s: (FIELD(t, s[0]),))
    start = (torch.ones(2, 1, dtype=D), torch.zeros(2, dtype=D))
    one, plain = (
        Midpoint(50).solve(ODE(velocity, breaks=FIELD.breaks), start, 0.0, 1.0)
        for velocity in (area, lambda t, s: area(t, s))
    )
    torch.testing.assert_close(one.x[1], plain.x[1])
    masked = Masked(FIELD, torch.tensor([[True, False]]))
    assert masked.breaks == FIELD.breaks == (1 / 3, 2 / 3)
    moved = ContinuousFlow(masked, RK4(20), Normal(2).double()).push(torch.ones(1, 2, dtype=D))
    torch.testing.assert_close(moved, torch.tensor([[math.exp(1.5), 1.0]], dtype=D), rtol=1e-5, atol=0)


def test_a_row_that_fails_in_one_part_keeps_its_state() -> None:
    def velocity(t: Tensor, x: Tensor) -> Tensor:
        early = (t < 0.5).to(x)[:, None] if t.ndim else (t < 0.5).to(x)
        return torch.where(x > 5, early * x**4, torch.ones_like(x))

    x = torch.tensor([[0.0], [6.0]], dtype=D)
    found = Dopri5(max_steps=50).solve(ODE(velocity, breaks=(0.5,)), x, 0.0, 1.0, save_at=[0.2, 0.75, 1.0])
    assert found.status[0] == 0 and found.status[1] != 0 and found.path is not None
    assert bool(found.path[1:, 1].isnan().all()) and bool(found.path[:, 0].isfinite().all())
    assert float(found.x[0]) == pytest.approx(1.0)


def test_single_precision_keeps_to_its_side() -> None:
    """At every number of parts, whose boundaries round up or down."""
    for count in range(2, 30):
        field = Piecewise([Growth(0.0) if k % 2 else Growth(1.0) for k in range(count)])
        problem = ODE(lambda t, x, field=field: field(t, x, None), breaks=field.breaks)
        found = RK4(6).solve(problem, torch.ones(1, 1), 0.0, 1.0)
        assert float(found.x.log()) == pytest.approx(1.5 * ((count + 1) // 2), rel=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Piecewise([]), "fields: expected at least one"),
        (lambda: Piecewise([Growth(1.0)], [1.0, 2.0]), "lengths: expected one for each of 1 fields, got 2"),
        (lambda: Piecewise([Growth(1.0)], [0.0]), "lengths: expected a finite number above 0"),
    ],
)
def test_what_does_not_fit_is_said(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
