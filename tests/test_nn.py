"""Properties of every registered network, and of the embeddings of conditions."""

from __future__ import annotations

import copy
import importlib
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contract import complete
from pushforward.entries import NETWORKS
from pushforward.nn import (
    MLP,
    CausalTransformer,
    ConditionEmbedding,
    ConvConditioner,
    LipschitzPerceptron,
    MaskedPerceptron,
    Network,
    Perceptron,
    ResidualMLP,
    UNet,
)
from pushforward.tensors import drop_condition

#: Per registered network: an event shape and options that keep the tests quick.
SMALL: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "mlp": ((2, 3), {"width": 16}),
    "resmlp": ((2, 3), {"width": 16, "depth": 2, "frequencies": 2}),
    "unet": ((2, 5, 3), {"width": 8, "multipliers": (1, 2), "attention": True}),
}
MIXED = {"kind": 3, "weight": (), "place": (2,)}
B = 6
#: Networks of tokens, which have tests of their own.
TOKENS = ("transformer", "text-transformer")
names = pytest.mark.parametrize("name", [name for name in NETWORKS if name not in TOKENS])


def network(name: str) -> type[Network]:
    module, _, attribute = NETWORKS[name].target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def build(name: str, condition=None, seed: int = 0, dtype: torch.dtype = torch.float64) -> Network:
    """A small network whose parameters are all random, so that no zero initialisation hides anything."""
    shape, options = SMALL[name]
    net = network(name)(shape, condition, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return net.to(dtype)


def rows(name: str, n: int = B, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    t = torch.rand(n, dtype=torch.float64, generator=generator)
    return t, torch.randn(n, *SMALL[name][0], dtype=torch.float64, generator=generator)


def mixed_condition() -> dict[str, Tensor]:
    """Labels and two continuous conditions, absent in different rows."""
    nan = math.nan
    return {
        "kind": torch.tensor([0, 1, 2, -1, 1, -1]),
        "weight": torch.tensor([0.1, nan, -0.3, 1.0, nan, nan], dtype=torch.float64),
        "place": torch.tensor([[0, 1], [nan, 1], [2, 2], [1, nan], [3, -1], [nan, nan]], dtype=torch.float64),
    }


def test_every_registered_network_is_tested():
    complete("network", [*SMALL, *TOKENS])


@names
def test_depends_on_time_point_and_condition(name):
    net, (t, x) = build(name, 3), rows(name)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    out = net(t, x, labels)
    assert out.shape == x.shape
    for other in (net(1 - t, x, labels), net(t, x + 0.1, labels), net(t, x, (labels + 1) % 3), net(t, x)):
        assert ((out - other).reshape(B, -1).norm(dim=1) > 1e-3).all()


@names
@pytest.mark.parametrize("spec", [3, (), (2,), MIXED], ids=["labels", "number", "vector", "several"])
def test_absent_rows_equal_no_condition_at_all(name, spec):
    net, (t, x) = build(name, spec), rows(name)
    given = {3: "kind", (): "weight", (2,): "place"}
    condition = mixed_condition() if spec is MIXED else mixed_condition()[given[spec]]
    torch.testing.assert_close(net(t, x, drop_condition(condition)), net(t, x))
    # Row by row too: dropping some rows leaves the others as they were.
    lost = torch.tensor([True, False, True, False, False, False])
    some = net(t, x, drop_condition(condition, lost))
    expected = torch.where(lost.reshape(-1, *[1] * (x.ndim - 1)), net(t, x), net(t, x, condition))
    torch.testing.assert_close(some, expected)


@names
def test_absent_rows_leave_no_nan_in_values_or_gradients(name):
    net, (t, x) = build(name, MIXED), rows(name)
    x.requires_grad_()
    condition = mixed_condition()
    out = net(t, x, condition)
    out.square().sum().backward()
    assert out.isfinite().all() and x.grad is not None and x.grad.isfinite().all()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        # Every number has a say; only labels that do not occur leave rows of their table alone.
        assert parameter.grad.ne(0).all() or key.endswith("table.weight"), f"{key} has no influence"
    direction = torch.ones_like(x)
    tangent = torch.func.jvp(lambda x: net(t, x, condition), (x.detach(),), (direction,))[1]
    assert tangent.isfinite().all()


@names
@pytest.mark.parametrize("spec", [None, 3])
def test_scalar_time_equals_a_time_per_row(name, spec):
    net, (_, x) = build(name, spec), rows(name)
    condition = None if spec is None else torch.tensor([0, 1, 2, -1, 1, 0])
    expected = net(torch.full((B,), 0.3, dtype=torch.float64), x, condition)
    for t in (0.3, torch.tensor(0.3, dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)):
        torch.testing.assert_close(net(t, x, condition), expected)


@names
def test_rows_do_not_touch_each_other(name):
    net, (t, x) = build(name, 3), rows(name)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    before = net(t, x, labels)
    t[2], x[2], labels[2] = 0.5, 7.0, -1
    change = (net(t, x, labels) - before).reshape(B, -1).abs().amax(1)
    assert change[2] > 1e-3
    assert change[[0, 1, 3, 4, 5]].max() < 1e-12


@names
def test_batched_forward_mode_gives_the_exact_divergence(name):
    net, (t, x) = build(name, MIXED), rows(name, 2)
    condition = {key: value[:2] for key, value in mixed_condition().items()}
    d = x[0].numel()
    basis = torch.eye(d, dtype=x.dtype).reshape(d, 1, *x.shape[1:]).expand(d, *x.shape)

    def along(direction: Tensor) -> Tensor:
        derivative = torch.func.jvp(lambda x: net(t, x, condition), (x,), (direction,))[1]
        return (derivative * direction).reshape(2, -1).sum(-1)

    with torch.inference_mode():
        divergence = torch.func.vmap(along)(basis).sum(0)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(t, x, condition).sum(0), x)
    assert isinstance(jacobian, Tensor)
    trace = jacobian.reshape(d, 2, d).diagonal(dim1=0, dim2=2).sum(-1)
    torch.testing.assert_close(divergence, trace)


@names
def test_compiles_to_one_graph(name):
    net, (t, x) = build(name, MIXED), rows(name)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    condition = mixed_condition()
    torch.testing.assert_close(compiled(t, x, condition), net(t, x, condition))
    compiled(t, x, condition).sum().backward()


@names
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_follows_the_points(name, dtype):
    net = build(name, 3, dtype=dtype)
    t, x = rows(name)
    labels = torch.zeros(B, dtype=torch.int32)
    for time in (t, t.float(), 0.5, torch.tensor(1)):
        assert net(time, x.to(dtype), labels).dtype == dtype
    # float32 carries 7 digits; the network is a few dozen sums deep.
    expected = build(name, 3)(t, x, labels)
    torch.testing.assert_close(net(t, x.to(dtype), labels).double(), expected, rtol=1e-3, atol=1e-4)


@names
def test_no_state_but_the_parameters_and_buffers(name):
    net, (t, x) = build(name, MIXED), rows(name)
    condition = mixed_condition()
    assert net.embed_condition is not None
    net.embed_condition.calibrate(condition)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    out = net(t, x, condition)
    with torch.inference_mode():
        assert torch.equal(net(t, x, condition), out)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])
    other = build(name, MIXED, seed=5)
    assert not torch.allclose(other(t, x, condition), out)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(t, x, condition), out)
    assert torch.equal(copy.deepcopy(net)(t, x, condition), out)


@pytest.mark.parametrize("name", ["resmlp", "unet"])
def test_starts_at_zero_and_yet_learns(name):
    t, x = rows(name)
    shape, options = SMALL[name]
    net = network(name)(shape, 3, **options).double()
    assert not net(t, x, torch.zeros(B, dtype=torch.long)).any()
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    loss = torch.ones(())
    for _ in range(60):
        loss = (net(t, x) - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # The loss starts at mean(x^2), about 1; copying six points is no task for either.
    assert loss < 0.1


def test_mlp_is_the_bare_perceptron_on_x_and_t():
    net = MLP(2)
    linear = [module for module in net.layers if isinstance(module, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(3, 64), (64, 64), (64, 64), (64, 2)]
    x, t = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.linspace(0, 1, 5)
    assert torch.equal(net(t, x), net.layers(torch.cat([x, t[:, None]], 1)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 8, 8), (1, 7, 7), (2, 9, 4)])
def test_unet_takes_any_size(shape):
    net = UNet(shape, width=8, multipliers=(1, 2, 1), blocks=2)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    for parameter in net.leave.parameters():
        nn.init.ones_(parameter)
    # Every pixel of the input is seen.
    x.requires_grad_()
    net(0.5, x).sum().backward()
    assert x.grad is not None and x.grad.ne(0).all()


def test_attention_equals_torch_multihead_attention():
    torch.manual_seed(0)
    attend = UNet((1, 4, 3), width=8, attention=True).attend
    assert isinstance(attend, nn.Module) and not isinstance(attend, nn.Identity)
    peer = nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        for parameter in peer.parameters():
            nn.init.normal_(parameter, std=0.5)
        mine = dict(attend.named_parameters())
        mine["inputs.weight"].copy_(peer.in_proj_weight[:, :, None, None])
        mine["inputs.bias"].copy_(peer.in_proj_bias)
        mine["output.weight"].copy_(peer.out_proj.weight[:, :, None, None])
        mine["output.bias"].copy_(peer.out_proj.bias)
        x = torch.randn(2, 16, 2, 3)
        normal = nn.functional.group_norm(x, 4).flatten(2).mT
        expected = x + peer(normal, normal, normal)[0].mT.reshape(x.shape)
        torch.testing.assert_close(attend(x), expected)


def test_unet_links_carry_the_image_past_the_coarse_grid():
    net, (t, x) = build("unet"), rows("unet")
    assert isinstance(net, UNet)
    for parameter in net.grow.parameters():
        nn.init.zeros_(parameter)
    jacobian = torch.func.jacrev(lambda x: net(t, x)[0, 0, 2, 1])(x)
    assert jacobian[0].abs().amax() > 1e-3


@pytest.mark.parametrize("network", [UNet, ResidualMLP])
def test_dropout_acts_in_training_only(network):
    torch.manual_seed(0)
    net = network((1, 4, 4), width=8, dropout=0.5)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = torch.ones(1, 1, 4, 4)
    assert not torch.equal(net(0.5, x), net(0.5, x))
    net.eval()
    assert torch.equal(net(0.5, x), net(0.5, x))


def test_calibration_makes_conditions_standard():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(50, 2, generator=generator) * torch.tensor([1e4, 0.0]) + 3e5
    wild = ConditionEmbedding((2,), 8)
    tame = copy.deepcopy(wild)
    values[3, 0] = math.nan
    wild.calibrate(values)
    kept = values[~values.isnan().any(-1)]
    by_hand = (kept - kept.mean(0)) / torch.tensor([float(kept[:, 0].std(correction=0)), 1.0])
    torch.testing.assert_close(wild(kept, 49), tame(by_hand, 49), rtol=1e-3, atol=1e-3)


def test_a_name_left_out_is_absent():
    embed = ConditionEmbedding({"a.b": 3, "c": ()}, 8)
    labels = torch.tensor([0, 2])
    nan = torch.full((2,), math.nan)
    torch.testing.assert_close(embed({"a.b": labels}, 2), embed({"a.b": labels, "c": nan}, 2))
    torch.testing.assert_close(embed({}, 2), embed(None, 2))


def test_several_conditions_add_up():
    embed = ConditionEmbedding(MIXED, 8)
    condition = {key: value.float() if key != "kind" else value for key, value in mixed_condition().items()}
    alone = [ConditionEmbedding(MIXED[key], 8) for key in MIXED]
    for one, part in zip(alone, embed.parts):
        one.parts[0].load_state_dict(part.state_dict())
    expected = sum(one(condition[key], B) for one, key in zip(alone, MIXED))
    torch.testing.assert_close(embed(condition, B), expected)


def raises(match: str):
    return pytest.raises(ValueError, match=match)


def test_construction_names_what_is_wrong():
    with raises(r"event_shape: expected \(C, H, W\), got \(8, 8\)"):
        UNet((8, 8))
    with raises("event_shape: expected an integer of at least 1, got 0"):
        MLP((3, 0))
    with raises("activation: expected one of .*silu.*, got 'swish'"):
        ResidualMLP(2, activation="swish")
    with raises("depth: expected an integer of at least 1, got 0"):
        MLP(2, depth=0)
    with raises("frequencies: expected an integer of at least 0, got -1"):
        ResidualMLP(2, frequencies=-1)
    with raises("multipliers: expected integers, one per resolution, got 2"):
        UNet((1, 8, 8), multipliers=2)  # type: ignore  # the wrong type is the point
    with raises("dropout: .* got 1.0"):
        UNet((1, 8, 8), dropout=1.0)
    with raises("dropout: .* got -0.1"):
        ResidualMLP(2, dropout=-0.1)
    with raises("condition: expected an integer of at least 1, got 0"):
        MLP(2, 0)
    with raises("condition: expected at least one name"):
        MLP(2, {})


@names
def test_calls_name_what_is_wrong(name):
    net, (t, x) = build(name, 3), rows(name)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    with raises(r"x: expected shape \(B, 2, .*\), got \(6, 3\)"):
        net(t, x[:, 0].reshape(B, -1)[:, :3])
    with raises(r"t: expected a scalar or shape \(6,\), got shape \(5,\)"):
        net(t[:5], x)
    with raises(r"condition: expected integer labels of shape \(6,\), got torch.int64 of shape \(5,\)"):
        net(t, x, labels[:5])
    with raises("condition: expected integer labels"):
        net(t, x, labels.double())
    with raises("condition: expected a tensor, got a mapping"):
        net(t, x, {"condition": labels})
    with raises("expected labels from 0 to 2, or -1, got 0 to 3"):
        ConditionEmbedding(3, 8).calibrate(torch.tensor([0, 3]))
    with raises("this network is unconditional"):
        build(name)(t, x, labels)
    several = build(name, MIXED)
    with raises("condition: expected a mapping with .*kind.*, got a tensor"):
        several(t, x, labels)
    with raises("condition: expected names among .* got a mapping with .'colour'."):
        several(t, x, {"colour": labels})
    with raises(r"place: expected shape \(6, 2\), got \(6,\)"):
        several(t, x, {"place": t})
    with raises("weight: every row is absent"):
        ConditionEmbedding(MIXED, 8).calibrate({"weight": torch.full((3,), math.nan)})


def test_a_label_out_of_range_is_not_taken_for_absence():
    # On the CPU the table itself refuses; only calibrate looks where that would stall an accelerator.
    with raises("expected labels from 0 to 2, or -1, got 3 to 3"):
        MLP(2, 3)(0.5, torch.zeros(1, 2), torch.tensor([3]))


def test_widths_and_depths_are_those_asked_for():
    net = ResidualMLP(3, width=32, depth=5, frequencies=2)
    assert len(net.blocks) == 5 and net.enter.in_features == 3 * (1 + 2 * 2)
    sizes = [
        module.out_channels
        for module in UNet((1, 8, 8), width=8, multipliers=(1, 3)).modules()
        if isinstance(module, nn.Conv2d)
    ]
    assert set(sizes) == {1, 8, 24}


NO_ROWS = {
    "mlp": lambda c: (MLP((2, 3), c, width=16), (2, 3)),
    "residual mlp": lambda c: (ResidualMLP((2, 3), c, width=16), (2, 3)),
    "u-net": lambda c: (UNet((1, 7, 5), c, width=8, attention=True), (1, 7, 5)),
    "causal transformer": lambda c: (CausalTransformer(4, 3, 3, c, width=16), (4, 3)),
    "perceptron": lambda c: (Perceptron(3, 3, c), (3,)),
    "masked perceptron": lambda c: (MaskedPerceptron(3, 1, c), (3,)),
    "convolutions": lambda c: (ConvConditioner(2, 2, (4, 4), c, width=8), (2, 4, 4)),
    "contraction": lambda c: (LipschitzPerceptron(3, c), (3,)),
}


@pytest.mark.parametrize("name", NO_ROWS)
@pytest.mark.parametrize("kind", ["none", "labels", "numbers", "several"])
def test_no_rows_in_no_rows_out(name: str, kind: str) -> None:
    spec, condition = {
        "none": (None, None),
        "labels": (3, torch.zeros(0).long()),
        "numbers": ((2,), torch.zeros(0, 2)),
        "several": ({"a": 3, "b": ()}, {"a": torch.zeros(0).long(), "b": torch.zeros(0)}),
    }[kind]
    net, shape = NO_ROWS[name](spec)
    x = torch.zeros(0, *shape, requires_grad=True)
    fields = [(0.5,), (torch.zeros(0),)] if isinstance(net, Network) else [()]
    for time in fields:
        y = net(*time, x, condition)
        assert y.shape[0] == 0 and y.numel() == 0 and y.shape[-1] == shape[-1]
        y.sum().backward()
