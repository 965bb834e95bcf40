"""Every fixed-step solver compiles whole with the library's networks, and equals eager."""

from __future__ import annotations

import pytest
import torch

from effort import first
from pushforward.nn import MLP, UNet
from pushforward.solvers import AB2, ODE, RK4, Euler, Heun, Midpoint

NETWORKS = {"mlp": (lambda: MLP(2, width=16), (2,)), "unet": (lambda: UNet((1, 8, 8), width=8), (1, 8, 8))}


@pytest.mark.parametrize("solver", first([Heun, Euler, Midpoint, AB2, RK4]), ids=lambda s: s.__name__)
@pytest.mark.parametrize("name", list(NETWORKS))
def test_full_graph(solver, name):
    torch.manual_seed(0)
    build, event = NETWORKS[name]
    net = build()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x = torch.randn(3, *event)

    def push(x):
        return solver(steps=2).solve(ODE(net), x, 0.0, 1.0).x

    torch._dynamo.reset()
    compiled = torch.compile(push, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.allclose(compiled(x), push(x), atol=1e-6)
