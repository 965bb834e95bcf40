"""Log-densities of perceptrons that are linear maps, whose flows are normal distributions in closed form.

relu(x) - relu(-x) = x, so that a perceptron with such units is v = A x exactly, at any depth, and its flow
carries N(0, I) to N(0, S), S = exp(A) exp(A)^T.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from pushforward.flows import ContinuousFlow
from pushforward.nn import MLP
from pushforward.solvers import Solver, Tsit5
from pushforward.sources import Normal

DOUBLE = torch.float64
EVENTS = [(1,), (3,), (2, 1, 3), ()]
#: one layer is a bilinear form, two are found from units, three from elements or units
DEPTHS = [1, 2, 3]


def matrix(event: tuple[int, ...], skew: bool = False) -> Tensor:
    d = math.prod(event)
    a = 0.7 * torch.randn(d, d, dtype=DOUBLE, generator=torch.Generator().manual_seed(d))
    return a - a.T if skew else a


def linear_flow(
    a: Tensor, event: tuple[int, ...], depth: int, solver: Solver | None = None
) -> tuple[ContinuousFlow, MLP]:
    d = len(a)
    net = MLP(event, width=2 * d, depth=depth, activation="relu").to(a.dtype)
    both = torch.cat([torch.eye(d, dtype=a.dtype), -torch.eye(d, dtype=a.dtype)])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.layers.get_submodule("0").get_parameter("weight")[:, :d] = both
        for layer in range(2, 2 * depth, 2):
            net.layers.get_submodule(str(layer)).get_parameter("weight").copy_(torch.eye(2 * d))
        net.layers.get_submodule(str(2 * depth)).get_parameter("weight").copy_(a @ both.T)
    source = Normal(event).to(a.dtype)
    return ContinuousFlow(net, solver or Tsit5(rtol=1e-7, atol=1e-7), source), net


def points(event: tuple[int, ...]) -> Tensor:
    return torch.randn(5, *event, dtype=DOUBLE, generator=torch.Generator().manual_seed(9))


def exact(a: Tensor, x: Tensor) -> Tensor:
    root = torch.linalg.matrix_exp(a)
    return MultivariateNormal(x.new_zeros(len(a)), root @ root.T).log_prob(x.reshape(len(x), -1))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_log_densities_are_those_of_the_normal_distribution(event, depth):
    a, x = matrix(event), points(event)
    flow, _ = linear_flow(a, event, depth)
    with torch.inference_mode():
        torch.testing.assert_close(flow.log_prob(x), exact(a, x), rtol=0, atol=1e-5)
        y, log_p = flow.sample_and_log_prob(4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_p, exact(a, y), rtol=0, atol=1e-5)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_rotation_changes_no_log_density(depth):
    event = (2, 1, 3)
    x = points(event)
    flow, _ = linear_flow(matrix(event, skew=True), event, depth)
    torch.testing.assert_close(flow.log_prob(x), flow.source.log_prob(x), rtol=0, atol=1e-5)
    y = flow.pull(x)
    assert (y - x).abs().max() > 0.5  # it does move points
    torch.testing.assert_close(y.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("event", [(3,), (2, 1, 3)], ids=str)
def test_gradients_in_points_and_parameters_are_closed_forms(event, depth):
    """d log p / dx = -S^-1 x; a change dA of A is (dA, -dA) in the last layer."""
    a, x = matrix(event).requires_grad_(), points(event).requires_grad_()
    expected = torch.autograd.grad(exact(a, x).sum(), [a, x])
    flow, net = linear_flow(a.detach(), event, depth)
    last = net.layers.get_submodule(str(2 * depth)).get_parameter("weight")
    in_last, in_x = torch.autograd.grad(flow.log_prob(x).sum(), [last, x])
    d = len(a)
    torch.testing.assert_close(in_x, expected[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(in_last[:, :d] - in_last[:, d:], expected[0], rtol=1e-5, atol=1e-5)


def test_single_precision_stays_single():
    event = (3,)
    a, x = matrix(event), points(event)
    flow, _ = linear_flow(a.float(), event, 3, Tsit5(rtol=1e-6, atol=1e-6))
    found = flow.log_prob(x.float())
    assert found.dtype == torch.float32
    # rounding of some hundred sums, 1e-7 each, and the tolerance of the solver
    torch.testing.assert_close(found.double(), exact(a, x), rtol=0, atol=1e-3)
    y, log_p = flow.sample_and_log_prob(4, generator=torch.Generator().manual_seed(0))
    assert y.dtype == log_p.dtype == torch.float32
