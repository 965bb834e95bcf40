"""Transforms of torch and zuko as layers, layers as their transforms, and where theirs fail."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, TransformedDistribution
from torch.distributions import transforms as T

from bijection_cases import DOUBLE, draws, gen, noisy
from pushforward.bijections import (
    Affine,
    Autoregressive,
    Chain,
    CouplingLayer,
    Dequantise,
    Elementwise,
    Inverse,
    Planar,
    Sigmoid,
    Squeeze,
    from_torch,
    to_torch,
)
from pushforward.bijections.monotone import MonotoneNetwork, RationalQuadratic, ScaleShift
from pushforward.flows import BijectiveFlow, FlowDistribution
from pushforward.nn import MaskedPerceptron, Perceptron
from pushforward.sources import Normal as NormalSource

# -- transforms of torch and zuko --------------------------------------------------------------------


def zuko():
    import zuko

    return zuko


TRANSFORMS = {
    "exp": lambda: T.ExpTransform(),
    "affine": lambda: T.AffineTransform(torch.tensor([1.0, 2.0, 3.0]).double(), 2.0),
    "composed": lambda: T.ComposeTransform([T.TanhTransform(), T.AffineTransform(1.0, 3.0)]),
    "lower cholesky's vector": lambda: T.IndependentTransform(T.SigmoidTransform(), 1),
    "inverse": lambda: T.SoftplusTransform().inv,
    "zuko's spline": lambda: zuko().transforms.MonotonicRQSTransform(
        draws(3, 4), draws(3, 4, seed=1), draws(3, 3, seed=2)
    ),
    "zuko's rotation": lambda: zuko().transforms.RotationTransform(draws(3, 3)),
    "zuko's lu": lambda: zuko().transforms.LULinearTransform(torch.eye(3).double() + 0.3 * draws(3, 3)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_their_transforms_are_layers(name: str) -> None:
    bijection = from_torch(TRANSFORMS[name]())
    low = max(-1.5, bijection.domain.low + 0.1)
    x = low + 2 * torch.rand(6, 3, dtype=DOUBLE, generator=gen())
    y, log_det = bijection.forward_and_log_det(x)
    jacobian = torch.stack([torch.func.jacrev(lambda r: bijection.forward(r[None])[0])(row) for row in x])
    assert torch.allclose(log_det, torch.linalg.slogdet(jacobian).logabsdet, atol=1e-10)
    again, back = bijection.inverse_and_log_det(y)
    assert torch.allclose(again, x, atol=1e-8) and torch.allclose(back, -log_det, atol=1e-8)
    assert (y >= bijection.codomain.low).all() and (y <= bijection.codomain.high).all()


def test_shapes_and_domains_of_their_transforms() -> None:
    simplex = from_torch(T.StickBreakingTransform())
    assert simplex.event_shape((3,)) == (4,) and simplex.inverse_event_shape((4,)) == (3,)
    assert (simplex.codomain.low, simplex.codomain.high) == (0, 1)
    reshape = from_torch(T.ReshapeTransform(torch.Size((4,)), torch.Size((2, 2))))
    assert reshape.forward(torch.zeros(3, 4)).shape == (3, 2, 2)
    assert from_torch(T.ExpTransform()).codomain.low == 0
    assert from_torch(T.TanhTransform()).codomain.low == -1
    with pytest.raises(ValueError, match="bijective"):
        from_torch(T.AbsTransform())


def test_a_zuko_flow_is_a_layer_with_parameters_and_conditions() -> None:
    torch.manual_seed(0)
    theirs = zuko().flows.NSF(3, context=2, transforms=2, hidden_features=[16]).double()
    ours = BijectiveFlow(
        Inverse(from_torch(theirs.transform)), NormalSource(3).double(), condition_shape=(2,)
    )
    x, c = draws(5, 3), draws(5, 2)
    assert torch.allclose(ours.log_prob(x, c), theirs(c).log_prob(x), atol=1e-10)
    assert len(list(ours.parameters())) == len(list(theirs.transform.parameters())) > 0
    pushed = ours.push(x, c)
    assert torch.allclose(ours.pull(pushed, c), x, atol=1e-6)


def layer_of_ours(condition: int | None = None) -> Chain:
    torch.manual_seed(0)
    layers = [
        Planar(3),
        CouplingLayer([True, False, True], RationalQuadratic(), lambda i, o: Perceptron(i, o, condition)),
        Inverse(Autoregressive(3, ScaleShift(), lambda d, s: MaskedPerceptron(d, s, condition))),
    ]
    chain = Chain(*layers)
    noisy(chain, 0.3)
    return chain


def test_our_layers_are_their_transforms() -> None:
    bijection = layer_of_ours()
    transform: Any = to_torch(bijection)
    x = draws(4, 5, 3)
    y = transform(x)
    rows, log_det = bijection.forward_and_log_det(x.reshape(-1, 3))
    assert torch.allclose(y.reshape(-1, 3), rows)
    assert torch.allclose(transform.log_abs_det_jacobian(x, y).flatten(), log_det)
    assert torch.allclose(transform.inv(y), x, atol=1e-10)
    assert torch.allclose(
        transform.inv.log_abs_det_jacobian(y, x), -transform.log_abs_det_jacobian(x, y), atol=1e-10
    )
    # what it remembers of some points is not taken for that of others
    other = draws(4, 5, 3, seed=1)
    image = transform(other)
    assert torch.allclose(transform.log_abs_det_jacobian(x, y).flatten(), log_det)
    fresh = bijection.forward_and_log_det(other.reshape(-1, 3))[1].reshape(4, 5)
    assert torch.allclose(transform.log_abs_det_jacobian(other, image), fresh)
    assert transform.domain.event_dim == transform.codomain.event_dim == 1
    assert transform.inv.inv is transform
    copied = pickle.loads(pickle.dumps(to_torch(Affine(1.0, 2.0))))
    assert torch.equal(copied(torch.ones(1)), torch.tensor([3.0]))
    copy.deepcopy(transform)  # although the log-determinant that it remembers has a graph


def test_shapes_and_constraints_of_our_transforms() -> None:
    squeeze: Any = to_torch(Squeeze(2), event_dim=3)
    assert squeeze.forward_shape((7, 1, 4, 4)) == (7, 4, 2, 2)
    assert squeeze.inverse_shape((7, 4, 2, 2)) == (7, 1, 4, 4)
    assert squeeze(torch.zeros(7, 2, 1, 4, 4)).shape == (7, 2, 4, 2, 2)
    sigmoid = to_torch(Sigmoid(0.0, 2.0))
    assert sigmoid.codomain.check(torch.tensor([[1.0, 1.5], [1.0, 3.0]])).tolist() == [True, False]
    assert to_torch(Inverse(Sigmoid(0.0, 2.0))).domain.check(torch.tensor([3.0])).item() is False


def test_a_transformed_distribution_of_ours_is_our_flow() -> None:
    bijection = layer_of_ours()
    flow = BijectiveFlow(bijection, NormalSource(3).double())
    base = Independent(Normal(torch.zeros(3).double(), torch.ones(3).double()), 1)
    distribution: Any = TransformedDistribution(base, [to_torch(bijection)])
    x = draws(6, 3)
    assert distribution.event_shape == (3,) and distribution.batch_shape == ()
    assert torch.allclose(distribution.log_prob(x), flow.log_prob(x), atol=1e-9)
    assert distribution.sample((5, 2)).shape == (5, 2, 3)
    # with a memory the density asks for one inverse, none forward
    calls = []
    handle: Any = to_torch(bijection, cache_size=1)
    carry = handle._carry
    handle._carry = lambda x, inverse: (calls.append(inverse), carry(x, inverse))[1]
    TransformedDistribution(base, [handle]).log_prob(x)
    assert calls == [True]


def edit_points(bijection: Chain, x: Tensor) -> None:
    x.mul_(2.0)


def step_of_an_optimiser(bijection: Chain, x: Tensor) -> None:
    optimiser = torch.optim.SGD(bijection.parameters(), 0.1)
    bijection.forward(draws(2, 3, seed=5)).square().sum().backward()
    optimiser.step()


def load_others(bijection: Chain, x: Tensor) -> None:
    bijection.load_state_dict({k: v + 0.1 for k, v in bijection.state_dict().items()})


def replace_parameters(bijection: Chain, x: Tensor) -> None:
    bijection.links[0].u = torch.nn.Parameter(draws(3, seed=6))


@pytest.mark.parametrize("cache_size", [0, 1])
@pytest.mark.parametrize("edit", [edit_points, step_of_an_optimiser, load_others, replace_parameters])
def test_nothing_stale_is_remembered(edit, cache_size: int) -> None:
    bijection = layer_of_ours()
    transform: Any = to_torch(bijection, cache_size=cache_size)
    x = draws(4, 3)
    y = transform(x)
    transform.log_abs_det_jacobian(x, y)
    edit(bijection, x)
    truth, log_det = bijection.forward_and_log_det(x)
    assert torch.equal(transform.log_abs_det_jacobian(x, y), log_det)
    assert torch.equal(transform(x), truth) and not torch.equal(y, truth)


def test_what_was_remembered_without_a_graph_is_not_taken_where_one_is_wanted() -> None:
    transform: Any = to_torch(layer_of_ours(), cache_size=1)
    x = draws(4, 3)
    with torch.no_grad():
        y = transform(x)
    assert transform.log_abs_det_jacobian(x, y).requires_grad
    with torch.inference_mode():
        other = x.clone()
        transform(other)
        other.mul_(2.0)
        y = transform(other)
        assert torch.equal(y, transform.bijection.forward(other))


def test_memory_equality_and_composition_as_torch_has_them() -> None:
    bijection = layer_of_ours()
    transform = to_torch(bijection)
    kept = transform.with_cache()
    x = draws(4, 3)
    assert kept is kept.with_cache(1) and transform is transform.with_cache(0)
    assert kept(x) is kept(x) and kept.inv(kept(x)) is x and transform(x) is not transform(x)
    assert to_torch(bijection) == transform and to_torch(layer_of_ours()) != transform
    labels = torch.tensor([0, 1])
    given = to_torch(bijection, labels)
    assert given == to_torch(bijection, labels.clone()) and given != transform
    both = T.ComposeTransform([transform, T.SigmoidTransform()])
    y = both(x)
    assert both.domain.event_dim == both.codomain.event_dim == 1 and both.codomain.check(y).all()
    jacobian = torch.stack([torch.func.jacrev(both)(row) for row in x])
    assert torch.allclose(both.log_abs_det_jacobian(x, y), torch.linalg.slogdet(jacobian).logabsdet)
    with pytest.raises(ValueError, match="cache_size"):
        transform.with_cache(2)


def test_one_condition_goes_with_one_event_and_with_many() -> None:
    bijection = layer_of_ours(condition=3)
    x = draws(2, 4, 3)
    truth = bijection.forward(x.reshape(8, 3), torch.full((8,), 2)).reshape(2, 4, 3)
    for c in (torch.tensor([2]), torch.tensor(2)):
        transform: Any = to_torch(bijection, c)
        assert torch.allclose(transform(x), truth)
        assert torch.allclose(transform(x[1, 3]), truth[1, 3])
        assert transform.log_abs_det_jacobian(x[1, 3], truth[1, 3]).shape == ()
        assert torch.allclose(transform.inv(truth[1, 3]), x[1, 3], atol=1e-10)


# images of the other side that the transform does not give, or gives as its unreachable ends
BEYOND = {
    "exp": (T.ExpTransform(), [0.0, -1.0]),
    "sigmoid": (T.SigmoidTransform(), [-0.1, 1.1]),
    "tanh": (T.TanhTransform(), [1.0, -1.0, 1.5]),
    "softplus": (T.SoftplusTransform(), [0.0, -2.0]),
    "power": (T.PowerTransform(torch.tensor(2.0)), [-1.0, 0.0]),
    "stick breaking": (T.StickBreakingTransform(), [0.9]),
    "normal distribution function": (T.CumulativeDistributionTransform(Normal(0.0, 1.0)), [0.0, 1.0, 2.0]),
    "of several": (T.ComposeTransform([T.ExpTransform(), T.AffineTransform(0.0, 2.0)]), [0.0, -3.0]),
    "together": (T.IndependentTransform(T.ExpTransform(), 1), [-1.0]),
}


@pytest.mark.parametrize("name", BEYOND)
def test_values_that_no_transform_gives_are_refused(name: str) -> None:
    transform, values = BEYOND[name]
    bijection = from_torch(transform)
    for value in values:
        y = torch.full((2, 3), value)
        y[0] = bijection.forward(torch.full((1, y.shape[1] - (name == "stick breaking")), 0.5))[0]
        with pytest.raises(ValueError, match=r"^y: "):
            bijection.inverse_and_log_det(y)
        with pytest.raises(ValueError, match=r"^x: "):
            from_torch(transform.inv).forward_and_log_det(y)


def test_a_simplex_takes_its_own_images_in_single_precision() -> None:
    bijection = from_torch(T.StickBreakingTransform())
    x = draws(20, 200).float()
    assert torch.allclose(bijection.inverse(bijection.forward(x)), x, atol=1e-2)


# -- flows as distributions ---------------------------------------------------------------------------


def flow_of(condition: int | None = None) -> BijectiveFlow:
    return BijectiveFlow(layer_of_ours(condition), NormalSource(3).double())


def test_a_flow_within_distributions_of_torch() -> None:
    flow, labels, x = flow_of(3), torch.arange(3), draws(5, 3)
    distribution = flow.given(labels)
    by_label = flow.log_prob(x[:, None], labels)
    mixture = MixtureSameFamily(Categorical(probs=torch.tensor([0.2, 0.3, 0.5]).double()), distribution)
    weighted = by_label + torch.tensor([0.2, 0.3, 0.5]).double().log()
    assert torch.allclose(mixture.log_prob(x), weighted.logsumexp(1))
    assert mixture.sample((4,)).shape == (4, 3)
    joint = Independent(distribution, 1)
    assert torch.allclose(joint.log_prob(x[:, None].expand(5, 3, 3)), by_label.sum(1))
    inside = TransformedDistribution(distribution, [T.SigmoidTransform()])
    y = torch.sigmoid(x[:, None])
    assert torch.allclose(inside.log_prob(y), by_label - (y * (1 - y)).log().sum(-1))
    assert inside.support.check(inside.sample((2,))).all()


def test_shapes_copies_and_refusals_of_a_flow_as_a_distribution() -> None:
    flow, labels, x = flow_of(3), torch.arange(3), draws(3)
    distribution = FlowDistribution(flow, labels, validate_args=True)  # which zuko turns off for all
    for shape in ((), (2,), (2, 4), (0,)):
        assert distribution.sample(shape).shape == (*shape, 3, 3)
        plain: Any = flow_of().given()
        assert plain.rsample_and_log_prob(shape)[1].shape == shape
    wide = distribution.expand((2, 3))
    assert wide.batch_shape == (2, 3) and wide.sample((4,)).shape == (4, 2, 3, 3)
    assert torch.allclose(wide.log_prob(x)[1], distribution.log_prob(x))
    copied = pickle.loads(pickle.dumps(distribution))
    assert torch.equal(copied.log_prob(x), distribution.log_prob(x)) and "batch_shape=(3,)" in repr(copied)
    with pytest.raises(ValueError, match="batch_shape"):
        distribution.expand((2,))
    with pytest.raises(ValueError, match="batch_shape"):
        flow_of().given().expand((2,)).expand((3,))
    with pytest.raises(ValueError, match="event_shape"):
        distribution.log_prob(draws(4))
    with pytest.raises(ValueError, match="batch_shape"):
        distribution.log_prob(draws(2, 3))


def test_the_support_of_a_flow_is_where_it_ends() -> None:
    flow = BijectiveFlow(Chain(Affine(0.0, 2.0), Sigmoid(-1.0, 3.0)), NormalSource(2).double())
    distribution = FlowDistribution(flow, validate_args=True)
    assert distribution.support.check(torch.tensor([[0.0, 2.0], [0.0, 3.5]])).tolist() == [True, False]
    assert distribution.has_rsample and distribution.support.check(distribution.sample((50,))).all()
    with pytest.raises(ValueError, match="support"):
        distribution.log_prob(torch.tensor([0.0, 3.5]))
    whole = BijectiveFlow(Chain(Sigmoid(0.0, 16.0), Dequantise(0.0, 15.0)), NormalSource(2).double())
    assert not FlowDistribution(whole).has_rsample


def test_conditions_go_with_the_last_batch_dimension() -> None:
    bijection = layer_of_ours(condition=3)
    c = torch.arange(3)
    flow = BijectiveFlow(bijection, NormalSource(3).double())
    base = Independent(Normal(torch.zeros(3, 3).double(), torch.ones(3, 3).double()), 1)
    distribution = TransformedDistribution(base, [to_torch(bijection, c)])
    x = draws(4, 3, 3)
    assert torch.allclose(distribution.log_prob(x), flow.log_prob(x, c), atol=1e-9)
    single: Any = to_torch(bijection, c[1:2])
    assert torch.allclose(single(x[:, 0]), bijection.forward(x[:, 0], torch.ones(4).long()))
    with pytest.raises(ValueError, match=r"\(\.\.\., 3, \*event\)"):
        to_torch(bijection, c)(draws(4, 3))


def test_one_of_ours_inside_a_zuko_flow() -> None:
    module = zuko()

    class Ours(module.lazy.LazyTransform):
        def __init__(self):
            super().__init__()
            self.bijection = layer_of_ours(condition=3)

        def forward(self, c=None):
            return to_torch(Inverse(self.bijection), None if c is None else c[:, 0])

    ours = Ours()
    theirs = module.flows.Flow(
        transform=[ours],
        base=module.lazy.UnconditionalDistribution(
            module.distributions.DiagNormal, torch.zeros(3).double(), torch.ones(3).double(), buffer=True
        ),
    )
    x, c = draws(5, 3), torch.arange(5) % 3
    flow = BijectiveFlow(ours.bijection, NormalSource(3).double())
    assert torch.allclose(theirs(c[:, None]).log_prob(x), flow.log_prob(x, c), atol=1e-9)
    sample, log_p = theirs(c[:, None]).rsample_and_log_prob((7,))
    assert sample.shape == (7, 5, 3)
    assert torch.allclose(log_p, flow.log_prob(sample, c), atol=1e-8)


# -- where a peer fails ------------------------------------------------------------------------------


def test_splines_with_logits_of_20_in_float32_where_zukos_lose_the_point() -> None:
    g = gen()
    family = RationalQuadratic(8)
    p = 20 * torch.randn(family.size, 20000, generator=g)
    y = 10 * torch.rand(20000, generator=g) - 5
    x, _ = family.inverse_and_log_slope(y, p)
    assert x.isfinite().all() and (x.abs() <= 5).all()
    again = family.forward_and_log_slope(x, p)[0]
    slope = family.forward_and_log_slope(x.double(), p.double())[1].exp()
    assert ((again - y).abs() <= 100 * torch.finfo(torch.float32).eps * (5 + slope * 5)).all()
    theirs: Any = zuko().transforms.MonotonicRQSTransform(*p.T.split([8, 8, 7], -1), bound=5.0)
    assert (theirs(theirs.inv(y)) - y).abs().max() > 0.1
    assert (again - y).abs().max() < 1e-3


def test_inverse_far_out_where_zukos_gaussianization_stops_at_ten() -> None:
    theirs = from_torch(zuko().transforms.GaussianizationTransform(torch.zeros(1, 4), torch.zeros(1, 4)))
    far = torch.tensor([[40.0]])
    assert not torch.allclose(theirs.forward(theirs.inverse(far)), far, atol=1.0)
    ours = noisy(Elementwise(1, MonotoneNetwork()), 1.0)
    assert torch.allclose(ours.forward(ours.inverse(far.double())), far.double())


def test_density_in_inference_mode_where_zukos_neural_flow_raises() -> None:
    theirs = zuko().flows.NAF(2, transforms=1, hidden_features=[8])
    ours = BijectiveFlow(Autoregressive(2, MonotoneNetwork(), MaskedPerceptron), NormalSource(2))
    with torch.inference_mode():
        assert ours.log_prob(torch.zeros(3, 2)).isfinite().all() and ours.sample(2).isfinite().all()
        with pytest.raises(RuntimeError):
            theirs().log_prob(torch.zeros(3, 2))


def test_single_rows_with_labels_of_their_own_under_vmap() -> None:
    flow, x, labels = flow_of(3), draws(3, 3), torch.arange(3)
    with torch.no_grad():
        assert torch.allclose(torch.func.vmap(flow.log_prob)(x, labels), flow.log_prob(x, labels))
        assert torch.allclose(flow.log_prob(x[1], labels[1]), flow.log_prob(x, labels)[1])
