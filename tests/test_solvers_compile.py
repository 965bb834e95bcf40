"""Fixed-step solvers are captured whole by ``torch.compile``, forwards and for backpropagation."""

from __future__ import annotations

import shutil

import pytest
import torch

from pushforward.solvers import ODE, Midpoint
from solver_cases import fixed


class Perceptron(torch.nn.Module):
    event = (2,)

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.SiLU(), torch.nn.Linear(8, 2))

    def forward(self, t, x):
        return self.net(torch.cat([x, t.expand(len(x), 1)], 1))


class Convolution(torch.nn.Module):
    event = (1, 6, 6)

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.GELU(), torch.nn.Conv2d(4, 1, 3, padding=1)
        )

    def forward(self, t, x):
        return self.net(torch.cat([x, t.expand_as(x)], 1))


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def check(cls, network, dtype, backend, steps=2):
    """Final state, path, counts and gradients of the compiled solver equal those of the eager one."""
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    net = network().to(dtype)
    solver = cls(steps=steps)

    def run(x):
        return solver.solve(ODE(net), x, 0.0, 1.0, save_at=[0.0, 0.2, 0.9])

    x = torch.randn(4, *network.event, dtype=dtype, requires_grad=True)
    inputs = (x, *net.parameters())
    eager, compiled = run(x), torch.compile(run, fullgraph=True, backend=backend)(x)
    assert (compiled.x - eager.x).abs().max() <= tolerance
    assert (compiled.path - eager.path).abs().max() <= tolerance
    assert torch.equal(compiled.nfe, eager.nfe) and compiled.calls == eager.calls and compiled.ok
    for a, b in zip(
        torch.autograd.grad(compiled.x.square().sum(), inputs),
        torch.autograd.grad(eager.x.square().sum(), inputs),
    ):
        # a sum over the batch and the steps, hence a few roundings more than the state itself
        assert (a - b).abs().max() <= 10 * tolerance * (1 + b.abs().max())


@fixed
@pytest.mark.parametrize(
    "network,dtype", [(Perceptron, torch.float64), (Convolution, torch.float32)], ids=["mlp", "conv"]
)
def test_captured_whole(cls, network, dtype):
    check(cls, network, dtype, "aot_eager")


@fixed
def test_no_grad_tuples_and_any_interval(cls):
    """The returned tensors alone, a tuple state, backwards, and with times that are arguments."""
    solver = cls(grid=[0.0, 0.2, 1.0])

    def end(x, volume, t0, t1):
        solution = solver.solve(lambda t, s: (torch.sin(s[0] + t), s[0].sum(1)), (x, volume), t0, t1)
        return *solution.x, solution.status

    compiled = torch.compile(end, fullgraph=True, backend="aot_eager")
    x, volume = torch.randn(4, 2, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    with torch.no_grad():
        for ends in ((0.0, 1.0), (1.0, 0.25)):
            for a, b in zip(compiled(x, volume, *ends), end(x, volume, *ends)):
                assert (a - b).abs().max() <= 1e-12


@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))),
    reason="inductor needs a C++ compiler",
)
def test_inductor():
    check(Midpoint, Perceptron, torch.float64, "inductor", steps=1)
