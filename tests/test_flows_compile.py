"""Continuous flows with solvers of fixed steps are captured whole by ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from effort import among, first
from pushforward import ContinuousFlow, Normal
from pushforward.flows import Hutchinson
from pushforward.nn import MLP
from pushforward.solvers import RK4, Heun, Midpoint, SolverFailure
from pushforward.solvers.solution import Solution, Status

D = 3
METHODS = ("forward", "push", "pull", "log_prob", "push_and_log_det")


class Plain(nn.Module):
    """A field without a formula for its divergence."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(D + 1, 8), nn.Tanh(), nn.Linear(8, D))

    def forward(self, t, x, condition=None):
        return self.net(torch.cat([x, t.reshape(-1, 1).expand(len(x), 1)], 1))


class Attention(nn.Module):
    """A layer whose fused kernels have no second derivative, and which evaluates in a way of its own."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(1, 4), nn.Linear(4, 1)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, t, x, condition=None):
        return self.down(self.layer(self.up(x[..., None])))[..., 0] * (1 + t)


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def check(function: Callable[..., Tensor | tuple[Tensor, ...]], *rows: Tensor, backend: str = "aot_eager"):
    """The compiled function gives what the plain one does, in double precision."""
    with torch.no_grad():
        expected = function(*rows)
        found = torch.compile(function, fullgraph=True, backend=backend)(*rows)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


FIELDS = {"mlp": lambda: MLP(D, width=8, depth=2), "plain": Plain, "attention": Attention}


@pytest.mark.parametrize(
    "field,method",
    among([(f, m) for f in FIELDS for m in METHODS], [("mlp", "push"), ("plain", "forward")]),
)
def test_captured_whole(field, method):
    flow = ContinuousFlow(FIELDS[field](), Heun(2), Normal(D)).double().eval()
    check(getattr(flow, method), torch.randn(4, D, dtype=torch.float64))


@pytest.mark.parametrize("steps", first([Midpoint(grid=[0.0, 0.3, 1.0]), RK4(2)]), ids=repr)
def test_a_flow_is_a_module_that_compiles(steps):
    flow = ContinuousFlow(MLP(D, width=8, depth=2), steps, Normal(D)).double()
    x = torch.randn(4, D, dtype=torch.float64)
    expected = torch.autograd.grad(-flow(x).mean(), list(flow.parameters()))
    flow.compile(fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(-flow(x).mean(), list(flow.parameters()))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.thorough
def test_guidance_conditions_and_estimates():
    x, c = torch.randn(4, D, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    net = MLP(D, (2,), width=8, depth=2)
    guided = ContinuousFlow(net, Heun(2), Normal(D), condition_shape=(2,), guidance=2.0).double()
    check(guided.push, x, c)
    check(guided.log_prob, x, c)
    estimated = ContinuousFlow(Plain(), Heun(2), Normal(D), divergence=Hutchinson()).double()
    problem = estimated.augmented(None, estimated.divergence.draw(x, torch.Generator().manual_seed(0)))
    check(lambda x: estimated.solver.solve(problem, (x, x.new_zeros(4)), 1.0, 0.0).x, x)


def test_failed_rows_are_found_outside_the_graph():
    """A graph raises no SolverFailure; the rows that fail are not finite."""

    def explosive(t, x, condition=None):
        return torch.where(x > 0, torch.inf, -x)

    flow, x = ContinuousFlow(explosive, Heun(2), Normal(1)), torch.tensor([[1.0], [-1.0]])
    with pytest.raises(SolverFailure, match="1 of 2 rows: non_finite"):
        flow.push(x)
    found = torch.compile(flow.push, fullgraph=True, backend="eager")(x)
    assert found.isfinite().flatten().tolist() == [False, True]
    status = torch.tensor([int(Status.OK), int(Status.NON_FINITE)])
    with pytest.raises(SolverFailure):
        Solution(found, status, 0, status).check()
