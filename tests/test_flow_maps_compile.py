"""Flows of flow maps, and the losses that train them, are captured whole by ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from contract import own
from pushforward import FlowMapFlow, Normal, registry
from pushforward.fields import TwoTimes
from pushforward.flows import ConsistencyFlow
from pushforward.nn import MLP
from pushforward.objectives import FlowMapMatching, MapLoss, Step
from pushforward.random import normal, seeded
from pushforward.rows import Batch, Rows

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.manual_seed(0)
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def network() -> TwoTimes:
    net = TwoTimes(MLP(2, width=8, depth=2, spans=True)).double()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, dtype=DOUBLE)
    return net


def check(function: Callable[..., Any], *rows: Tensor) -> None:
    """The compiled function gives what the plain one does."""
    with torch.no_grad():
        torch.manual_seed(1)
        expected = function(*rows)
        torch.manual_seed(1)
        found = torch.compile(function, fullgraph=True, backend="aot_eager")(*rows)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("method", ["push", "pull"])
def test_a_flow_is_captured_whole(method: str, steps: int) -> None:
    flow = FlowMapFlow(network(), Normal(2).double(), steps, two_sided=True)
    check(getattr(flow, method), torch.randn(4, 2, dtype=DOUBLE))


def test_a_trajectory_is_not_since_its_times_say_which_leaps_there_are() -> None:
    flow, times = FlowMapFlow(network(), Normal(2).double(), 2), torch.linspace(0, 1, 3, dtype=DOUBLE)
    follow = torch.compile(lambda x: flow.trajectory(x, times).path, fullgraph=True, backend="aot_eager")
    with torch.no_grad(), pytest.raises(TorchDynamoException):
        follow(torch.randn(4, 2, dtype=DOUBLE))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_flow_with_noise_between_its_steps_is_captured_whole(steps: int) -> None:
    flow = ConsistencyFlow(network(), Normal(2).double(), steps)
    check(flow.push, torch.randn(4, 2, dtype=DOUBLE))


@pytest.mark.parametrize("name", own("loss", MapLoss))
def test_a_loss_is_captured_whole(name: str) -> None:
    """Value and gradients; draws are those of the global generator, since PyTorch captures no other."""
    rule, models = registry.create("loss", name), nn.ModuleDict({"field": network()})
    given = FlowMapMatching(rule, two_sided=rule.needs_two_sided)
    x0, x1 = (normal((16, 2), seeded(k), DOUBLE) for k in range(2))

    def value(x0: Tensor, x1: Tensor) -> Tensor:
        return given.loss(models, Batch((Rows(x0), Rows(x1))), Step(3, 10)).value

    results = []
    for function in (value, torch.compile(value, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(1)
        found = function(x0, x1)
        results.append((found.detach(), *torch.autograd.grad(found, list(models.parameters()))))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)
