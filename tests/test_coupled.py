"""Coupled systems, whose adaptive steps are computed in plain numbers, equal batches of one row."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from effort import first
from narrowing import known
from pushforward.solvers import ODE, Bosh3, Dopri5, Dopri8, Status, Tsit5
from pushforward.solvers.one_row import OneRow

D = torch.float64
SOLVERS = first([Dopri5, Bosh3, Dopri8, Tsit5])
#: Options, and the velocity that they are for: some have jumps of their own.
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "jumps": {"jumps": [0.7, 1.9]},
    "limits": {"min_step": 0.02, "max_step": 0.1},
    "first": {"first_step": 2.5},
    "norm": {"norm": lambda error: error.abs().amax(1)},
    "absolute": {"rtol": 0.0},
}


def spring(t, state):
    """A driven pendulum in the last column, with a jump at 0.7, beside its action."""
    x, action = state
    push = torch.where(t.reshape(-1, *[1] * (x.ndim - 1)) < 0.7, 1.0, -2.0)[..., 0]
    return torch.stack([x[..., 1], -3 * x[..., 0].sin() + push * t.cos()], -1), x[
        ..., 1
    ].square() + 0 * action


def smooth(t, state):
    """The same without the jump, where a rounding may decide how many steps are tried."""
    return spring(t * 0.0 + 1.0, state)[0] + t.cos().reshape(-1, 1), state[0][..., 1].square()


def both(solver, ends=(0.0, 3.0), save_at=None, controlled=1, velocity=spring):
    """The solution of the system, and that of the same system as a batch of one row."""
    start = (torch.tensor([1.0, -0.2], dtype=D), torch.tensor(0.5, dtype=D))

    def alone(t, state):
        return tuple(part[0] for part in velocity(t.reshape(1), tuple(part[None] for part in state)))

    found = solver.solve(ODE(alone, controlled, batched=False), start, *ends, save_at)
    rows = solver.solve(ODE(velocity, controlled), tuple(part[None] for part in start), *ends, save_at)
    return found, rows


@pytest.mark.parametrize("cls", SOLVERS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("name", list(OPTIONS))
def test_the_steps_are_those_of_one_row(cls, name):
    solver = cls(**{"rtol": 1e-7, "atol": 1e-7} | OPTIONS[name])
    velocity = spring if solver.jumps else smooth
    for ends, controlled in (((0.0, 3.0), 2), ((3.0, 0.5), 1)):
        times = [ends[0], 1.2, 0.9 if ends[1] < 1 else 2.9, ends[1]]
        found, rows = both(solver, ends, times, controlled, velocity)
        assert (found.nfe, found.calls, found.status) == (rows.nfe[0], rows.calls, rows.status[0])
        assert found.status == Status.OK
        ends_and_paths = (
            *zip(found.x, (part[0] for part in rows.x)),
            *zip(known(found.path), (part[:, 0] for part in known(rows.path))),
        )
        for a, b in ends_and_paths:
            # steps agree to a few roundings, and the last digit of an error moves a step by 1e-13 of itself
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


FAILURES = {
    Status.STEP_TOO_SMALL: lambda t, s: (s[0].square(), 0 * s[1]),
    Status.NON_FINITE: lambda t, s: (s[0] / 0.0, 0 * s[1]),
    Status.MAX_STEPS: lambda t, s: (-3000.0 * s[0], 0 * s[1]),
}


@pytest.mark.parametrize("status", list(FAILURES), ids=lambda status: status.name)
def test_failures_are_those_of_one_row(status):
    ways: list[dict[str, Any]] = [{}, {"min_step": 1e-4}, {"jumps": [0.5, 2.5]}]
    for options in ways:
        if options == {"min_step": 1e-4} and status is Status.STEP_TOO_SMALL:
            continue  # which no step is then
        found, rows = both(Dopri5(max_steps=1000, **options), velocity=FAILURES[status])
        assert found.status == rows.status[0] == status
        assert (found.nfe, found.calls) == (rows.nfe[0], rows.calls)
        torch.testing.assert_close(found.x[0], rows.x[0][0], rtol=1e-9, atol=1e-9)


def test_a_step_that_is_not_finite_costs_no_second_evaluation_and_spoils_no_gradient():
    """dx/dt = -sqrt(x) from x has x(t) = (sqrt(x) - t / 2)^2; a first step of 1.9 leaves where it is real."""
    x = torch.tensor([1.0, 1.44], dtype=D, requires_grad=True)
    solver = Dopri5(rtol=1e-10, atol=1e-10, first_step=1.95)
    found = solver.solve(ODE(lambda t, x: -x.sqrt(), batched=False), x, 0.0, 1.9)
    (slope,) = torch.autograd.grad(found.x.sum(), x)
    torch.testing.assert_close(slope, (x.sqrt() - 0.95) / x.sqrt(), rtol=0, atol=1e-7)
    assert found.calls == found.nfe


def test_a_float32_system_keeps_its_dtype_and_the_time_of_its_states():
    times = []

    def velocity(t, x):
        times.append(t)
        return x * t

    found = Tsit5(1e-7, 1e-7).solve(ODE(velocity, batched=False), torch.ones(3, 2), 0.0, 1.0, [0.0, 0.3, 1.0])
    assert found.x.dtype == known(found.path).dtype == torch.float32
    assert {(t.dtype, t.shape) for t in times} == {(torch.float32, torch.Size([]))}
    exact = (0.5 * torch.tensor([0.0, 0.3, 1.0]).square()).exp()
    torch.testing.assert_close(known(found.path), exact[:, None, None].expand(3, 3, 2), rtol=2e-6, atol=0)


def test_velocities_of_systems_are_known_by_their_class():
    """A batch of one row has the steps of a batch, and does not differ from the same row among others."""
    assert OneRow.coupled and not hasattr(spring, "coupled")
