"""Derivatives through inverses that are found by iteration: by conditions, forward mode, of ensembles."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, stack_module_state, vmap

from bijection_cases import draws, noisy
from pushforward.bijections import Autoregressive, Bijection, CouplingLayer, Residual
from pushforward.bijections.monotone import MonotoneNetwork, ScaleShift
from pushforward.nn import LipschitzPerceptron, MaskedPerceptron, Perceptron


def iterated(condition: tuple[int, ...] | None = (1,)) -> dict[str, Bijection]:
    torch.manual_seed(0)
    masked, perceptron = (
        partial(MaskedPerceptron, condition=condition),
        partial(Perceptron, condition=condition),
    )
    layers = {
        "fixed point": Autoregressive(2, ScaleShift(), partial(masked, width=6, activation="tanh")),
        "contraction": Residual(LipschitzPerceptron(2, condition, width=6)),
        "bracketed": CouplingLayer(
            [True, False], MonotoneNetwork(2), partial(perceptron, width=6, activation="tanh")
        ),
    }
    for layer in layers.values():
        noisy(layer, 0.3)
    return layers


@pytest.mark.parametrize("name", iterated())
def test_derivatives_of_both_orders_by_a_continuous_condition(name: str) -> None:
    layer = iterated()[name]
    y, c = draws(2, 2), draws(2, 1, seed=1).requires_grad_()
    for given in (lambda c: c, lambda c: c.exp()):  # a leaf, and what a network may have made
        function = lambda c, given=given: layer.inverse_and_log_det(y, given(c))  # noqa: E731
        assert torch.autograd.gradcheck(function, c, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, c, fast_mode=True)


@pytest.mark.parametrize("name", iterated())
def test_forward_and_reverse_mode_agree_and_so_do_their_hessians(name: str) -> None:
    layer = iterated(None)[name]
    y, weights = draws(2, 2), draws(2, 2, seed=3)

    def function(y: Tensor) -> Tensor:
        x, log_det = layer.inverse_and_log_det(y)
        return (x * weights).sum() + log_det.sum()

    gradient = jacrev(function)(y)
    assert torch.allclose(jacfwd(function)(y), gradient, atol=1e-10)
    with torch.no_grad():  # which leaves forward mode on
        assert torch.allclose(jvp(function, (y,), (torch.ones_like(y),))[1], gradient.sum(), atol=1e-10)
    hessian = jacrev(jacrev(function))(y)
    assert torch.allclose(jacfwd(jacrev(function))(y), hessian, atol=1e-10)


@pytest.mark.parametrize("name", iterated())
def test_inverses_of_an_ensemble_have_gradients_of_their_own(name: str) -> None:
    # parameters handed in and not the module's own, one set for each member
    members = [iterated(None)[name] for _ in range(2)]
    noisy(members[1], 0.2)
    y = draws(3, 2)

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return functional_call(_Backwards(members[0]), (parameters, buffers), (y,))

    parameters, buffers = stack_module_state([_Backwards(m) for m in members])
    together = vmap(grad(loss))(parameters, buffers)
    for i, member in enumerate(members):
        alone = torch.autograd.grad(_Backwards(member)(y), list(member.parameters()))
        for (key, _), truth in zip(member.named_parameters(), alone):
            assert torch.allclose(together["bijection." + key][i], truth, atol=1e-10)


class _Backwards(nn.Module):
    def __init__(self, bijection: Bijection):
        super().__init__()
        self.bijection = bijection

    def forward(self, y: Tensor) -> Tensor:
        x, log_det = self.bijection.inverse_and_log_det(y)
        return x.square().sum() - log_det.sum()
