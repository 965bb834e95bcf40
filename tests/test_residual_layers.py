"""Residual layers: bounds of their networks, estimates of their log-determinants."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from torch import nn

from bijection_cases import DOUBLE, draws, gen, noisy
from pushforward.bijections import (
    Residual,
)
from pushforward.nn import LipschitzPerceptron

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
        for layer in cast(list[nn.Linear], [*linear.layers]):
            layer.weight.copy_(7 * torch.eye(3))
            layer.bias.fill_(2.3994 * 0)
        linear.sharpness[0].fill_(math.log(math.expm1(3**-0.5)))  # silu as it is
        cast(nn.Linear, linear.layers[0]).bias.fill_(2.3994)  # where the slope of silu is largest
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
    weight = cast(nn.Linear, net.layers[1]).bias
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
