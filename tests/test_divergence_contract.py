"""The contract of every registered divergence: right on average, of the variance that it says, row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from contract import complete
from pushforward import registry
from pushforward.flows import ContinuousFlow, Divergence
from pushforward.random import seeded
from pushforward.solvers import RK4
from pushforward.sources import Normal

DOUBLE, ROWS = torch.float64, 40_000
T = torch.tensor(0.3, dtype=DOUBLE)


def signs(jacobian: Tensor) -> Tensor:
    """Variance of e^T J e for random signs: 2 (|A|^2 - sum diag^2), A the symmetric part."""
    a = (jacobian + jacobian.T) / 2
    return 2 * (a.square().sum() - a.diagonal().square().sum())


def element(jacobian: Tensor) -> Tensor:
    """Variance of d J_ii for a random i."""
    diagonal = jacobian.diagonal()
    return len(diagonal) ** 2 * diagonal.var(correction=0)


@dataclass(frozen=True)
class Case:
    """How a divergence is made, and its variance for a Jacobian; None where there is no formula for it."""

    text: str
    variance: Callable[[Tensor], Tensor] | None = None


CASES = {
    "exact": Case("exact,chunk=2", lambda jacobian: 0 * jacobian[0, 0]),
    "hutchinson": Case("hutchinson,probes=2", lambda jacobian: signs(jacobian) / 2),
    "hutchpp": Case("hutchpp,probes=6"),
}


def test_every_registered_divergence_has_a_case() -> None:
    complete("divergence", CASES)


def made(name: str) -> Divergence:
    return registry.create("divergence", CASES[name].text)


def start(rows: int) -> tuple[Callable[..., Tensor], Tensor, Tensor]:
    """A field whose Jacobian depends on x, ``rows`` times the same point, and the Jacobian there."""
    g = seeded("divergence")
    weights, x = torch.randn(5, 5, generator=g, dtype=DOUBLE), torch.randn(5, generator=g, dtype=DOUBLE)

    def field(t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
        return torch.tanh(x @ weights.T + t) * (1 + x.roll(1, -1))

    jacobian = torch.autograd.functional.jacobian(lambda x: field(T, x), x)
    assert isinstance(jacobian, Tensor)
    return field, x.expand(rows, 5).clone(), jacobian


@pytest.mark.parametrize("name", CASES)
def test_the_mean_is_the_trace_and_the_variance_that_of_the_formula(name: str) -> None:
    (field, x, jacobian), method, variance = start(ROWS), made(name), CASES[name].variance
    noise = method.draw(x, seeded(name))
    with torch.no_grad():
        value, found = method(field, T, x, None, noise)
    assert value.dtype == found.dtype == DOUBLE and found.shape == (ROWS,)
    torch.testing.assert_close(value, field(T, x))
    # five standard errors of the mean; an exact one may round
    assert float(found.mean() - jacobian.trace()) == pytest.approx(
        0, abs=5 * float(found.std()) / ROWS**0.5 + 1e-9
    )
    if variance is not None:
        # the relative standard error of a variance is below sqrt(15 / ROWS) = 2 % for the kurtosis here
        assert float(found.var()) == pytest.approx(float(variance(jacobian)), rel=0.1, abs=1e-12)
    assert method.exact == (float(found.std()) < 1e-9)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_trace_on_average(name: str) -> None:
    (field, x, _), method = start(ROWS), made(name)
    noise = method.draw(x, seeded(name))

    def trace(point: Tensor) -> Tensor:
        return torch.func.jacrev(lambda y: field(T, y))(point).trace()

    true = torch.func.grad(trace)(x[0])
    x.requires_grad_()
    (found,) = torch.autograd.grad(method(field, T, x, None, noise)[1].sum(), x)
    error = found.std(0) / ROWS**0.5
    # six standard errors, over five elements
    assert bool(((found.mean(0) - true).abs() <= 6 * error + 1e-9).all())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_is_the_same_in_every_mode_and_for_every_row_alone(name: str, mode: Callable[[], object]) -> None:
    (field, x, _), method = start(6), made(name)
    x = x + torch.arange(6, dtype=DOUBLE)[:, None] / 10
    noise, t = method.draw(x, seeded("modes")), torch.linspace(0, 1, 6, dtype=DOUBLE)

    def of(t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
        return field(t[:, None], x)

    value, whole = method(of, t, x, None, noise)
    with mode():  # pyright: ignore[reportGeneralTypeIssues]
        inside = x * 1.0  # a tensor of this mode
        torch.testing.assert_close(method(of, t, inside, None, noise), (value, whole))
    own = None if noise is None else noise[2:3]
    torch.testing.assert_close(method(of, t[2:3], x[2:3], None, own)[1], whole[2:3])
    if noise is not None:
        assert torch.equal(method.draw(x, seeded("modes")), noise) and len(noise) == 6  # pyright: ignore


@pytest.mark.parametrize("name", CASES)
def test_events_of_any_shape(name: str) -> None:
    method = made(name)
    for shape in ((), (1,), (2, 3, 3)):
        x = torch.ones(4, *shape)
        noise = method.draw(x, seeded("shapes"))
        value, found = method(lambda t, x, condition=None: 0 * x + 1, torch.tensor(0.5), x, None, noise)
        assert value.shape == x.shape and found.tolist() == [0.0] * 4
        found = method(lambda t, x, condition=None: 3 * x, torch.tensor(0.5), x, None, noise)[1]
        # Hutch++ is not exact on multiples of the identity; its projections of random signs vary in length
        torch.testing.assert_close(found, torch.full((4,), 3.0 * x[0].numel()), rtol=0.3, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_a_flow_says_whether_its_density_is_an_estimate(name: str) -> None:
    field, x, _ = start(4)
    flow = ContinuousFlow(field, RK4(steps=4), Normal(5).double(), divergence=made(name))
    assert flow.density == ("exact" if made(name).exact else "estimate")
    first, second = (flow.log_prob(x, generator=seeded(name, k)) for k in range(2))
    assert torch.equal(first, second) == made(name).exact
    assert torch.equal(first, flow.log_prob(x, generator=seeded(name, 0)))
