"""Velocities that are called with the rows alone that have not arrived: the same solution, less work."""

from __future__ import annotations

import pytest
import torch

from pushforward.solvers import ODE, Adjoint, Checkpointed, Dopri5, RowWise, Status
from solver_cases import adaptive

#: Decay rates, of which the last need many steps.
RATES = torch.logspace(-1, 2, 64, dtype=torch.float64)[:, None]
START = torch.linspace(0.5, 2.0, 128, dtype=torch.float64).reshape(64, 2)


class Decay:
    """x' = -rate x cos(2 t)^2, by elements, so that only the last bits depend on the number of rows."""

    def __init__(self):
        self.rows: list[int] = []

    def __call__(self, t, x, rate):
        assert len(t) == len(x) == len(rate)
        self.rows.append(len(x))
        return -rate * x * torch.cos(2 * t[:, None]) ** 2


def both(cls, start, t0: float, t1: float, rates=RATES, **options):
    decay = Decay()
    whole = cls(**options).solve(lambda t, x: decay(t, x, rates), start, t0, t1)
    full, decay.rows = sum(decay.rows), []
    return whole, cls(**options).solve(RowWise(decay, rates), start, t0, t1), full, decay.rows


@adaptive
@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("jumps", [(), (0.3,)])
def test_same_solution_of_fewer_rows(cls, ends, jumps):
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    t0, t1 = ends
    whole, cut, full, rows = both(cls, START[order], t0, t1, RATES[order], jumps=jumps)
    # a vectorised function rounds the last elements of a tensor otherwise
    assert torch.allclose(whole.x, cut.x, rtol=1e-10, atol=0.0)
    assert torch.equal(whole.nfe, cut.nfe) and whole.calls == cut.calls
    assert cut.ok and len(rows) == cut.calls
    # the share of evaluations that rows need themselves is 0.4; those left in the batch add to it
    assert sum(rows) < 0.6 * full
    assert int(cut.nfe.sum()) <= sum(rows)


def test_rows_that_fail_are_left_out_and_keep_their_status():
    rates = RATES.clone()
    rates[5], rates[40] = torch.nan, torch.inf
    start = START.clone()
    start[50] = torch.nan
    whole, cut, *_ = both(Dopri5, start, 0.0, 1.0, rates, max_steps=12)
    assert torch.equal(whole.status, cut.status) and torch.equal(whole.nfe, cut.nfe)
    assert torch.allclose(whole.x, cut.x, rtol=1e-10, atol=0.0, equal_nan=True)
    assert set(cut.status.tolist()) == {int(Status.OK), int(Status.NON_FINITE), int(Status.MAX_STEPS)}


@pytest.mark.parametrize("wrap", [lambda solver: solver, Checkpointed, Adjoint])
def test_gradients(wrap):
    def gradients(make):
        rates, x = RATES.clone().requires_grad_(), START.clone().requires_grad_()
        solver = wrap(Dopri5(1e-9, 1e-9))
        return torch.autograd.grad(solver.solve(make(rates), x, 0.0, 1.0).x.square().sum(), (x, rates))

    decay = Decay()
    whole = gradients(lambda rates: lambda t, x: decay(t, x, rates))
    cut = gradients(lambda rates: RowWise(decay, rates))
    assert wrap is Checkpointed or min(decay.rows) < 64
    for a, b in zip(whole, cut):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_whole_where_it_must_be():
    decay = Decay()
    problem = RowWise(decay, RATES)
    path = Dopri5().solve(problem, START, 0.0, 1.0, save_at=[0.5]).path
    assert path is not None and set(decay.rows) == {64}  # saved times are those of all rows
    decay.rows.clear()
    Dopri5().solve(RowWise(decay, RATES[:16]), START[:16], 0.0, 1.0)
    assert set(decay.rows) == {16}  # too few to gain anything
    system = ODE(RowWise(lambda t, x: -x), batched=False)
    assert torch.allclose(
        Dopri5().solve(system, START, 0.0, 1.0).x, START * torch.exp(-torch.ones(())), atol=1e-4
    )


def test_a_mapping_of_conditions_follows_its_rows():
    decay = Decay()
    named = RowWise(lambda t, x, condition: decay(t, x, condition["rate"]), {"rate": RATES})
    whole = both(Dopri5, START, 0.0, 1.0)[0]
    assert torch.allclose(Dopri5().solve(named, START, 0.0, 1.0).x, whole.x, rtol=1e-10, atol=0.0)
    assert min(decay.rows) < 64
