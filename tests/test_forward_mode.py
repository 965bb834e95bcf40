"""Networks that a loss with derivatives cannot take are refused by the name of the layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contract import own
from pushforward import UNet, registry
from pushforward.config import RunConfig
from pushforward.fields import TwoTimes
from pushforward.nn import ResidualMLP
from pushforward.objectives import FlowMapMatching, Lagrangian, MapLoss, MeanFlow, Step, TwoSided
from pushforward.objectives.flow_maps.forward_mode import derivative
from pushforward.random import normal, seeded
from pushforward.recipes.defaults import by_method, recipe_of
from pushforward.rows import Batch, Rows

EVERY = pytest.mark.parametrize(
    "rule", [Lagrangian(), MeanFlow(), TwoSided()], ids=lambda rule: type(rule).__name__
)


class Twice(torch.autograd.Function):
    """An operation with a backward rule alone."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return 2 * grad_outputs[0]


class Old(torch.autograd.Function):
    """The same in the form that torch.func does not take at all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return 2 * grad_outputs[0]


class Doubling(nn.Module):
    def __init__(self, operation: type[torch.autograd.Function]):
        super().__init__()
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        return self.operation.apply(x)


class Own(nn.Module):
    """A map of two times with a middle layer that is given."""

    def __init__(self, middle: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), middle, nn.Linear(8, 2))

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        s, t = (u.reshape(-1, 1).expand(len(x), 1) for u in (s, t))
        return self.layers(torch.cat([s, t, x], 1))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x[:, None], x[:, None], x[:, None])[0][:, 0]


def batch(*event: int) -> Batch:
    return Batch((Rows(normal((16, *event), seeded(0))), Rows(normal((16, *event), seeded(1)))))


def loss(rule: Any, model: nn.Module, *event: int) -> Tensor:
    given = FlowMapMatching(rule, two_sided=rule.needs_two_sided)
    return given.loss(
        nn.ModuleDict({"field": model}), batch(*(event or (2,))), Step(generator=seeded(2))
    ).value


def test_losses_without_derivatives_are_named_as_a_way_out() -> None:
    free = {name for name in own("loss", MapLoss) if not registry.found("loss", name).derivative}
    assert free == {"alpha-flow", "semigroup", "shortcut", "consistency", "moment-matching"}


@EVERY
def test_dropout_in_training_mode_is_refused_by_name(rule: Any) -> None:
    model = TwoTimes(ResidualMLP(2, width=8, depth=2, dropout=0.25, spans=True))
    with pytest.raises(
        ValueError, match=r"field: Dropout \(network\.\S+\) drops out 0.25 of its inputs, and"
    ):
        loss(rule, model)
    assert bool(loss(rule, model.eval()).isfinite())
    assert bool(loss(rule, TwoTimes(ResidualMLP(2, width=8, spans=True))).isfinite())


def test_dropout_inside_attention_is_found() -> None:
    says = r"field: MultiheadAttention \(layers.1.attention\) drops out 0.1"
    with pytest.raises(ValueError, match=says):
        loss(Lagrangian(), Own(Attending()))


@pytest.mark.parametrize("name", ["alpha-flow", "semigroup", "shortcut", "consistency", "moment-matching"])
def test_losses_without_derivatives_take_any_network(name: str) -> None:
    rule = registry.create("loss", name)
    assert bool(loss(rule, Own(nn.Sequential(nn.Dropout(0.5), Doubling(Twice)))).isfinite())


@pytest.mark.parametrize("operation", [Twice, Old])
@EVERY
def test_an_operation_without_a_forward_rule_is_refused_by_the_name_of_its_layer(
    rule: Any, operation: type[torch.autograd.Function]
) -> None:
    says = r"field: Doubling \(layers.1\) has no forward-mode derivative, which this loss takes; take a loss"
    with pytest.raises(ValueError, match=says):
        loss(rule, Own(Doubling(operation)))


def test_sharded_weights_are_refused_with_a_way_out() -> None:
    def recipe(method: str) -> Any:
        return recipe_of(by_method(RunConfig.of("moons", method=method, strategy="fsdp")))

    with pytest.raises(
        ValueError, match=r"--strategy fsdp: --loss lagrangian .*; take --loss semigroup, alpha"
    ):
        recipe("flow-map")
    assert not recipe("shortcut").loss.derivative


def test_other_errors_are_left_as_they_are() -> None:
    def wrong(x: Tensor) -> Tensor:
        return x @ x

    with pytest.raises(RuntimeError, match=r"size mismatch|cannot be multiplied"):
        derivative(wrong, (torch.ones(2, 3),), (torch.ones(2, 3),))


@pytest.mark.parametrize("rule", [Lagrangian(), MeanFlow()], ids=lambda rule: type(rule).__name__)
def test_attention_has_one(rule: Any) -> None:
    """Its fused kernels have none."""
    model = TwoTimes(UNet((1, 4, 4), width=8, attention=True, spans=True))
    value = loss(rule, model, 1, 4, 4)
    value.backward()
    assert bool(value.isfinite()) and all(p.grad is not None for p in model.parameters())
