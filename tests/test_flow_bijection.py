"""Flows as bijections: in chains, inverses, and as transforms of torch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Independent, TransformedDistribution
from torch.distributions import Normal as TorchNormal
from torch.func import jacrev

from narrowing import known
from pushforward import MLP, RK4, ContinuousFlow, DiffusionFlow, Dopri5, Normal
from pushforward.bijections import Affine, Chain, Inverse, to_torch
from pushforward.flows import BijectiveFlow, FlowBijection, Hutchinson, Transformed, nsf
from pushforward.random import seeded

D = torch.float64


def flow(condition=None, solver=None, **options) -> ContinuousFlow:
    torch.manual_seed(0)
    net = MLP(2, condition, width=16, depth=2).to(D)
    nn.init.normal_(list(net.parameters())[-2], std=0.5)
    return ContinuousFlow(net, solver or Dopri5(1e-9, 1e-9), Normal(2).to(D), **options)


X = torch.randn(7, 2, generator=seeded("bijection"), dtype=D)


def test_both_directions_have_the_log_determinant_of_the_jacobian() -> None:
    bijection = FlowBijection(flow(solver=RK4(steps=30)))
    y, log_det = bijection.forward_and_log_det(X)
    jacobians = torch.stack([jacrev(lambda x: bijection.forward(x[None])[0])(row) for row in X])
    # the log-determinant is integrated, with the error of 30 steps of fourth order
    assert (log_det - jacobians.slogdet().logabsdet).abs().max() < 1e-6
    x, back = bijection.inverse_and_log_det(y)
    assert (x - X).abs().max() < 1e-6 and (back + log_det).abs().max() < 1e-6


def test_in_chains_and_inverses_densities_are_those_of_the_flow() -> None:
    inner, shift = flow(), Affine(torch.tensor([1.0, -2.0]), torch.tensor([2.0, 0.5])).to(D)
    chain = BijectiveFlow(Chain(FlowBijection(inner), shift), Normal(2).to(D))
    torch.testing.assert_close(
        chain.log_prob(X), Transformed(inner, shift, D).log_prob(X), rtol=1e-9, atol=1e-9
    )
    x0, log_det = Inverse(FlowBijection(inner)).forward_and_log_det(X)
    pulled, back = inner.pull_and_log_det(X)
    assert torch.equal(x0, pulled) and torch.equal(log_det, back)


def test_torch_and_zuko_take_it_as_a_transform() -> None:
    inner = flow()
    source = Independent(TorchNormal(torch.zeros(2, dtype=D), 1.0), 1)
    law = TransformedDistribution(source, [to_torch(FlowBijection(inner), cache_size=1)])
    torch.testing.assert_close(law.log_prob(X), inner.log_prob(X), rtol=1e-7, atol=1e-7)
    assert law.rsample((3, 4)).shape == (3, 4, 2)
    y, log_det = to_torch(FlowBijection(inner)).call_and_ladj(X)  # type: ignore[attr-defined]
    assert torch.equal(y, inner.push_and_log_det(X)[0]) and log_det.shape == (7,)


def test_conditions_go_through() -> None:
    inner = flow(condition=(1,), condition_shape=(1,))
    condition = torch.linspace(-1, 1, 7, dtype=D)[:, None]
    y, log_det = FlowBijection(inner).forward_and_log_det(X, condition)
    for row in (0, 6):
        alone, its = FlowBijection(inner).forward_and_log_det(X[row : row + 1], condition[row : row + 1])
        assert (alone - y[row]).abs().max() < 1e-12 and (its - log_det[row]).abs() < 1e-12
    given = to_torch(FlowBijection(inner), condition)
    assert torch.equal(known(given(X)), y)


def test_what_it_says_of_itself() -> None:
    assert FlowBijection(flow(divergence=Hutchinson())).density == "estimate"
    assert (
        FlowBijection(flow()).density == "exact"
        and FlowBijection(nsf(2, layers=2, width=8)).density == "exact"
    )
    for refused in (DiffusionFlow(lambda t, x: x, 1.0, source=Normal(2)), nn.Linear(2, 2)):
        with pytest.raises(
            ValueError, match=f"flow: expected an invertible flow, got {type(refused).__name__}"
        ):
            FlowBijection(refused)  # type: ignore[arg-type]
