"""Guidance that is trained into a flow map, from data: two classes of normal rows, whose fields are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pushforward import GaussianMixture, GaussianMixtureOracle, Normal, Rows
from pushforward.objectives import Batch, FlowMapMatching, Step
from pushforward.objectives.flow_maps import Lagrangian
from pushforward.random import seeded

DOUBLE = torch.float64
WEIGHT, ROWS = 2.5, 40_000
MEANS = torch.tensor([[-1.0], [1.5]], dtype=DOUBLE)
BOTH = GaussianMixtureOracle(GaussianMixture(MEANS, 0.6))
EACH = [GaussianMixtureOracle(GaussianMixture(mean[None], 0.6)) for mean in MEANS]


class Guided(nn.Module):
    """The exact velocity, guided where there is a condition, plus a bias and a slope times x, which ought to
    be 0: those of each label, and of rows whose label is hidden."""

    def __init__(self, weight: float):
        super().__init__()
        self.weight = weight
        self.bias, self.slope = (nn.Parameter(torch.zeros(3, 1, dtype=DOUBLE)) for _ in range(2))

    def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
        absent = BOTH(t, x)
        given = torch.stack([oracle(t, x) for oracle in EACH])[condition.clamp(min=0), torch.arange(len(x))]
        hidden = (condition < 0)[:, None]
        value = torch.where(hidden, absent, absent + self.weight * (given - absent))
        kind = torch.where(hidden[:, 0], 2, condition)
        return value + self.bias[kind] + self.slope[kind] * x


def scores(weight: float) -> Tensor:
    """Gradients of the loss over their standard errors: three biases, three slopes."""
    generator = seeded("guided maps")
    labels = torch.randint(2, (ROWS,), generator=generator)
    x1 = MEANS[labels] + 0.6 * torch.randn(ROWS, 1, dtype=DOUBLE, generator=generator)
    x0 = Normal(1).double().sample(ROWS, None, generator)
    objective = FlowMapMatching(Lagrangian(diagonal=1.0), drop_condition=0.3, guidance=WEIGHT)
    found = []
    for part in range(20):
        field = Guided(weight)
        index = slice(part * ROWS // 20, (part + 1) * ROWS // 20)
        batch = Batch((Rows(x0[index]), Rows(x1[index], labels[index])))
        loss = objective.loss(nn.ModuleDict({"field": field}), batch, Step(generator=generator))
        found.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss.value, list(field.parameters()))])
        )
    all_of_them = torch.stack(found)
    return all_of_them.mean(0) / (all_of_them.std(0) / 20**0.5)


def test_the_guided_velocity_is_where_the_loss_is_least() -> None:
    # means of 20 parts over standard errors, Student t of 19 degrees: one of 6 is beyond 4 by chance in 0.5 %
    assert float(scores(WEIGHT).abs().max()) < 4
    # another weight is wrong for rows with a condition, and right for those without
    wrong = scores(1.0).abs()
    assert float(wrong[[0, 1, 3, 4]].max()) > 10 and float(wrong[[2, 5]].max()) < 4


def test_guidance_without_hidden_conditions_is_refused() -> None:
    with pytest.raises(ValueError, match="guidance: expected 1 where no condition is hidden, got 2"):
        FlowMapMatching(guidance=2.0)
