"""Integrals along a path, whose rates are left out at stages that a step does not use."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from pushforward import MLP, ContinuousFlow, Normal
from pushforward.random import seeded
from pushforward.solvers import (
    ODE,
    Adjoint,
    Checkpointed,
    Dopri5,
    Dopri8,
    Heun,
    Midpoint,
    Solver,
    WithIntegrals,
)
from solver_cases import CURL_START, curl, every

COUNTS = Counter()
SCALE = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)


def whole(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    COUNTS["whole"] += 1
    x = SCALE * state[0]
    return curl(t, x), x.square().sum(-1), x * t.reshape(-1, *[1] * (x.ndim - 1))


def leading(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    COUNTS["leading"] += 1
    return (curl(t, SCALE * state[0]),)


def solved(
    solver: Solver, velocity: Any, direction: bool, save_at: Any, rows: bool = True
) -> tuple[Tensor, ...]:
    x = CURL_START if rows else CURL_START[0]
    state = (x, x.new_zeros(x.shape[:-1]), torch.zeros_like(x))
    ends, times = ((0.0, 1.0), save_at) if direction else ((1.0, 0.0), save_at and save_at[::-1])
    COUNTS.clear()
    found = solver.solve(ODE(velocity, controlled=2, batched=rows), state, *ends, save_at=times).check()
    return (*found.x, *(found.path or ()))


@pytest.mark.parametrize("rows", [True, False], ids=["rows", "one system"])
@pytest.mark.parametrize("save_at", [None, [0.03, 0.5, 0.77]], ids=["end", "path"])
@pytest.mark.parametrize("direction", [True, False], ids=["forwards", "backwards"])
@every
def test_rates_left_out_change_nothing(cls: Any, direction: bool, save_at: Any, rows: bool) -> None:
    solver = cls(rtol=1e-6, atol=1e-6) if cls.adaptive else cls(steps=8)
    with torch.no_grad():
        found = solved(solver, WithIntegrals(whole, leading), direction, save_at, rows)
        calls = Counter(COUNTS)
        plain = solved(solver, whole, direction, save_at, rows)
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
    assert sum(calls.values()) == COUNTS["whole"] and not COUNTS["leading"]


@pytest.mark.parametrize(
    ("solver", "share"),
    [(Midpoint(10), 1 / 2), (Dopri5(), 1 / 6), (Dopri8(), 4 / 13), (Heun(10), 0.0)],
    ids=repr,
)
def test_how_many_rates_are_left_out(solver: Solver, share: float) -> None:
    """The weights of the methods that are zero; a step of an adaptive one has two evaluations before it."""
    solved(solver, WithIntegrals(whole, leading), True, None)
    total = COUNTS.total() - 2 * solver.adaptive
    assert COUNTS["leading"] == pytest.approx(share * total, abs=1e-9)


@pytest.mark.parametrize(
    "wrap", [lambda s: s, Checkpointed, Adjoint], ids=["plain", "checkpointed", "adjoint"]
)
@pytest.mark.parametrize("solver", [Midpoint(20), Dopri5(1e-9, 1e-9)], ids=["midpoint", "dopri5"])
def test_gradients_are_the_same(wrap: Any, solver: Solver) -> None:
    """To rounding, for the adjoint too, whose equation has integrals of its own."""

    def gradient(velocity: Any) -> Tensor:
        found = solved(wrap(solver), velocity, True, [0.3, 0.9])
        total = sum(part.sin().sum() for part in found)
        assert isinstance(total, Tensor)
        return torch.autograd.grad(total, SCALE)[0]

    torch.testing.assert_close(
        gradient(WithIntegrals(whole, leading)), gradient(whole), rtol=1e-12, atol=1e-12
    )


def test_a_log_density_by_midpoint_evaluates_half_the_divergences() -> None:
    counts: Counter[str] = Counter()

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = MLP(2)

        def forward(self, t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
            counts["value"] += 1
            return self.network(t, x, condition)

        def value_and_divergence(self, t: Tensor, x: Tensor, condition: Any = None, mask: Any = None) -> Any:
            counts["divergence"] += 1
            return self.network.value_and_divergence(t, x, condition, mask)

    flow = ContinuousFlow(Field(), Midpoint(10), Normal(2))
    x = torch.randn(16, 2, generator=seeded("half"))
    found = flow.log_prob(x)
    assert counts == {"value": 10, "divergence": 10}
    generic = ContinuousFlow(lambda t, x, condition: flow.field(t, x, condition), Midpoint(10), Normal(2))
    torch.testing.assert_close(found, generic.log_prob(x), rtol=1e-5, atol=1e-5)
