"""Partial plans, and the couplings made of entropic, unbalanced, partial and given plans."""

from __future__ import annotations

import itertools
import math
from typing import Any

import ot
import pytest
import torch

from plan_cases import DOUBLE, clouds, gen, table, weights
from pushforward import registry
from pushforward.couplings import (
    Coupling,
    DatasetOT,
    GivenPairs,
    MinibatchOT,
    PartialOT,
    Rows,
    SinkhornOT,
    UnbalancedOT,
)
from pushforward.plans import partial
from pushforward.sources import Normal


@pytest.mark.parametrize("n,m,mass", [(5, 5, 0.75), (4, 6, 0.5), (6, 4, 1.0), (5, 5, 0.05)])
def test_partial_plan_beats_every_other_choice_of_rows(n: int, m: int, mass: float) -> None:
    cost = table(n, m, seed=3)
    count = max(1, round(mass * min(n, m)))
    best = min(
        sum(float(cost[i, j]) for i, j in zip(rows, columns))
        for rows in itertools.combinations(range(n), count)
        for columns in itertools.permutations(range(m), count)
    )
    plan = partial(cost, mass)
    assert len(plan.rows) == count == len(set(plan.rows.tolist())) == len(set(plan.columns.tolist()))
    assert float(cost[plan.rows, plan.columns].sum()) == pytest.approx(best, rel=1e-12)
    assert plan.cost == pytest.approx(best / count, rel=1e-12)


def test_partial_plan_with_masses_is_that_of_pot() -> None:
    cost, a, b = table(12, 9), weights(12), weights(9, 1)
    plan = partial(cost, 0.7, a, b)
    amount = 0.7 * min(float(a.sum()), float(b.sum()))
    truth: Any = ot.partial.partial_wasserstein(a.numpy(), b.numpy(), cost.numpy(), m=amount)
    assert plan.cost == pytest.approx((truth * cost.numpy()).sum() / amount, rel=1e-9)
    moved = amount * plan.dense()
    assert bool((moved.sum(1) <= a + 1e-9).all() and (moved.sum(0) <= b + 1e-9).all())


def test_partial_coupling_leaves_outliers_out() -> None:
    x0, x1 = clouds(50, 50)
    x0[:5] += 100
    indices = PartialOT(0.9).pair(x0, x1).indices
    assert sorted(indices[:, 0].tolist()) == list(range(5, 50)) and len(set(indices[:, 1].tolist())) == 45
    weighted = PartialOT(0.9).pair(Rows(x0, weight=torch.ones(50)), x1, gen()).indices
    assert len(weighted) == 45 and int(weighted[:, 0].min()) >= 5


# -- couplings ---------------------------------------------------------------------------------------


def test_each_source_row_is_paired_once_and_plans_sharpen_with_epsilon() -> None:
    x0, x1 = clouds(100, 100)
    exact = MinibatchOT().pair(x0, x1).info["cost"]
    sharp, soft = (SinkhornOT(epsilon).pair(x0, x1, gen()) for epsilon in (0.001, 1.0))
    for pairing in (sharp, soft):
        assert torch.equal(pairing.indices[:, 0], torch.arange(100)) and pairing.weight is None
        assert set(pairing.info) == {"cost", "entropy", "marginal_error", "converged"}
    assert sharp.info["cost"] == pytest.approx(exact, rel=0.01) and soft.info["cost"] > 1.2 * exact
    assert sharp.info["entropy"] < 0.2 < 0.8 < soft.info["entropy"] < 1


def test_relative_epsilon_ignores_offset_and_scale_and_absolute_does_not() -> None:
    x0, x1 = clouds(60, 60)
    for relative in (True, False):
        entropies = [
            SinkhornOT(0.1, relative=relative).pair(s * x0 + c, s * x1 + c, gen()).info["entropy"]
            for s, c in ((1.0, 0.0), (1.0, 1000.0), (7.0, 0.0))
        ]
        assert entropies[1] == pytest.approx(entropies[0], abs=1e-6)
        assert (entropies[2] == pytest.approx(entropies[0], abs=1e-6)) == relative


def test_relative_rho_ignores_the_unit_of_the_data() -> None:
    x0, x1 = clouds(30, 30)
    for relative in (True, False):
        coupling = UnbalancedOT(0.1, 0.5, relative)
        masses = [coupling.pair(s * x0, s * x1, gen()).info["mass"] for s in (1.0, 7.0)]
        assert (masses[0] == pytest.approx(masses[1], rel=1e-3)) == relative


def test_absolute_epsilon_gives_the_schroedinger_bridge_between_normals() -> None:
    """2 sigma^2 for |x0 - x1|^2 is sigma^2 for half of it, whose covariance across the plan is known."""
    sigma, n = 0.8, 1500
    quantiles = (torch.arange(n, dtype=DOUBLE) + 0.5) / n
    x = math.sqrt(2) * torch.special.erfinv(2 * quantiles - 1)
    pairing = SinkhornOT(2 * sigma**2, relative=False, tolerance=1e-6).pair(x[:, None], x[:, None], gen())
    covariance = float((x[pairing.indices[:, 0]] * x[pairing.indices[:, 1]]).mean())
    truth = 0.5 * (math.sqrt(sigma**4 + 4) - sigma**2)
    # five standard errors: products of normals of that covariance given x0 deviate by less than 1
    assert covariance == pytest.approx(truth, abs=5 / math.sqrt(n))
    assert pairing.info["cost"] == pytest.approx(2 - 2 * truth, rel=0.01)


def test_many_plans_at_once_are_the_plans_one_by_one() -> None:
    coupling = SinkhornOT(0.02)
    sizes = [(30, 30), (20, 25), (30, 30), (30, 30)]
    batches = [clouds(n, m, seed) for seed, (n, m) in enumerate(sizes)]
    sources = [Rows(x0.float()) for x0, _ in batches]
    targets = [Rows(x1.float(), weight=weights(len(x1)) if len(x1) == 25 else None) for _, x1 in batches]
    many = coupling.pair_many(sources, targets, [gen(k) for k in range(4)])
    for k, pairing in enumerate(many):
        alone = coupling.pair(sources[k], targets[k], gen(k))
        assert torch.equal(pairing.indices, alone.indices) and pairing.info == alone.info
        assert not torch.equal(pairing.indices, coupling.pair(sources[k], targets[k], gen(99)).indices)


def test_weights_count_in_the_plan_and_weigh_the_pairs() -> None:
    x0, x1 = clouds(400, 300)
    a, b = weights(400), weights(300, 1)
    b[:100] = 0
    pairing = SinkhornOT(10.0).pair(Rows(x0, weight=a), Rows(x1, weight=b), gen())
    assert pairing.weight is not None and torch.allclose(pairing.weight, a / a.mean())
    assert int(pairing.indices[:, 1].min()) >= 100


def test_a_plan_that_has_not_converged_is_used_with_one_warning() -> None:
    x0, x1 = clouds(50, 50)
    coupling = SinkhornOT(0.001, max_iterations=16)
    with pytest.warns(UserWarning, match="away from its marginals after 16 iterations"):
        pairing = coupling.pair(x0, x1, gen())
    assert pairing.info["converged"] is False
    coupling.pair(x0, x1, gen())  # a second warning would be an error
    with pytest.warns(UserWarning, match="away from its marginals"):
        UnbalancedOT(0.001, max_iterations=16).pair(x0, x1, gen())


def test_equal_points_are_paired_anyhow() -> None:
    same = torch.ones(5, 2)
    for coupling in (SinkhornOT(), UnbalancedOT(), PartialOT(1.0)):
        assert len(coupling.pair(same, same, gen()).indices) == 5


@pytest.mark.parametrize("name", ["sinkhorn", "unbalanced", "partial", "c2ot"])
def test_couplings_are_registered_and_keep_events_and_dtype(name: str) -> None:
    coupling = registry.create("coupling", name)
    assert isinstance(coupling, Coupling)
    x1 = torch.randn(20, 1, 3, 2, generator=gen())
    paired = coupling(Rows(torch.randn(20, 1, 3, 2, generator=gen(1))), Rows(x1, condition=None), gen())
    assert paired[0].x.shape == paired[1].x.shape and paired[1].x.shape[1:] == (1, 3, 2)
    assert paired[1].x.dtype == torch.float32
    first, second = (coupling.pair(x1, x1.flip(0), gen(5)).indices for _ in range(2))
    assert torch.equal(first, second)


# -- pairs of whole data sets ------------------------------------------------------------------------


def test_dataset_plan_is_made_once_and_knows_its_data() -> None:
    x0, x1 = clouds(300, 300)
    fitted = DatasetOT().fit(x0, x1)
    assert fitted.pairing is not None
    assert fitted.pairing.info["cost"] == pytest.approx(ot.emd2([], [], ot.dist(x0.numpy(), x1.numpy())))
    assert fitted.pair(x0.clone(), Rows(x1)) is fitted.pairing
    for source, target, match in (
        (x0[:299], x1, "source"),
        (x0, x1 + 1e-3, "target"),
        (x0, x1.flip(0), "target"),
        (x0[torch.randperm(300, generator=gen())], x1, "source"),
    ):
        with pytest.raises(ValueError, match=f"{match}: expected the rows the coupling was fitted to"):
            fitted.pair(source, target)


def test_dataset_plan_by_another_coupling() -> None:
    x0, x1 = clouds(40, 30)
    fitted = DatasetOT(SinkhornOT(0.1)).fit(x0, x1, gen())
    assert fitted.pairing is not None and len(fitted.pairing.indices) == 40
    assert torch.equal(fitted.pairing.indices, SinkhornOT(0.1).pair(x0, x1, gen()).indices)
    assert DatasetOT().pairing is None
    with pytest.raises(ValueError, match="call fit"):
        DatasetOT().pair(x0, x1)
    with pytest.raises(
        ValueError, match="source: expected the rows of a data set, got the distribution Normal"
    ):
        DatasetOT().fit(Normal(2), x1)


def test_given_pairs_take_conditions_along() -> None:
    x1 = Rows(torch.arange(4.0)[:, None], condition=torch.arange(4))
    first, second = GivenPairs(4)(Rows(torch.zeros(4, 1)), x1)
    assert torch.equal(second.x, x1.x) and second.condition is not None
    with pytest.raises(ValueError, match="expected the 4 given rows"):
        GivenPairs(4).pair(first.x[:3], second)
