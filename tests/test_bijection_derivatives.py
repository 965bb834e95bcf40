"""Derivatives of every bijection, the part of the contract that autograd and ``torch.func`` see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from bijection_cases import DOUBLE, Case, at_noise, inputs, labels, perturbed, way
from pushforward.bijections import Bijection


@at_noise(1.0, 5.0)
def test_gradients_are_finite_everywhere_both_ways(case: Case, scale: float) -> None:
    bijection = perturbed(case, scale, fixed=True)
    for inverse in (False, True):
        shape = bijection.event_shape(case.shape()) if inverse else case.shape()
        x = inputs(bijection, shape, reach=case.reach, inverse=inverse).requires_grad_()
        y, log_det = way(bijection, inverse)(x, labels(case, len(x)))
        wanted = [x, *bijection.parameters()]
        grads = torch.autograd.grad(y.sum() + log_det.sum(), wanted, allow_unused=True)
        assert all(g is None or g.isfinite().all() for g in grads) and grads[0] is not None


@at_noise(1.0)
def test_derivatives_of_the_inverse_are_those_of_an_inverse(case: Case, scale: float) -> None:
    # f^-1(f(x)) = x at any parameters, and the log-determinants cancel
    bijection = perturbed(case, scale)
    # without the first rows, where log-determinants of splines have kinks
    x = inputs(bijection, case.shape(), rows=15, reach=4.0)[6:].requires_grad_()
    c = labels(case, len(x))
    y, there = bijection.forward_and_log_det(x, c)
    again, back = bijection.inverse_and_log_det(y, c)
    # rounding grows along the rows of an autoregressive inverse; where it moves x by e, it moves derivatives
    # by their slope times e, and slopes of derivatives are below 300 here
    tolerance = 1e-6 + 300 * float((again - x).detach().abs().max())
    assert tolerance < 1e-2
    weights = torch.randn(again.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    wanted = [x, *bijection.parameters()]
    for value, truth in (((weights * again).sum(), weights), ((there + back).sum(), 0.0)):
        if not value.requires_grad:
            continue
        grads = torch.autograd.grad(value, wanted, allow_unused=True, retain_graph=True)
        first = torch.zeros_like(x) if grads[0] is None else grads[0]
        assert torch.allclose(first, torch.as_tensor(truth, dtype=DOUBLE), atol=tolerance)
        assert all(g is None or g.abs().max() < tolerance for g in grads[1:])


class Carried(nn.Module):
    """Image and log-determinant of rows as a function that ``functional_call`` takes."""

    def __init__(self, bijection: Bijection, inverse: bool, c: Tensor | None):
        super().__init__()
        self.bijection, self.inverse, self.c = bijection, inverse, c

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return way(self.bijection, self.inverse)(x, self.c)


@at_noise(1.0)
@pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])
def test_first_and_second_derivatives_by_finite_differences(case: Case, scale: float, inverse: bool) -> None:
    # by inputs and by all parameters, of images and log-determinants
    # a wild network's derivatives change too fast for differences; one of deviation 0.3 is wild enough
    bijection = perturbed(case, min(scale, 0.3))
    shape = bijection.event_shape(case.shape()) if inverse else case.shape()
    # rows 5 and 8 are none of the special points, at which some derivatives jump
    x = inputs(bijection, shape, rows=9, reach=2.0, inverse=inverse)[[5, 8]].requires_grad_()
    carried = Carried(bijection, inverse, labels(case, 2))
    names = [name for name, _ in carried.named_parameters()]

    def function(x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        return functional_call(carried, dict(zip(names, parameters)), (x,))

    wanted = (x, *(p.detach().clone().requires_grad_() for p in carried.parameters()))
    with sdpa_kernel(SDPBackend.MATH):  # torch's others have no second derivatives
        kinds = {"fast_mode": True, "atol": 1e-5, "rtol": 1e-4}
        assert torch.autograd.gradcheck(function, wanted, **kinds)
        if any(y.requires_grad for y in function(*wanted)):
            assert torch.autograd.gradgradcheck(function, wanted, gen_non_contig_grad_outputs=True, **kinds)


@at_noise(0.1)
def test_densities_and_gradients_of_single_rows_under_vmap(case: Case, scale: float) -> None:
    bijection = perturbed(case, scale)
    c = labels(case, 3)

    def log_p(x: Tensor, label: Tensor | None) -> Tensor:
        y, log_det = bijection.inverse_and_log_det(x[None], None if label is None else label[None])
        return log_det[0] - 0.5 * y.square().sum()

    shape = bijection.event_shape(case.shape())
    # without the first rows, where log-determinants of splines have kinks
    x = inputs(bijection, shape, rows=9, reach=4.0, inverse=True)[6:].requires_grad_()
    y, log_det = bijection.inverse_and_log_det(x, c)
    truth = log_det - 0.5 * y.square().flatten(1).sum(1)
    (gradient,) = torch.autograd.grad(truth.sum(), x)
    rows = (0, None if c is None else 0)
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.allclose(vmap(log_p, rows)(x, c), truth, atol=1e-8)
        assert torch.allclose(vmap(grad(log_p), rows)(x, c), gradient, atol=1e-6)
