"""Masks of rows reach the network, the source and the density: padding is as if it were not there."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from pushforward import Rows
from pushforward.bijections import Affine, Elementwise
from pushforward.fields import Masked
from pushforward.flows import BijectiveFlow, ContinuousFlow, DiffusionFlow, Transformed
from pushforward.objectives import Batch, FlowMatching, MaximumLikelihood, Step
from pushforward.random import seeded
from pushforward.solvers import RK4, Tsit5
from pushforward.sources import Normal, StudentT

DOUBLE = torch.float64
STEPS, COLUMNS = 4, 2
#: Valid steps of each of three sequences.
LENGTHS = (4, 1, 3)
MASK = torch.arange(STEPS) < torch.tensor(LENGTHS)[:, None]
RATE = torch.tensor([[0.3, -0.2], [0.5, 0.1]], dtype=DOUBLE)


def linear(t: Tensor, x: Tensor) -> Tensor:
    """Every step of a sequence moves by the same matrix, whatever the length."""
    return x @ RATE


class Mean(nn.Module):
    """Draws every step towards the mean of the valid steps, which it has to be told."""

    uses_mask = True

    def forward(self, t: Tensor, x: Tensor, condition: Tensor | None = None, mask: Tensor | None = None):
        assert mask is not None
        weight = mask.to(x)[..., None]
        return (x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True) - x


def flow_of(field, steps: int = STEPS, solver=None) -> ContinuousFlow:
    return ContinuousFlow(
        field, solver or RK4(steps=20), Normal((steps, COLUMNS), scale=1.5, loc=0.4).double()
    )


def points() -> Tensor:
    return torch.randn(len(LENGTHS), STEPS, COLUMNS, generator=seeded("points"), dtype=DOUBLE)


@pytest.mark.parametrize("solver", [RK4(steps=20), Tsit5(1e-10, 1e-10)], ids=["fixed", "adaptive"])
def test_the_density_is_that_of_shorter_events(solver) -> None:
    """x1 = x0 exp(A): log p(x1) = sum over valid steps of log p0(x1 exp(-A)) - trace A, in closed form."""
    x, found = points(), flow_of(linear, solver=solver).log_prob(points(), mask=MASK)
    for i, length in enumerate(LENGTHS):
        shorter = flow_of(linear, length, solver).log_prob(x[i : i + 1, :length])
        assert found[i].item() == pytest.approx(shorter.item(), abs=1e-9)
        x0 = x[i, :length] @ torch.linalg.matrix_exp(-RATE)
        each = -0.5 * ((x0 - 0.4) / 1.5).square() - math.log(1.5) - 0.5 * math.log(2 * math.pi)
        assert found[i].item() == pytest.approx(float(each.sum() - length * RATE.trace()), abs=1e-5)


def test_a_network_that_uses_the_mask_is_given_it() -> None:
    x = points()
    found = flow_of(Mean()).log_prob(x, mask=MASK)
    for i, length in enumerate(LENGTHS):
        whole = torch.ones(1, length, dtype=torch.bool)
        shorter = flow_of(Mean(), length).log_prob(x[i : i + 1, :length], mask=whole)
        assert found[i].item() == pytest.approx(shorter.item(), abs=1e-12)


def test_what_stands_in_the_padding_does_not_matter() -> None:
    x = points()
    other = torch.where(MASK[..., None], x, 7.0)
    for field in (linear, Mean(), lambda t, x: x.sum((1, 2), keepdim=True) + x):
        flow = flow_of(field)
        assert torch.equal(flow.log_prob(x, mask=MASK), flow.log_prob(other, mask=MASK))


def test_samples_have_zeros_in_the_padding_and_are_those_of_the_flow() -> None:
    flow = flow_of(linear)
    drawn = flow.sample(3, generator=seeded(1), mask=MASK)
    whole = flow.sample(3, generator=seeded(1))
    assert torch.equal(drawn[~MASK], torch.zeros_like(drawn[~MASK]))
    assert torch.allclose(drawn[MASK], whole[MASK], rtol=1e-14)
    alike = flow.sample(5, generator=seeded(1), mask=MASK[1])
    assert alike.shape == (5, STEPS, COLUMNS) and bool((alike[:, 1:] == 0).all())


def test_guidance_and_conditions_go_with_a_mask() -> None:
    flow = flow_of(lambda t, x, condition: linear(t, x) if condition is None else linear(t, x) + 1.0)
    condition = torch.tensor([0, 1, 1])
    plain = flow.replace(guidance=2.0).sample(1, condition, seeded(1), mask=MASK[None])
    assert plain.shape == (1, 3, STEPS, COLUMNS) and bool((plain[0][~MASK] == 0).all())


def test_training_rows_hand_their_mask_to_the_network() -> None:
    target = Rows(points().float(), mask=MASK)
    batch = Batch((Rows(torch.zeros(3, STEPS, COLUMNS)), target))
    other = Batch((batch.source, Rows(torch.where(MASK[..., None], target.x, 9.0), mask=MASK)))
    losses = []
    for rows in (batch, other):
        loss = FlowMatching().loss(nn.ModuleDict({"field": Mean()}), rows, Step(generator=seeded(2)))
        losses.append(loss.value)
    assert torch.equal(*losses)


def test_maximum_likelihood_counts_valid_elements_alone() -> None:
    flow = flow_of(linear)
    rows = Rows(points(), mask=MASK)
    loss = MaximumLikelihood().loss(nn.ModuleDict({"flow": flow}), Batch((rows,)), Step())
    size = COLUMNS * MASK.sum(1)
    assert torch.allclose(loss.value, (-flow.log_prob(rows.x, mask=MASK) / size).mean(), rtol=1e-12)


def test_flows_that_cannot_leave_out_elements_say_so() -> None:
    x = torch.zeros(3, 2)
    mask = torch.ones(3, 2, dtype=torch.bool)
    bijective = BijectiveFlow(Elementwise(2), Normal(2))
    heavy = ContinuousFlow(lambda t, x: x, RK4(2), StudentT(2))
    for flow in (bijective, Transformed(bijective, Affine(0.0, 1.0)), heavy):
        with pytest.raises(ValueError, match=r"mask: a \w+ cannot leave out elements"):
            flow.log_prob(x, mask=mask)
    with pytest.raises(ValueError, match="mask: a DiffusionFlow cannot leave out elements"):
        DiffusionFlow(lambda t, x: x, source=Normal(2)).sample(3, mask=mask)
    with pytest.raises(ValueError, match="mask: a BijectiveFlow cannot leave out elements"):
        MaximumLikelihood().loss(nn.ModuleDict({"flow": bijective}), Batch((Rows(x, mask=mask),)), Step())
    for wrong in (mask[:, :1], mask[:2]):
        with pytest.raises(ValueError, match="mask: expected"):
            ContinuousFlow(lambda t, x: x, RK4(2), Normal(2)).log_prob(x, mask=wrong)
    with pytest.raises(ValueError, match="mask: expected the first dimensions"):
        Masked(lambda t, x: x, mask)(torch.zeros(()), torch.zeros(3, 4))
