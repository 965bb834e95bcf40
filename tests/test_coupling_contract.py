"""What every coupling of the registry promises, whichever plan it makes."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import ot
import pandas as pd
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from pushforward import registry
from pushforward.couplings import Coupling, GivenPairs, Pairing, Rows, SinkhornOT, UnbalancedOT
from pushforward.entries import COUPLINGS
from pushforward.plans import Scaling, unbalanced
from pushforward.sources import Normal

DOUBLE, COUNT = torch.float64, 24
#: Couplings that keep both marginals on equally many rows, row by row; `sinkhorn` and the pairs drawn by a
#: search keep those of the source, and `unbalanced` and `partial` leave rows out by design.
PERMUTE = {"independent", "ot", "c2ot", "dataset", "given"}
ONCE = PERMUTE | {"sinkhorn", "semidiscrete"}
NAMES = [*COUPLINGS, "given"]


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clouds(dtype: torch.dtype = DOUBLE, d: int = 2) -> tuple[Tensor, Tensor]:
    x0, x1 = torch.randn(2, COUNT, d, dtype=DOUBLE, generator=gen())
    return x0.to(dtype), x1.to(dtype)


def made(name: str) -> Coupling:
    return GivenPairs(COUNT) if name == "given" else registry.create("coupling", name)


def pair(name: str, source, target, seed: int = 5) -> Pairing:
    """The pairing, of a coupling fitted to these rows where it needs to be."""
    coupling = made(name)
    if name == "semidiscrete":
        coupling = coupling.fit(Normal(2), target, gen())
    elif name == "dataset":
        coupling = coupling.fit(source, target, gen())
    return coupling.pair(source, target, gen(seed))


def once(column: Tensor) -> bool:
    return torch.equal(column.sort().values, torch.arange(COUNT))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_marginals_and_repeatability(name: str, dtype: torch.dtype) -> None:
    source, target = clouds(dtype)
    pairing = pair(name, source, target)
    assert pairing.indices.dtype == torch.int64 and pairing.indices.shape[1] == 2
    assert int(pairing.indices.min()) >= 0 and int(pairing.indices.max()) < COUNT
    assert once(pairing.indices[:, 0]) == (name in ONCE) or name == "unbalanced"
    if name in PERMUTE:
        assert once(pairing.indices[:, 1])
    assert torch.equal(pairing.indices, pair(name, source, target).indices)


@pytest.mark.parametrize("name", NAMES)
def test_arrays_and_tables_are_rows_too(name: str) -> None:
    source, target = clouds()
    truth = pair(name, source, target).indices
    assert torch.equal(pair(name, source.numpy(), target.numpy()).indices, truth)
    assert torch.equal(pair(name, pd.DataFrame(source.numpy()), pd.DataFrame(target.numpy())).indices, truth)
    if name not in ("semidiscrete", "dataset"):
        for dtype in (np.float32, np.float64):
            x, y = (cast(Any, rows.numpy().astype(dtype)) for rows in (source, target))
            first, second = made(name)(x, y, gen(5))
            assert first.dtype == second.dtype == torch.from_numpy(np.zeros(1, dtype)).dtype


@pytest.mark.parametrize("name", NAMES)
def test_what_belongs_to_a_row_goes_with_it(name: str) -> None:
    source, target = clouds()
    label, mask = torch.arange(COUNT) % 3, torch.ones(COUNT, 2, dtype=torch.bool)
    condition = {"label": label, "dose": target[:, 0].clone()}
    sides = Rows(source, condition), Rows(target, condition, None if name == "semidiscrete" else mask)
    index = pair(name, *sides).indices[:, 1]
    if name in ("semidiscrete", "dataset"):
        taken = sides[1].take(index)
    else:
        taken = made(name)(*sides, gen(5))[1]
    assert torch.equal(taken.x, target[index]) and isinstance(taken.condition, dict)
    assert torch.equal(taken.condition["label"], label[index])
    assert torch.equal(taken.condition["dose"], taken.x[:, 0])


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_cannot_be_paired_are_refused(name: str) -> None:
    source, target = clouds()
    for wrong in ((source[:0], target), (source, target[:0]), (source[:0], target[:0])):
        with pytest.raises(ValueError, match=r"expected (at least one row|rows|200 rows)|fewer|at least"):
            pair(name, *wrong)
    with pytest.raises(ValueError, match=r"expected .*event"):
        pair(name, source, torch.ones(COUNT, 3, dtype=DOUBLE))
    with pytest.raises(ValueError, match=f"condition: expected {COUNT} rows"):
        Rows(source, torch.zeros(COUNT - 1))
    with pytest.raises(ValueError, match=f"mask: expected {COUNT} rows"):
        Rows(source, mask=torch.ones(COUNT + 1, 2, dtype=torch.bool))
    if name not in ("independent", "given"):
        bad = target.clone()
        bad[3, 1] = math.nan
        with pytest.raises(ValueError, match="finite values"):
            pair(name, source, bad)
        with pytest.raises(ValueError, match=r"target.weight: expected"):
            pair(name, source, Rows(target, weight=-torch.ones(COUNT)))


BALANCED = ["ot", "c2ot", "dataset", "sinkhorn"]


@pytest.mark.parametrize("name", BALANCED)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("offset", [2.0**10, 2.0**13])
def test_an_offset_of_one_side_changes_no_balanced_plan(name: str, dtype: torch.dtype, offset: float) -> None:
    """Multiples of 1/1024 below 2^14 have all their digits in single precision too."""
    source, target = ((z * 1024).round() / 1024 for z in clouds())
    truth = pair(name, source.to(dtype), target.to(dtype))
    found = pair(name, source.to(dtype), (target + offset).to(dtype))
    assert torch.equal(found.indices, truth.indices)
    means = target.mean(0) - source.mean(0)
    # |y + s - x|^2 is |y - x|^2 + 2 <s, y - x> + |s|^2; kept marginals give the mean of the second term
    shifted = truth.info["cost"] + float(2 * offset * means.sum()) + 2 * offset**2
    assert found.info["cost"] == pytest.approx(shifted, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("offset", [30.0, 1e3, 1e5])
def test_unbalanced_pairs_of_clouds_far_apart_are_near_pairs(dtype: torch.dtype, offset: float) -> None:
    """With rho a multiple of the mean cost no row is worth leaving out: as without offset."""
    x, y = torch.randn(2, 64, 2, dtype=DOUBLE, generator=gen())
    plain, far = (UnbalancedOT().pair(x.to(dtype), (y + s).to(dtype), gen()) for s in (0.0, offset))
    cost = [(x[i] - y[j]).square().sum(1).mean() for i, j in (p.indices.T for p in (plain, far))]
    # independent pairs cost 4 and more; rho = 1 lets the plan without offset leave some far rows out
    assert float(cost[1]) < 2 * float(cost[0]) < 1.5
    assert math.isfinite(far.info["cost"]) and 0 < far.info["mass"] <= 1


def test_unbalanced_plan_whose_mass_underflows_is_that_of_pot() -> None:
    """A constant of the cost changes the mass of a plan and nothing else, so POT can do without."""
    x, y = torch.randn(2, 6, 2, dtype=DOUBLE, generator=gen(3))
    cost, even = (x[:, None] - y).square().sum(2), np.full(6, 1 / 6)
    truth = ot.unbalanced.sinkhorn_unbalanced(
        even, even, cost.numpy(), 0.5, 2.0, reg_type="kl", stopThr=1e-14
    )
    for offset, accuracy in ((0.0, 1e-9), (1e4, 1e-9), (1e6, 1e-7)):
        plan = unbalanced(cost + offset, 0.5, 2.0, scaling=Scaling(tolerance=1e-9))
        # two points keep exp(-C / (2 rho + epsilon)), and so does a constant
        mass = truth.sum() * math.exp(-offset / (2 * 2.0 + 0.5))
        assert float(plan.mass()) == pytest.approx(mass, rel=1e-6)
        log = plan.log_plan()
        found = (log - log.logsumexp((0, 1))).exp()
        assert np.abs(found.numpy() - truth / truth.sum()).max() < accuracy
        drawn = plan.pairs(6000, gen())
        share = np.zeros((6, 6))
        np.add.at(share, tuple(drawn.T.numpy()), 1 / 6000)
        # five standard errors of a share of 6,000 draws
        assert np.abs(share - truth / truth.sum()).max() < 5 * 0.5 / math.sqrt(6000)


@pytest.mark.parametrize("rows", [5, 40])
def test_unbalanced_rows_have_one_over_their_number(rows: int) -> None:
    """Weights of one are masses of 1 / n: the mass of the plan does not grow with the batch."""
    x = torch.zeros(rows, 1, dtype=DOUBLE)
    coupling = UnbalancedOT(0.1, 2.0, relative=False)
    plain = coupling.pair(x, x + 1, gen()).info["mass"]
    weighted = coupling.pair(Rows(x, weight=torch.ones(rows)), Rows(x + 1, weight=torch.ones(rows)), gen())
    # all costs are 1: two points of masses one
    assert plain == pytest.approx(math.exp(-1 / (2 * 2.0 + 0.1)), rel=1e-4)
    assert weighted.info["mass"] == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("name", ["ot", "c2ot", "dataset"])
@pytest.mark.parametrize("far", [1e4, 1e8])
@pytest.mark.parametrize("sides", ["source", "both"])
def test_one_far_row_leaves_the_others_their_pairs(name: str, far: float, sides: str) -> None:
    source, target = clouds()
    source[0] = far
    if sides == "both":
        target[0] = far
    pairs = pair(name, source, target).indices
    partner = int(pairs[pairs[:, 0] == 0, 1])
    if sides == "both":
        assert partner == 0
    others = [j for j in range(COUNT) if j != partner]
    cost = cdist(source[1:].numpy(), target[others].numpy(), "sqeuclidean")
    best = cost[linear_sum_assignment(cost)].sum()
    kept = pairs[pairs[:, 0] != 0]
    got = float((source[kept[:, 0]] - target[kept[:, 1]]).square().sum())
    assert got == pytest.approx(best, rel=1e-9)


def test_weights_of_zero_and_weights_are_relative() -> None:
    source, target = clouds()
    weight = torch.rand(COUNT, generator=gen(1))
    weight[4] = 0
    for name in ("ot", "sinkhorn", "partial", "unbalanced", "c2ot"):
        first = pair(name, source, Rows(target, weight=weight)).indices
        assert 4 not in first[:, 1]
        if name != "unbalanced":  # which takes weights for masses
            assert torch.equal(first, pair(name, source, Rows(target, weight=8 * weight)).indices)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_of_the_data_changes_no_plan(scale: float) -> None:
    source, target = clouds()
    for name in ("ot", "sinkhorn", "partial", "unbalanced", "c2ot"):
        truth = pair(name, source, target).indices
        assert torch.equal(pair(name, source * scale, target * scale).indices, truth)


def test_tables_beyond_256_mebibytes_are_refused() -> None:
    rows = torch.zeros(1, 2).expand(6000, 2)
    for name in ("sinkhorn", "unbalanced", "partial"):
        with pytest.raises(ValueError, match="6,000 and 6,000 rows need a table of 275 MiB"):
            made(name).pair(rows, rows)
    assert len(SinkhornOT().pair(rows[:10], rows[:10], gen()).indices) == 10
