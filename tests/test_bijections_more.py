"""What single bijections claim beyond the contract: formulas of papers, bounds, conditions, inverses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

from bijection_cases import DOUBLE, allowed, draws, gen, jacobians, noisy
from pushforward.bijections import (
    Autoregressive,
    Conditional,
    Elementwise,
    InverseFailed,
    LULinear,
    Orthogonal,
    Permutation,
    Planar,
    Radial,
    Residual,
    Reverse,
    Sylvester,
    to_torch,
)
from pushforward.bijections.monotone import Monotone, RationalQuadratic, ScaleShift
from pushforward.flows import BijectiveFlow, iaf, maf, nice, nsf, nsf_ar, realnvp
from pushforward.nn import LipschitzPerceptron, MaskedPerceptron, Perceptron
from pushforward.sources import Normal as NormalSource

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
    p, lower, upper = cast(tuple[np.ndarray[Any, Any], ...], scipy.linalg.lu(matrix))
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


# -- mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Permutation([0, 0, 1]), "order: expected a permutation"),
        (lambda: Permutation([1, 0]).forward(torch.zeros(1, 3)), "x: expected 2 entries"),
        (lambda: Orthogonal(0), "dim: expected an integer of at least 1"),
        (lambda: Orthogonal(2, 0), "reflections: expected an integer of at least 1"),
        (lambda: LULinear(3, order=[1, 0]), "order: expected 3 entries"),
        (lambda: LULinear(3).forward(torch.zeros(1, 2)), r"x: expected shape \(B, 3\)"),
        (lambda: Planar(2).inverse(torch.zeros(1, 3)), r"x: expected shape \(B, 2\)"),
        (lambda: Radial(2).forward(torch.zeros(2)), r"x: expected shape \(B, 2\)"),
        (lambda: Sylvester(2, 3), "rank: expected an integer from 1 to 2"),
        (lambda: Residual(nn.Linear(2, 2)), "lipschitz"),
        (lambda: Residual(LipschitzPerceptron(2), terms=0), "terms"),
        (lambda: LipschitzPerceptron(2, lipschitz=1.0), "between 0 and 1"),
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


@pytest.mark.parametrize("build", [realnvp, nsf])
@pytest.mark.parametrize("dim", [2, 3, 4, 9])
def test_couplings_take_turns(build, dim):
    """A layer after another that moves the same elements would add little: in two dimensions, nothing new."""
    ids, moved = torch.arange(dim), set()
    for link in build(dim, layers=12, width=8).bijection.bijection.links:
        if isinstance(link, Permutation):
            ids = ids[link.order]
        else:
            now = set(ids[link.active].tolist())
            assert 2 * len(now & moved) <= len(moved) + dim % 2
            moved = now


# -- whole flows -------------------------------------------------------------------------------------


def trained(build: Callable[..., BijectiveFlow]) -> BijectiveFlow:
    """A flow after a few steps of maximum likelihood on two half circles."""
    torch.manual_seed(0)
    flow = build(2, width=16, layers=4)
    angle = math.pi * torch.rand(256)
    side = (torch.arange(256) % 2) * 2.0 - 1
    x = torch.stack([side * (angle.cos() - 0.5), side * (angle.sin() - 0.25)], 1)
    x = 1.5 * x + 0.15 * torch.randn(256, 2)
    optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
    before = flow(x).mean().item()
    for _ in range(60):
        optimiser.zero_grad()
        (-flow(x).mean()).backward()
        optimiser.step()
    assert flow(x).mean().item() > before + 0.2
    return flow


@pytest.mark.parametrize("build", [nice, realnvp, nsf, maf, iaf, nsf_ar], ids=lambda f: f.__name__)
def test_trained_flows_round_trip_within_six_deviations(build: Callable[..., BijectiveFlow]) -> None:
    flow = trained(build)
    line = torch.linspace(-6, 6, 13)
    for dtype in (DOUBLE, torch.float32):
        flow = flow.to(dtype)
        inner = torch.cartesian_prod(line, line).to(dtype)
        with torch.no_grad():
            outer, there = flow.push_and_log_det(inner)
            again, back = flow.pull_and_log_det(outer)
            once_more = flow.push(again)
        # what one layer may err by, for numbers up to 6, in each of 4
        exact = copy.deepcopy(flow.bijection).double()
        jacobian = jacobians(exact, False, inner.double(), None)
        slack = 4 * allowed(inner, outer, torch.linalg.inv(jacobian), 6.0)
        assert ((again - inner).abs() <= slack).all()
        assert ((once_more - outer).abs() <= 4 * allowed(outer, inner, jacobian, 6.0)).all()
        # within a narrow bin the logarithm of the slope changes by up to some hundred per unit
        off = (again - inner).abs().amax(1)
        assert ((there + back).abs() <= 100 * 4 * 6 * torch.finfo(dtype).eps + 100 * off).all()
