"""Divergences that networks and fields offer, against the trace of the Jacobian by autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from effort import first
from pushforward.entries import NETWORKS
from pushforward.fields import (
    PREDICTIONS,
    Around,
    Autoguidance,
    BestLinear,
    BridgeField,
    CFGZeroStar,
    ClassifierFree,
    Drift,
    Guidance,
    Guided,
    Masked,
    Parameterised,
    PathDrift,
    Preconditioned,
    Prediction,
    ReversedTime,
    Scaled,
    ScheduleChange,
    ScoreFromEta,
    offered,
)
from pushforward.fields.base import Unconditional
from pushforward.fields.offers import linear
from pushforward.flows import ContinuousFlow, divergence
from pushforward.flows.divergence import field_divergence
from pushforward.nn import MLP, Network, ResidualMLP
from pushforward.nn.base import ACTIVATIONS
from pushforward.paths import Interpolant, VarianceExploding, VariancePreserving
from pushforward.solvers import Midpoint
from pushforward.sources import Normal

DOUBLE = torch.float64
B = 7

#: Networks that offer a divergence, with what builds each from an event shape and a condition.  The others
#: of the registry take the general way.
OFFER = {
    "mlp-1": lambda event, condition: MLP(event, condition, width=9, depth=1),
    "mlp-2": lambda event, condition: MLP(event, condition, width=9, depth=2),
    "mlp-3": lambda event, condition: MLP(event, condition, width=9, depth=3),
    "mlp-4": lambda event, condition: MLP(event, condition, width=9, depth=4, activation="gelu"),
    "resmlp-features": lambda event, condition: ResidualMLP(
        event, condition, width=9, depth=2, frequencies=2
    ),
    "resmlp-plain": lambda event, condition: ResidualMLP(event, condition, width=9, depth=2, frequencies=0),
    "resmlp-dropout": lambda event, condition: ResidualMLP(event, condition, 9, 1, dropout=0.3).eval(),
}
GENERAL = {"unet", "transformer", "text-transformer"}
#: few elements, for which tangents are pushed; more than the width, for which units are; no dimension at all
EVENTS = [(), (1,), (3,), (30,), (2, 3, 2)]
#: a mapping, whose embeddings are summed
CONDITION = {"kind": 3, "weight": ()}

networks = pytest.mark.parametrize("name", list(OFFER))


def build(name: str, event=(3,), condition=None, seed: int = 0) -> Network:
    net = OFFER[name](event, condition)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return net.double()


def rows(event, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    t = torch.rand(B, dtype=DOUBLE, generator=generator)
    return t, torch.randn(B, *event, dtype=DOUBLE, generator=generator)


def conditions() -> dict[str, Tensor]:
    weight = torch.tensor([0.1, math.nan, -0.3, 1.0, 0.0, 2.0, -1.0], dtype=DOUBLE)
    return {"kind": torch.tensor([0, 1, 2, -1, 1, -1, 0]), "weight": weight}


def inside(net: nn.Module) -> nn.Sequential:
    assert isinstance(net, MLP)
    return net.layers


def diagonal(field, t: Tensor, x: Tensor, condition=None) -> Tensor:
    """dv_i/dx_i ``(B, D)``, an element at a time and without ``torch.func``."""
    x = x.detach().requires_grad_()
    value = field(t, x, condition).reshape(B, -1)
    slopes = [
        torch.autograd.grad(value[:, i].sum(), x, retain_graph=True)[0].reshape(B, -1)[:, i]
        for i in range(value.shape[1])
    ]
    return torch.stack(slopes, 1)


def test_every_registered_network_has_an_answer():
    assert set(NETWORKS) == {name.partition("-")[0] for name in OFFER} | GENERAL


@networks
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_the_offer_is_the_trace_of_the_jacobian(name, event):
    net, (t, x) = build(name, event), rows(event)
    for time in (t, t[0]):
        found = offered(net, time, x)
        assert found is not None
        assert torch.equal(found[0], net(time, x))
        torch.testing.assert_close(found[1], diagonal(net, time, x).sum(1), rtol=1e-10, atol=1e-10)


@networks
def test_the_offer_heeds_conditions(name):
    net, (t, x) = build(name, (3,), CONDITION), rows((3,))
    for condition in (None, conditions(), {"kind": conditions()["kind"]}):
        found = offered(net, t, x, condition)
        assert found is not None and torch.equal(found[0], net(t, x, condition))
        expected = diagonal(net, t, x, condition).sum(1)
        torch.testing.assert_close(found[1], expected, rtol=1e-10, atol=1e-10)


@networks
@pytest.mark.parametrize("event", [(3,), (30,)], ids=str)
def test_a_mask_takes_its_elements_alone(name, event):
    net, (t, x) = build(name, event), rows(event)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.6
    found = offered(net, t, x, None, mask)
    assert found is not None and torch.equal(found[0], net(t, x))
    expected = torch.where(mask, diagonal(net, t, x), 0.0).sum(1)
    torch.testing.assert_close(found[1], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_slopes_of_all_activations(activation):
    net, (t, x) = MLP(3, width=9, activation=activation).double(), rows((3,))
    found = offered(net, t, 40 * x)  # softplus is a straight line where its input is large
    assert found is not None
    torch.testing.assert_close(found[1], diagonal(net, t, 40 * x).sum(1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layer", [nn.Softplus(2.0, 1.0), nn.ELU(0.5)], ids=str)
def test_slopes_heed_the_settings_of_an_activation(layer):
    net, (t, x) = build("mlp-3"), rows((3,))
    inside(net)[1] = layer
    torch.testing.assert_close(known(offered(net, t, x))[1], diagonal(net, t, x).sum(1))


@networks
@pytest.mark.parametrize("event", [(3,), (30,)], ids=str)
def test_the_offer_differentiates_as_the_general_way_does(name, event):
    net, (t, x) = build(name, event), rows(event)
    # what the general way sees hides the network
    ways = (lambda y: offered(net, t, y), lambda y: divergence(lambda z: net(t, z), y))
    found = []
    for way in ways:
        y = x.clone().requires_grad_()
        value, div = known(way(y))
        loss = (value.square().reshape(B, -1).sum(1) * div.sin()).sum()
        found.append(torch.autograd.grad(loss, [y, *net.parameters()]))
    for mine, theirs in zip(*found):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def known(found: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    assert found is not None
    return found


@networks
def test_blocks_do_not_change_the_result(name, monkeypatch):
    net, (t, x) = build(name, (30,)), rows((30,))
    whole = known(offered(net, t, x))[1]
    for cached in (9, 30, 100):
        monkeypatch.setattr("pushforward.nn.slopes.CACHED", cached)
        torch.testing.assert_close(known(offered(net, t, x))[1], whole, rtol=1e-12, atol=1e-12)


@networks
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_and_in_either_precision(name, mode):
    for dtype, tolerance in ((torch.float32, 1e-5), (DOUBLE, 1e-12)):
        net, (t, x) = build(name, (3,)).to(dtype), rows((3,))
        expected = diagonal(build(name, (3,)), t, x).sum(1)
        with mode():
            value, div = known(offered(net, t.to(dtype), x.to(dtype)))
        assert value.dtype == div.dtype == dtype and not div.requires_grad
        torch.testing.assert_close(div.double(), expected, rtol=tolerance, atol=tolerance)
    empty = known(offered(net, t[:0], x[:0]))
    assert empty[0].shape == (0, 3) and empty[1].shape == (0,)


class Doubled(MLP):
    """Another forward, and no divergence of its own."""

    def forward(self, t, x, condition=None, span=None):
        return 2 * super().forward(t, x, condition)


class Called(MLP):
    def __call__(self, *args):
        return 2 * super().__call__(*args)


class Odd(nn.Module):
    def forward(self, x):
        return x**3


def twice(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
    return 2 * out


def hook(net):
    net.register_forward_hook(twice)


def hook_inside(net):
    inside(net)[2].register_forward_hook(twice)


def another_activation(net):
    inside(net)[1] = Odd()


def approximate_activation(net):
    inside(net)[1] = nn.GELU("tanh")


def another_layer(net):
    class Twice(nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    inside(net)[2] = Twice(9, 9).double()


def another_forward(net):
    old = net.forward
    net.forward = lambda t, x, condition=None: 2 * old(t, x, condition)


CHANGES = [hook, hook_inside, another_activation, approximate_activation, another_layer, another_forward]


@pytest.mark.parametrize("change", [Doubled, Called, *CHANGES], ids=lambda change: change.__name__)
def test_a_changed_network_takes_the_general_way(change):
    t, x = rows((3,))
    if isinstance(change, type):
        net = change(3, width=9).double()
    else:
        net = build("mlp-3")
        assert offered(net, t, x) is not None
        change(net)
    assert offered(net, t, x) is None
    value, div = field_divergence(net, t, x)
    torch.testing.assert_close(value, net(t, x))
    torch.testing.assert_close(div, diagonal(net, t, x).sum(1), rtol=1e-10, atol=1e-10)


def test_a_changed_residual_network_takes_the_general_way():
    t, x = rows((3,))
    assert offered(build("resmlp-dropout").train(), t, x) is None
    for part in ("enter", "features", "leave", "blocks.1.0", "blocks.1.1", "blocks.0.2"):
        net = build("resmlp-features")
        net.get_submodule(part).register_forward_hook(twice)
        assert offered(net, t, x) is None
        torch.testing.assert_close(field_divergence(net, t, x)[1], diagonal(net, t, x).sum(1))
    net = build("resmlp-features")
    net.get_submodule("embed_time").register_forward_hook(twice)  # the time has no part in the derivative
    torch.testing.assert_close(known(offered(net, t, x))[1], diagonal(net, t, x).sum(1))


def test_a_parametrised_weight_keeps_the_offer():
    net, (t, x) = build("mlp-3"), rows((3,))
    nn.utils.parametrizations.weight_norm(inside(net)[2])
    found = known(offered(net, t, x))
    torch.testing.assert_close(found[1], diagonal(net, t, x).sum(1), rtol=1e-10, atol=1e-10)


def test_a_subclass_may_offer_again():
    class Own(Doubled):
        def value_and_divergence(self, t, x, condition=None, mask=None):
            value, div = known(super().value_and_divergence(t, x, condition, mask))
            return 2 * value, 2 * div

    net, (t, x) = Own(3, width=9).double(), rows((3,))
    torch.testing.assert_close(known(offered(net, t, x))[1], diagonal(net, t, x).sum(1))


def test_a_flow_uses_the_offer_and_finds_the_same_density():
    net, (_, x) = build("mlp-3", (3,)), rows((3,))
    flow = ContinuousFlow(net, Midpoint(4), Normal(3).double())
    plain = ContinuousFlow(lambda t, x, condition: net(t, x, condition), Midpoint(4), Normal(3).double())
    with torch.inference_mode():
        assert torch.equal(flow.pull(x), flow.pull_and_log_det(x)[0])
        torch.testing.assert_close(flow.log_prob(x), plain.log_prob(x), rtol=1e-12, atol=1e-12)


class Rotation(nn.Module):
    """A field of a user's own, of (t, x) alone."""

    def forward(self, t, x):
        return 3 * x.flip(1) + 2 * x

    def value_and_divergence(self, t, x, condition=None, mask=None):
        diagonal = torch.full_like(x, 2.0)
        diagonal[:, x.shape[1] // 2] += 3.0 * (x.shape[1] % 2)
        return self(t, x), (diagonal if mask is None else diagonal * mask).flatten(1).sum(1)


def padding(event, batch: int = B) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(batch, event[0], generator=generator) < 0.7


NOISY = Interpolant(gamma=0.5)
OUTPUTS: tuple[Prediction, ...] = ("velocity", "score")


def predicting(kind: Prediction, output: Prediction):
    path = Interpolant() if kind == "velocity" else NOISY
    return lambda f, g, event: Parameterised(f, kind, path, output)


WRAPPERS = {
    "around": lambda f, g, event: Around(BestLinear(NOISY), f),
    "scaled": lambda f, g, event: Scaled(f, NOISY),
    **{f"{kind}-{output}": predicting(kind, output) for kind in PREDICTIONS for output in OUTPUTS},
    "eta": lambda f, g, event: ScoreFromEta(f, NOISY),
    "reversed": lambda f, g, event: ReversedTime(f),
    "bridge": lambda f, g, event: BridgeField(f, g, sigma=0.7),
    "bridge-score": lambda f, g, event: BridgeField(f, g, sigma=0.7, output="score"),
    "drift": lambda f, g, event: Drift(f, g, lambda t: 1 + t),
    "path drift": lambda f, g, event: PathDrift(f, Interpolant(), lambda t: 1 + t),
    "path drift, backward": lambda f, g, event: PathDrift(f, NOISY, 0.8, backward=True),
    "path drift, at times without noise": lambda f, g, event: PathDrift(
        f, Interpolant(), lambda t: (t - 0.5).clamp(min=0)
    ),
    "schedule change": lambda f, g, event: ScheduleChange(
        f, Interpolant(VariancePreserving()), Interpolant()
    ),
    # which has neither the early nor the late times of the straight path
    "schedule change, beyond": lambda f, g, event: ScheduleChange(
        f, Interpolant(VarianceExploding(0.5, 2.0)), Interpolant()
    ),
    "preconditioned": lambda f, g, event: Preconditioned(f, NOISY, 0.5),
    "autoguidance": lambda f, g, event: Guided(f, Autoguidance(g, 2.5)),
    "autoguidance, at times": lambda f, g, event: Guided(f, Autoguidance(g, 2.5, (0.5, 1.0))),
    "masked": lambda f, g, event: Masked(f, padding(event)),
    "masked twice": lambda f, g, event: Masked(Masked(f, padding(event)), padding(event).flip(0)),
    "unconditional": lambda f, g, event: Unconditional(f),
    "nested": lambda f, g, event: Masked(Parameterised(Scaled(f, NOISY), "data", NOISY), padding(event)),
}


@pytest.mark.parametrize("wrapper", list(WRAPPERS))
@pytest.mark.parametrize("event", [(3,), (2, 3, 2)], ids=str)
def test_wrappers_hand_the_offer_on(wrapper, event):
    (t, x), net, other = rows(event), build("mlp-3", event), build("mlp-1", event, seed=5)
    field = WRAPPERS[wrapper](net, other, event)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.6
    for time in (t, t[0]):
        for chosen in (None, mask):
            value, div = known(offered(field, time, x, None, chosen))
            torch.testing.assert_close(value, field(time, x), rtol=1e-12, atol=1e-12)
            each = diagonal(lambda t, x, c: field(t, x), time, x)
            expected = each if chosen is None else each.where(chosen.flatten(1), 0.0)
            torch.testing.assert_close(div, expected.sum(1), rtol=1e-10, atol=1e-10)
    value, div = field_divergence(field, t, x)
    torch.testing.assert_close(div, divergence(lambda y: field(t, y), x)[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("wrapper", list(WRAPPERS))
def test_wrappers_of_other_fields_offer_nothing(wrapper):
    t, x = rows((3,))
    net, changed = build("mlp-3"), Doubled(3, width=9).double()
    assert offered(WRAPPERS[wrapper](changed, changed, (3,)), t, x) is None
    hooked = WRAPPERS[wrapper](net, net, (3,))
    hook(hooked)
    assert offered(hooked, t, x) is None
    _, div = field_divergence(hooked, t, x)
    torch.testing.assert_close(div, diagonal(lambda t, x, c: hooked(t, x), t, x).sum(1))


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.3, 0.6)])
def test_classifier_free_guidance_hands_the_offer_on(interval: tuple[float, float]):
    net, (t, x) = build("mlp-3", (3,), CONDITION), rows((3,))
    guided = Guided(net, ClassifierFree(2.5, interval))
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.6
    for time in (t, t[0], t.new_tensor(0.9)):
        for condition in (None, conditions()):
            each = diagonal(guided, time, x, condition)
            for chosen in (torch.ones_like(mask), mask):
                value, div = known(offered(guided, time, x, condition, chosen))
                torch.testing.assert_close(value, guided(time, x, condition), rtol=1e-12, atol=1e-12)
                torch.testing.assert_close(div, each.where(chosen, 0.0).sum(1), rtol=1e-10, atol=1e-10)
    padded = Guided(Masked(net, mask), ClassifierFree(2.5, interval))
    expected = diagonal(padded, t, x, conditions()).sum(1)
    torch.testing.assert_close(known(offered(padded, t, x, conditions()))[1], expected)


def test_where_there_is_no_noise_the_offer_too_leaves_out_an_infinite_score():
    """At the clean end the score is infinite, and g = 0."""
    net, (_, x), end = build("mlp-3"), rows((3,)), torch.tensor(1.0, dtype=DOUBLE)
    _, div = known(offered(PathDrift(net, Interpolant(), lambda t: 1 - t), end, x))
    torch.testing.assert_close(div, diagonal(net, end, x).sum(1), rtol=1e-10, atol=1e-10)


class Half(Autoguidance):
    """Another guidance, and no divergence of its own."""

    def forward(self, field, t, x, condition):
        return super().forward(field, t, x, condition) / 2


def test_guidance_that_is_not_linear_or_is_changed_takes_the_general_way():
    net, (t, x) = build("mlp-3", (3,), CONDITION), rows((3,))
    own: list[Guidance] = [ClassifierFree(2.5, rescale=0.5), CFGZeroStar(2.0), Half(net, 2.0)]
    own.append(Autoguidance(net, 2.0))
    hook(own[-1])
    for guidance in own:
        guided = Guided(net, guidance)
        assert offered(guided, t, x, conditions()) is None
        expected = diagonal(guided, t, x, conditions()).sum(1)
        torch.testing.assert_close(field_divergence(guided, t, x, conditions())[1], expected)


def test_a_field_of_ones_own_offers_through_a_flow():
    _, x = rows((3,))
    flow = ContinuousFlow(Rotation(), Midpoint(4), Normal(3).double())
    plain = ContinuousFlow(lambda t, x: Rotation()(t, x), Midpoint(4), Normal(3).double())
    assert offered(flow.field, torch.zeros(()), x) is not None
    torch.testing.assert_close(flow.log_prob(x), plain.log_prob(x), rtol=1e-12, atol=1e-12)
    mask = padding((3,))
    torch.testing.assert_close(
        flow.masked(mask).log_prob(x), plain.masked(mask).log_prob(x), rtol=1e-12, atol=0
    )


def test_a_factor_of_each_element_has_no_offer():
    assert linear(torch.ones(1, 3), torch.ones(2, 3)) is None


def test_a_field_that_knows_its_mask_offers_nothing():
    class Knows(Rotation):
        uses_mask = True

        def forward(self, t, x, condition=None, mask=None):
            return super().forward(t, x)

    assert offered(Masked(Knows(), padding((3,))), *rows((3,))) is None


@pytest.mark.parametrize("name", first(["mlp-3", "resmlp-features"]))
def test_a_whole_solve_of_the_log_density_compiles(name):
    net, (_, x) = build(name, (3,)), rows((3,))
    flow = ContinuousFlow(net, Midpoint(2), Normal(3).double())

    def solve(x: Tensor) -> tuple[Tensor, Tensor]:
        return flow.solver.solve(flow.augmented(), (x, x.new_zeros(B)), 1.0, 0.0).x

    torch._dynamo.reset()
    with torch.no_grad():
        found = torch.compile(solve, fullgraph=True, backend="aot_eager")(x)
        torch.testing.assert_close(found, solve(x), rtol=1e-12, atol=1e-12)
