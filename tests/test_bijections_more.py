"""What single bijections claim beyond the contract: formulas of papers, bounds, estimates, interoperation."""

from __future__ import annotations

import copy
import math
import pickle
from functools import partial

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions import transforms as T

from pushforward.bijections import (
    Affine,
    Autoregressive,
    Chain,
    Conditional,
    Coupling,
    Elementwise,
    Inverse,
    InverseFailed,
    LULinear,
    Orthogonal,
    Permutation,
    Planar,
    Radial,
    Residual,
    Reverse,
    Sigmoid,
    Squeeze,
    Sylvester,
    from_torch,
    to_torch,
)
from pushforward.bijections.monotone import Monotone, MonotoneNetwork, RationalQuadratic, ScaleShift
from pushforward.flows import BijectiveFlow
from pushforward.nn import LipschitzPerceptron, MaskedPerceptron, Perceptron
from pushforward.sources import Normal as NormalSource

DOUBLE = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=gen(seed))


def noisy(module: nn.Module, scale: float = 1.0) -> nn.Module:
    module = module.double()
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter += scale * draws(*parameter.shape, seed=i)
    return module


# -- layers of vectors -------------------------------------------------------------------------------


def test_layers_start_as_the_identity() -> None:
    torch.manual_seed(0)
    x = draws(5, 4)
    layers = [Orthogonal(4), Orthogonal(3 + 1, 6), LULinear(4), Planar(4), Radial(4), Sylvester(4, 3)]
    for layer in [*layers, Residual(LipschitzPerceptron(4, width=8))]:
        y, log_det = layer.double().forward_and_log_det(x)
        assert torch.allclose(y, x, atol=1e-12) and log_det.abs().max() < 1e-12, layer


def test_orthogonal_is_the_product_of_its_reflections() -> None:
    for count, sign in ((1, -1), (4, 1), (7, -1)):
        layer = noisy(Orthogonal(5, count))
        q = layer.forward(torch.eye(5, dtype=DOUBLE)).T.detach()
        product = torch.eye(5, dtype=DOUBLE)
        for v in layer.normals.detach():
            product = product @ (torch.eye(5, dtype=DOUBLE) - 2 * torch.outer(v, v) / (v @ v))
        assert torch.allclose(q, product, atol=1e-12)
        assert torch.linalg.det(q).item() == pytest.approx(sign)


def test_orthogonal_can_be_any_rotation() -> None:
    goal = torch.as_tensor(scipy.linalg.expm(np.array([[0, 2.0, -1], [-2, 0, 0.5], [1, -0.5, 0]])))
    torch.manual_seed(0)
    layer = Orthogonal(3).double()
    x = draws(64, 3)
    optimiser = torch.optim.LBFGS(layer.parameters(), line_search_fn="strong_wolfe", max_iter=100)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = (layer.forward(x) - x @ goal.T).square().mean()
        value.backward()
        return value

    optimiser.step(loss)
    assert loss().item() < 1e-8


def test_lu_factors_are_those_that_scipy_finds() -> None:
    matrix = draws(4, 4).numpy()
    p, lower, upper = scipy.linalg.lu(matrix)
    signs = np.sign(np.diag(upper))  # the diagonal is positive here, so the rows change sign instead
    order = p.T.argmax(0)
    layer = LULinear(4, order=order.tolist()).double()
    with torch.no_grad():
        layer.lower.copy_(torch.as_tensor(lower * signs))
        layer.upper.copy_(torch.as_tensor(signs[:, None] * upper))
        a = torch.as_tensor(np.log(np.abs(np.diag(upper))))
        layer.diagonal.copy_(a / (1 - a.abs() / 5))
        layer.lower.copy_(torch.as_tensor(lower * signs[None, :] * signs[:, None]))
        layer.upper.copy_(torch.as_tensor(upper * signs[:, None]))
    x = draws(6, 4)
    y, log_det = layer.forward_and_log_det(x)
    # L' U' = D L D D U = D (L U), so that rows of what comes out may have their sign changed
    truth = x @ torch.as_tensor(np.diag(signs) @ lower @ upper).T
    assert torch.allclose(y, truth[:, order], atol=1e-12)
    assert log_det[0].item() == pytest.approx(np.linalg.slogdet(matrix)[1])


def test_reverse_and_permutation_act_along_the_first_dimension_of_images() -> None:
    x = draws(2, 3, 4, 4)
    assert torch.equal(Reverse().forward(x), x[:, [2, 1, 0]])
    assert torch.equal(Permutation([1, 2, 0]).forward(x), x[:, [1, 2, 0]])
    assert torch.equal(Permutation([1, 2, 0]).inverse(x), x[:, [2, 0, 1]])


def test_planar_and_radial_stay_invertible_where_the_free_form_would_not() -> None:
    # w . u = -4 makes y = x + u tanh(w . x) fold over
    layer = Planar(2).double()
    with torch.no_grad():
        layer.w.copy_(torch.tensor([1.0, 1.0]))
        layer.u.copy_(torch.tensor([-2.0, -2.0]))
    line = torch.linspace(-3, 3, 200, dtype=DOUBLE)[:, None].expand(-1, 2)
    assert (layer.forward(line).sum(1).diff() > 0).all()
    assert ((line + layer.u * (line @ layer.w).tanh()[:, None]).sum(1).diff() < 0).any()
    ball = noisy(Radial(2), 5.0)
    ray = ball.centre + line
    assert ((ball.forward(ray) - ball.centre).sum(1).diff() > 0).all()


def test_a_planar_layer_with_no_direction_is_a_shift_with_gradients() -> None:
    layer = Planar(3).double()
    with torch.no_grad():
        layer.w.zero_()
        layer.u.fill_(2.0)
        layer.b.fill_(0.5)
    y, log_det = layer.forward_and_log_det(draws(4, 3))
    assert torch.allclose(y - draws(4, 3), torch.tensor(2 * math.tanh(0.5), dtype=DOUBLE))
    grads = torch.autograd.grad(y.sum() + log_det.sum(), list(layer.parameters()))
    assert all(g.isfinite().all() for g in grads)


def test_sylvester_of_rank_one_moves_points_along_one_axis() -> None:
    layer = noisy(Sylvester(4, 1))
    x = draws(30, 4)
    moved = layer.forward(x) - x
    assert torch.linalg.matrix_rank(moved, rtol=1e-10) == 1
    assert torch.linalg.matrix_rank(noisy(Sylvester(4, 3)).forward(x) - x, rtol=1e-10) == 3


# -- residual layers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_the_lipschitz_bound_holds_and_is_nearly_reached(scale: float) -> None:
    net = noisy(LipschitzPerceptron(3, condition=2, width=16, lipschitz=0.8), scale)
    labels = torch.arange(500) % 2
    x = scale * draws(500, 3)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda r, c: net(r[None], c[None])[0]))(x, labels)
    largest = torch.linalg.matrix_norm(jacobian, 2).max().item()
    assert largest <= 0.8 * (1 + 1e-12)
    y = net(x, labels)
    same = labels[:, None] == labels
    ratio = torch.cdist(y, y) / torch.cdist(x, x).masked_fill(~same, math.inf).fill_diagonal_(math.inf)
    assert ratio.max() <= 0.8
    linear = LipschitzPerceptron(3, width=3, depth=1, lipschitz=0.8).double()
    with torch.no_grad():
        for layer in linear.layers:
            layer.weight.copy_(7 * torch.eye(3))
            layer.bias.fill_(2.3994 * 0)
        linear.sharpness[0].fill_(math.log(math.expm1(3**-0.5)))  # silu as it is
        linear.layers[0].bias.fill_(2.3994)  # where the slope of silu is largest
    slope = torch.func.jacrev(lambda r: linear(r[None])[0])(torch.zeros(3, dtype=DOUBLE))
    assert torch.allclose(slope, 0.8 * torch.eye(3, dtype=DOUBLE), rtol=1e-4)


class Shrink(nn.Module):
    """g(x) = A x with eigenvalues -0.7, -0.5 and 0.3, on axes that are not those of x."""

    lipschitz = 0.7

    def given(self, condition=None):
        axes = torch.linalg.qr(draws(3, 3)).Q
        matrix = axes @ torch.diag(torch.tensor([-0.7, -0.5, 0.3], dtype=DOUBLE)) @ axes.T
        return lambda x: x @ matrix


def test_the_russian_roulette_estimate_is_unbiased() -> None:
    x = draws(1, 3).expand(500, 3)
    truth = math.log(0.3 * 0.5 * 1.3)
    exact, estimate = Residual(Shrink()), Residual(Shrink(), terms=2)
    y, log_det = exact.forward_and_log_det(x[:1])
    assert log_det.item() == pytest.approx(truth)
    found = [estimate.forward_and_log_det(x, generator=gen(i))[1] for i in range(400)]
    # the number of terms is drawn once a call, so calls are what is independent
    means = torch.stack([f.mean() for f in found])
    error = means.std() / math.sqrt(len(means))
    # four standard errors, seeded; less than the third term and the next, which weights correct
    assert abs(means.mean() - truth) < 4 * error < (0.7**3 + 0.5**3 - 0.3**3) / 3
    assert found[0].std() > 0.01  # every row has signs of its own
    assert torch.equal(estimate.forward_and_log_det(x, generator=gen(3))[1], found[3])
    back, back_log_det = estimate.inverse_and_log_det(y, generator=gen())
    assert torch.allclose(back, x[:1], atol=1e-12)
    assert torch.allclose(back_log_det, -estimate.forward_and_log_det(x[:1], generator=gen())[1])


def test_the_estimate_of_the_gradient_is_unbiased() -> None:
    net = noisy(LipschitzPerceptron(2, width=8, lipschitz=0.6), 1.0)
    x = draws(1, 2).expand(1000, 2)
    weight = net.layers[1].bias
    truth = torch.autograd.grad(Residual(net).forward_and_log_det(x[:1])[1].sum(), weight)[0]
    estimate = Residual(net, terms=2)
    found = torch.stack(
        [
            torch.autograd.grad(estimate.forward_and_log_det(x, generator=gen(i))[1].mean(), weight)[0]
            for i in range(40)
        ]
    )
    error = found.std(0) / math.sqrt(40)
    assert ((found.mean(0) - truth).abs() <= 4 * error + 1e-12).all()  # four standard errors


def test_residual_layers_take_images_and_any_contraction() -> None:
    class Blend(nn.Module):
        lipschitz = 0.5

        def given(self, condition=None):
            return lambda x: 0.5 * torch.sin(x.flip(-1))

    layer = Residual(Blend())
    x = draws(3, 1, 2, 2)
    y, log_det = layer.forward_and_log_det(x)
    assert torch.allclose(layer.inverse(y), x, atol=1e-12)
    # each pair (a, b) -> (a + sin(b)/2, b + sin(a)/2)
    truth = (1 - 0.25 * x.cos()[..., 0] * x.cos()[..., 1]).log().sum((1, 2))
    assert torch.allclose(log_det, truth)


# -- conditions --------------------------------------------------------------------------------------


def test_conditional_is_the_bijection_with_its_parameters_moved() -> None:
    torch.manual_seed(0)
    layer = Conditional(Planar(3), lambda i, o: Perceptron(i, o, condition=2)).double()
    x = draws(4, 3)
    assert torch.allclose(layer.forward(x, torch.zeros(4).long()), layer.rows.bijection.forward(x))
    noisy(layer.network, 0.3)
    offsets = layer.network(x.new_zeros(2, 0), torch.arange(2))
    twin = copy.deepcopy(layer.rows.bijection)
    with torch.no_grad():
        twin.w += offsets[1, :3]
        twin.u += offsets[1, 3:6]
        twin.b += offsets[1, 6]
    y, log_det = layer.forward_and_log_det(x, torch.ones(4).long())
    truth, its_log_det = twin.forward_and_log_det(x)
    assert torch.allclose(y, truth) and torch.allclose(log_det, its_log_det)
    assert not torch.allclose(layer.forward(x, torch.zeros(4).long()), truth)


def test_a_conditional_flow_learns_each_condition() -> None:
    torch.manual_seed(0)
    layer = Conditional(Elementwise(1, ScaleShift()), lambda i, o: Perceptron(i, o, condition=2))
    flow = BijectiveFlow(layer, NormalSource(1))
    c = torch.arange(500) % 2
    x = (torch.where(c == 0, -2.0, 1.0) + torch.where(c == 0, 0.5, 2.0) * torch.randn(500))[:, None]
    optimiser = torch.optim.Adam(flow.parameters(), 0.03)
    for _ in range(80):
        optimiser.zero_grad()
        (-flow(x, c).mean()).backward()
        optimiser.step()
    sample = flow.sample(4000, torch.arange(2), gen())
    # 250 points each: standard errors 0.03 and 0.13 of the means, 4.5 % of the deviations; three of them
    assert sample.mean(0)[:, 0].tolist() == pytest.approx([-2, 1], abs=0.4)
    assert sample.std(0)[:, 0].tolist() == pytest.approx([0.5, 2.0], rel=0.15)


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
    reshape = from_torch(T.ReshapeTransform((4,), (2, 2)))
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
        Coupling([True, False, True], RationalQuadratic(), lambda i, o: Perceptron(i, o, condition)),
        Inverse(Autoregressive(3, ScaleShift(), lambda d, s: MaskedPerceptron(d, s, condition))),
    ]
    chain = Chain(*layers)
    noisy(chain, 0.3)
    return chain


def test_our_layers_are_their_transforms() -> None:
    bijection = layer_of_ours()
    transform = to_torch(bijection)
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
    squeeze = to_torch(Squeeze(2), event_dim=3)
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
    law = TransformedDistribution(base, [to_torch(bijection)])
    x = draws(6, 3)
    assert law.event_shape == (3,) and law.batch_shape == ()
    assert torch.allclose(law.log_prob(x), flow.log_prob(x), atol=1e-9)
    assert law.sample((5, 2)).shape == (5, 2, 3)
    # the density asks for one inverse, none forward
    calls = []
    handle = to_torch(bijection)
    carry = handle._carry
    handle._carry = lambda x, inverse: (calls.append(inverse), carry(x, inverse))[1]
    TransformedDistribution(base, [handle]).log_prob(x)
    assert calls == [True]


def test_conditions_go_with_the_last_batch_dimension() -> None:
    bijection = layer_of_ours(condition=3)
    c = torch.arange(3)
    flow = BijectiveFlow(bijection, NormalSource(3).double())
    base = Independent(Normal(torch.zeros(3, 3).double(), torch.ones(3, 3).double()), 1)
    law = TransformedDistribution(base, [to_torch(bijection, c)])
    x = draws(4, 3, 3)
    assert torch.allclose(law.log_prob(x), flow.log_prob(x, c), atol=1e-9)
    single = to_torch(bijection, c[1:2])
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


# -- the inverse of autoregressive layers ------------------------------------------------------------


@pytest.mark.parametrize("family", [ScaleShift(), RationalQuadratic(5)])
def test_many_rows_are_inverted_element_by_element_as_few_by_passes(family: Monotone) -> None:
    order = torch.randperm(12, generator=gen())
    network = partial(MaskedPerceptron, condition=3, width=16, order=order)
    layer = noisy(Autoregressive(12, family, network), 0.5)
    y, c = draws(200, 12), torch.arange(200) % 3
    with torch.no_grad():
        many, passes = layer.inverse_and_log_det(y, c), layer.passes
        few = [layer.inverse_and_log_det(y[i : i + 50], c[i : i + 50]) for i in range(0, 200, 50)]
    assert passes == 2 < layer.passes
    for value, parts in zip(many, zip(*few)):
        assert torch.allclose(value, torch.cat(parts), atol=1e-9)
    assert torch.allclose(layer.forward(many[0], c), y, atol=1e-9)


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
    theirs = zuko().transforms.MonotonicRQSTransform(*p.T.split([8, 8, 7], -1), bound=5.0)
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


# -- mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Permutation([0, 0, 1]), "order: expected a permutation"),
        (lambda: Permutation([1, 0]).forward(torch.zeros(1, 3)), "x: expected 2 entries"),
        (lambda: Orthogonal(0), "dim: expected at least 1"),
        (lambda: Orthogonal(2, 0), "reflections: expected at least 1"),
        (lambda: LULinear(3, order=[1, 0]), "order: expected 3 entries"),
        (lambda: LULinear(3).forward(torch.zeros(1, 2)), r"x: expected shape \(B, 3\)"),
        (lambda: Planar(2).inverse(torch.zeros(1, 3)), r"x: expected shape \(B, 2\)"),
        (lambda: Radial(2).forward(torch.zeros(2)), r"x: expected shape \(B, 2\)"),
        (lambda: Sylvester(2, 3), "rank: expected 1 to 2"),
        (lambda: Residual(nn.Linear(2, 2)), "lipschitz"),
        (lambda: Residual(LipschitzPerceptron(2), terms=0), "terms"),
        (lambda: LipschitzPerceptron(2, lipschitz=1.0), r"\(0, 1\)"),
        (lambda: Conditional(Reverse(), Perceptron), "no parameters"),
        (lambda: to_torch(Reverse(), event_dim=0), "event_dim"),
        (lambda: to_torch(Reverse())(torch.tensor(1.0)), "at least 1 dimensions"),
    ],
)
def test_mistakes_are_refused(build, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build()


@pytest.mark.parametrize("layer", [Planar(2), Sylvester(2, 2), Residual(LipschitzPerceptron(2))])
def test_an_inverse_that_cannot_be_found_raises(layer) -> None:
    with pytest.raises(InverseFailed):
        layer.inverse(torch.tensor([[math.nan, 0.0]]))
    with pytest.raises(InverseFailed):
        torch.func.vmap(lambda y: layer.inverse(y[None]))(torch.tensor([[math.inf, 0.0]]))
