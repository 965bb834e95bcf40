"""Couplings against POT and order statistics, draws by row."""

from __future__ import annotations

import math

import numpy as np
import ot
import pytest
import torch

from narrowing import by_name
from pushforward.couplings import Independent, MinibatchOT, Rows
from pushforward.plans import squared_distances
from pushforward.random import RowGenerator, normal, uniform
from pushforward.sources import Empirical, GaussianMixture, Normal

DOUBLE = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- couplings ---------------------------------------------------------------------------------------


def test_exact_plan_costs_what_pot_says_and_is_a_permutation():
    x0, x1 = torch.randn(2, 200, 3, dtype=DOUBLE, generator=gen())
    pairing = MinibatchOT().pair(x0, x1)
    assert all(torch.equal(c.sort().values, torch.arange(200)) for c in pairing.indices.T)
    truth = ot.emd2([], [], ot.dist(x0.numpy(), x1.numpy()))
    cost = (x0[pairing.indices[:, 0]] - x1[pairing.indices[:, 1]]).square().sum(1).mean()
    assert float(cost) == pytest.approx(truth, abs=1e-8) and pairing.info["cost"] == pytest.approx(
        truth, abs=1e-8
    )


def test_a_far_offset_changes_nothing():
    x0, x1 = torch.randn(2, 100, 2, generator=gen())
    near, far = MinibatchOT().pair(x0, x1), MinibatchOT().pair(x0.double() + 1e6, x1.double() + 1e6)
    assert torch.equal(near.indices, far.indices)
    cost = squared_distances(x0.double() + 1e6, x1.double() + 1e6)
    assert np.allclose(cost.numpy(), ot.dist(x0.double().numpy(), x1.double().numpy()), atol=1e-7)


def test_minibatch_plans_in_one_dimension_cost_what_order_statistics_say():
    """Batches of two from N(0,1) and N(0,1): E cost per pair = 2 (1 - 1/pi)."""
    g = gen()
    costs = []
    for _ in range(20_000 // 50):
        x = torch.randn(50, 2, 2, dtype=DOUBLE, generator=g).sort(1).values
        costs.append((x[..., 0] - x[..., 1]).square().mean(1))
    sorted_cost = torch.cat(costs)
    ours = torch.tensor(
        [
            MinibatchOT().pair(x0, x1).info["cost"]
            for x0, x1 in (torch.randn(2, 2, 1, dtype=DOUBLE, generator=g) for _ in range(4000))
        ]
    )
    expected = 2 * (1 - 1 / math.pi)
    for cost in (sorted_cost, ours):
        # five standard errors of the mean
        assert abs(float(cost.mean()) - expected) < 5 * float(cost.std()) / len(cost) ** 0.5


def test_unequal_and_weighted_batches_draw_from_the_plan():
    x0 = torch.tensor([[0.0], [10.0]], dtype=DOUBLE)
    x1 = Rows(torch.tensor([[0.1], [0.2], [9.9]], dtype=DOUBLE), weight=torch.tensor([1.0, 1.0, 2.0]))
    many = Rows(x0.repeat(500, 1), weight=torch.ones(1000))
    pairing = MinibatchOT().pair(many, x1, gen())
    pairs = many.x[pairing.indices[:, 0]], x1.x[pairing.indices[:, 1]]
    assert float((pairs[0] - pairs[1]).abs().max()) < 0.3
    share = (pairing.indices[:, 1] == 2).double().mean()
    # five standard errors of a share of 1,000 draws
    assert abs(float(share) - 0.5) < 5 * 0.5 / math.sqrt(1000)
    assert torch.equal(pairing.indices, MinibatchOT().pair(many, x1, gen()).indices)


def test_conditions_ride_along_and_event_shapes_are_kept():
    x1 = torch.randn(8, 3, 4, 4, generator=gen())
    rows = Rows(x1, condition={"label": torch.arange(8), "dose": x1[:, 0, 0, 0]})
    for coupling in (Independent(), MinibatchOT()):
        _, paired = coupling(Rows(torch.randn(8, 3, 4, 4, generator=gen(1))), rows)
        assert paired.x.shape == (8, 3, 4, 4)
        condition = by_name(paired.condition)
        assert torch.equal(paired.x, x1[condition["label"]])
        assert torch.equal(paired.x[:, 0, 0, 0], condition["dose"])
    with pytest.raises(ValueError, match="equal lengths"):
        Independent().pair(torch.zeros(3, 1), torch.zeros(4, 1))


# -- draws and sources -------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [normal, uniform])
def test_rows_of_a_draw_do_not_depend_on_who_draws_them(draw):
    def rows(start, stop):
        g = RowGenerator("t", 3, rows=(start, stop))
        return draw((stop - start, 2), g), draw((stop - start,), g)

    whole = rows(0, 700)
    for start, stop in ((0, 100), (100, 300), (255, 257), (300, 700)):
        for a, b in zip(rows(start, stop), whole):
            assert torch.equal(a, b[start:stop])
    other = draw((700, 2), RowGenerator("t", 4, rows=(0, 700)))
    assert not torch.equal(other, whole[0])
    with pytest.raises(ValueError, match="rows at a time"):
        draw((5, 2), RowGenerator("t", rows=(0, 4)))


def test_generators_decide_every_draw():
    mixture = GaussianMixture(torch.randn(3, 2, generator=gen()), 0.5)
    for source in (Normal((2, 3)), mixture, Empirical(torch.randn(30, 2), noise=0.1)):
        state = torch.get_rng_state()
        a, b, c = (source.sample(16, generator=gen(seed)) for seed in (1, 1, 2))
        assert torch.equal(a, b) and not torch.equal(a, c)
        assert torch.equal(torch.get_rng_state(), state)


def test_normal_agrees_with_torch():
    x = torch.randn(7, 3, 2, dtype=DOUBLE, generator=gen())
    truth = torch.distributions.Normal(0.5, 2.0).log_prob(x).sum((1, 2))
    assert torch.allclose(Normal((3, 2), scale=2.0, loc=0.5).double().log_prob(x), truth)
    with pytest.raises(ValueError, match="scale"):
        Normal(2, scale=0.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"covariances": torch.ones(2, 3, 3)}, "covariances"),
        ({"covariances": -torch.eye(2).expand(2, 2, 2)}, "definite"),
        ({"covariances": 1.0, "weights": [1.0]}, "weights"),
        ({"covariances": 1.0, "weights": [1.0, -1.0]}, "weights"),
        ({"covariances": 1.0, "labels": [1]}, "labels"),
    ],
)
def test_mixtures_refuse_what_does_not_fit(options, says):
    with pytest.raises(ValueError, match=says):
        GaussianMixture(torch.zeros(2, 2), **options)
