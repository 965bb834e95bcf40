"""Entropic and unbalanced plans against POT, closed forms and brute force."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import ot
import pytest
import torch

from plan_cases import DOUBLE, clouds, gen, shares, table, weights
from pushforward.couplings import (
    PartialOT,
    Rows,
    SinkhornOT,
    UnbalancedOT,
)
from pushforward.plans import Scaling, partial, sinkhorn, unbalanced

# -- the balanced solver -----------------------------------------------------------------------------


@pytest.mark.parametrize("relax", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_plan_is_that_of_pot(weighted: bool, relax: bool) -> None:
    cost = table(40, 55)
    a, b = (shares(40), shares(55, 1)) if weighted else (None, None)
    plan = sinkhorn(cost, 0.3, a, b, scaling=Scaling(tolerance=1e-11, relax=relax))
    p, q = (np.full(k, 1 / k) if w is None else (w / w.sum()).numpy() for w, k in ((a, 40), (b, 55)))
    truth: Any = ot.sinkhorn(
        p, q, cost.numpy(), 0.3, method="sinkhorn_log", stopThr=1e-13, numItermax=100_000
    )
    assert bool(plan.converged)
    # 1e-6 of the mean entry
    assert np.abs(plan.log_plan().exp().numpy() - truth).max() < 1e-6 / truth.size
    mean_cost, entropy = plan.figures()
    assert float(mean_cost) == pytest.approx((truth * cost.numpy()).sum(), rel=1e-9)
    within = -(truth * np.log(truth / p[:, None])).sum()
    assert float(entropy) == pytest.approx(within / -(q * np.log(q)).sum(), rel=1e-8)
    assert float(plan.mass()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_small_epsilon_where_the_plain_kernel_is_zero(dtype: torch.dtype) -> None:
    cost = table(200, 200)
    optimum: Any = ot.emd2([], [], cost.numpy())
    exact, epsilon = float(optimum), 0.005
    # entries of exp(-C / epsilon) fall below the smallest number, and plain scaling divides by nothing
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        plain: Any = ot.sinkhorn([], [], cost.numpy(), epsilon, method="sinkhorn")
    assert not abs((plain * cost.numpy()).sum() - exact) < 0.01 * exact
    for anneal in (True, False):
        plan = sinkhorn(cost.to(dtype), epsilon, scaling=Scaling(anneal=anneal))
        assert bool(plan.converged) and plan.f.dtype == dtype
        assert float(plan.figures()[0]) == pytest.approx(exact, rel=0.01)


def test_plan_between_normals_on_a_grid_is_the_closed_form() -> None:
    """For d^2 / 2 the covariance c across plans of N(0, s) and N(0, t) solves c^2 + epsilon c - s t = 0."""
    x = torch.linspace(-8, 8, 400, dtype=DOUBLE)
    first, second = (torch.exp(-0.5 * x.square() / v) for v in (1.0, 0.5))
    first, second = first / first.sum(), second / second.sum()
    cost = 0.5 * (x[:, None] - x).square()
    for epsilon in (0.1, 1.0):
        plan = sinkhorn(cost, epsilon, first, second, scaling=Scaling(tolerance=1e-11)).log_plan().exp()
        c = 0.5 * (math.sqrt(epsilon**2 + 4 * 0.5) - epsilon)
        assert float(x @ plan @ x) == pytest.approx(c, abs=1e-8)


def test_marginals_are_met_within_the_tolerance_and_rows_exactly() -> None:
    cost, a, b = table(60, 45).float(), shares(60).float(), shares(45, 1).float()
    for tolerance in (1e-1, 1e-3):
        plan = sinkhorn(cost, 0.05, a, b, scaling=Scaling(tolerance=tolerance))
        p = plan.log_plan().double().exp()
        off = float((p.sum(0) - b / b.sum()).abs().sum())
        assert bool(plan.converged) and off < tolerance
        # single precision of potentials of size 10 over an epsilon of 0.05
        assert off == pytest.approx(float(plan.marginal_error), abs=1e-4)
        assert torch.allclose(p.sum(1).float(), a / a.sum(), rtol=1e-3)


def test_points_with_gradients_are_paired_without_them() -> None:
    x0, x1 = clouds(10, 10)
    plain = SinkhornOT().pair(x0, x1, gen()).indices
    first, second = SinkhornOT()(x0.requires_grad_(), x1, gen())
    assert first.requires_grad and not second.requires_grad
    assert torch.equal(plain, SinkhornOT().pair(x0, x1, gen()).indices)
    assert not sinkhorn((x0[:, None] - x1).square().sum(2), 1.0).f.requires_grad


def test_masses_of_zero_get_nothing() -> None:
    a, b = weights(12), weights(9, 1)
    a[3], b[4], b[5] = 0, 0, 0
    a, b = a / a.sum(), b / b.sum()
    p = sinkhorn(table(12, 9), 0.1, a, b, scaling=Scaling(tolerance=1e-10)).log_plan().exp()
    assert torch.allclose(p.sum(1), a / a.sum(), atol=1e-12) and torch.allclose(
        p.sum(0), b / b.sum(), atol=1e-9
    )


def test_a_batch_gives_what_its_plans_give_alone() -> None:
    costs = torch.stack([table(30, 40, seed) for seed in range(4)]).reshape(2, 2, 30, 40)
    epsilon = torch.tensor([[0.5, 0.02], [0.1, 3.0]], dtype=DOUBLE)
    many = sinkhorn(costs, epsilon)
    assert len(set(many.iterations.flatten().tolist())) > 1, "the plans should need different times"
    drawn = many.partners([gen(k) for k in range(4)])
    for k, (i, j) in enumerate(itertools.product(range(2), range(2))):
        alone = sinkhorn(costs[i, j], epsilon[i, j])
        for name in ("f", "g", "iterations", "marginal_error"):
            assert torch.equal(getattr(alone, name), getattr(many, name)[i, j])
        assert torch.equal(alone.log_plan(), many.log_plan()[i, j])
        assert torch.equal(alone.partners(gen(k)), drawn[i, j])
        assert float(many.entropy()[i, j]) == pytest.approx(float(alone.entropy()), abs=1e-12)


def test_relaxation_annealing_and_a_warm_start_save_iterations() -> None:
    cost = table(150, 150)
    plans = {
        "both": sinkhorn(cost, 0.01),
        "not relaxed": sinkhorn(cost, 0.01, scaling=Scaling(relax=False)),
        "not annealed": sinkhorn(cost, 0.01, scaling=Scaling(anneal=False, relax=False)),
    }
    warm = sinkhorn(cost, 0.01, scaling=Scaling(init=(plans["both"].f, plans["both"].g)))
    counts = [int(plan.iterations) for plan in (warm, *plans.values())]
    assert all(bool(plan.converged) for plan in plans.values())
    assert counts[0] == 0 and 2 * counts[1] < counts[2] < counts[3]


def test_relaxation_goes_on_from_one_kernel_to_the_next() -> None:
    cost = table(100, 100)
    epsilon = 0.003 * float(cost.std())
    fast = sinkhorn(cost, epsilon, scaling=Scaling(tolerance=1e-6))
    slow = sinkhorn(
        cost, epsilon, scaling=Scaling(tolerance=1e-6, relax=False, max_iterations=4 * int(fast.iterations))
    )
    assert bool(fast.converged) and not bool(slow.converged)
    # starting afresh at every kernel would take more than twice as many
    assert int(fast.iterations) < 1200


def test_a_start_far_off_and_float32_at_a_tiny_epsilon_recover() -> None:
    cost = table(64, 64).float()
    exact = ot.emd2([], [], cost.double().numpy())
    bad = torch.zeros(64), 100 * torch.randn(64, generator=gen())
    plan = sinkhorn(cost, 0.01, scaling=Scaling(init=bad, max_iterations=20_000))
    assert bool(plan.converged) and float(plan.figures()[0]) == pytest.approx(exact, rel=0.01)


def test_an_unfinished_plan_says_so() -> None:
    plan = sinkhorn(table(50, 50), 0.01, scaling=Scaling(max_iterations=16))
    assert not bool(plan.converged) and int(plan.iterations) == 16
    p = plan.log_plan().exp()
    # it is a plan at the epsilon asked for nevertheless, with right rows
    assert torch.allclose(p.sum(1), torch.full((50,), 0.02, dtype=DOUBLE), atol=1e-12)
    assert float((p.sum(0) - 0.02).abs().sum()) == pytest.approx(float(plan.marginal_error), abs=1e-9)
    assert float(plan.marginal_error) > 1e-3


def test_a_small_epsilon_is_right_or_says_that_it_is_not() -> None:
    for n, m, seed in ((100, 100, 0), (60, 60, 1), (60, 75, 4)):
        cost = table(n, m, seed)
        exact = ot.emd2([], [], cost.numpy())
        plan = sinkhorn(cost, 1e-5 * float(cost.max()), scaling=Scaling(max_iterations=2000))
        # the marginals may miss by a thousandth, each part of which costs less than the range
        slack = float(plan.marginal_error) * float(cost.max() - cost.min())
        assert float(plan.figures()[0]) == pytest.approx(exact, abs=slack)
    with pytest.warns(UserWarning, match="take the exact plan"):
        sinkhorn(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.4, 0.5]]), 1e-6, scaling=Scaling(tolerance=1e-12))


def test_entropy_runs_from_a_permutation_to_independence() -> None:
    cost = table(64, 64)
    entropies = [float(sinkhorn(cost, epsilon).entropy()) for epsilon in (1e-4, 0.1, 1.0, 1e4)]
    assert entropies == sorted(entropies)
    assert entropies[0] < 0.05 and entropies[-1] == pytest.approx(1, abs=1e-6)
    assert float(sinkhorn(table(5, 1), 0.1).entropy()) == 0


def test_partners_have_the_law_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = sinkhorn(table(6, 5), 1.0)
    distribution = (plan.log_plan().exp() / plan.rows[:, None]).numpy()
    g, draws = gen(), 4000
    partners = torch.stack([plan.partners(g) for _ in range(draws)])
    for i in range(6):
        share = np.bincount(partners[:, i].numpy(), minlength=5) / draws
        # five standard errors of a share
        assert (
            np.abs(share - distribution[i])
            < 5 * np.sqrt(distribution[i] * (1 - distribution[i]) / draws) + 1e-12
        ).all()
    # rows draw independently of each other
    alike = sinkhorn(torch.tensor([[0.0, 1.0]], dtype=DOUBLE).expand(draws, 2), 1.0)
    chosen = alike.partners(gen()).double().mean()
    assert float(chosen) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(draws))
    one = plan.partners(gen(3))
    monkeypatch.setattr("pushforward.plans.entropic.CHUNK", 10)  # two rows at a time
    assert torch.equal(plan.partners(gen(3)), one)
    assert torch.allclose(plan.entropy(), sinkhorn(table(6, 5), 1.0).entropy())


# -- unbalanced and partial --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "a,b,cost,rho,epsilon", [(1, 1, 1, 1, 0.1), (0.3, 2, 0.7, 0.5, 0.2), (5, 0.1, 3, 2, 0.01)]
)
def test_two_points_keep_the_mass_of_the_closed_form(a, b, cost, rho, epsilon) -> None:
    masses = (torch.tensor([m], dtype=DOUBLE) for m in (a, b))
    plan = unbalanced(
        torch.tensor([[cost]], dtype=DOUBLE), epsilon, rho, *masses, scaling=Scaling(tolerance=1e-12)
    )
    # stationary point of pi C + epsilon KL(pi | a b) + rho KL(pi | a) + rho KL(pi | b) in one number pi
    mass = (a * b) ** ((rho + epsilon) / (2 * rho + epsilon)) * math.exp(-cost / (2 * rho + epsilon))
    assert float(plan.mass()) == pytest.approx(mass, rel=1e-10)
    assert float(plan.log_plan().exp()) == pytest.approx(mass, rel=1e-10)


@pytest.mark.parametrize("rho", [0.1, 1.0, 20.0])
def test_unbalanced_plan_is_that_of_pot(rho: float) -> None:
    cost, a, b = table(30, 35), 3 * weights(30), weights(35, 1)
    plan = unbalanced(cost, 0.3, rho, a, b, scaling=Scaling(tolerance=1e-11))
    truth = ot.unbalanced.sinkhorn_unbalanced(
        a.numpy(), b.numpy(), cost.numpy(), 0.3, rho, reg_type="kl", numItermax=100_000, stopThr=1e-14
    )
    assert bool(plan.converged)
    assert np.abs(plan.log_plan().exp().numpy() - truth).max() < 1e-7 * truth.max()
    assert float(plan.mass()) == pytest.approx(truth.sum(), rel=1e-8)


def test_a_large_rho_gives_the_balanced_plan() -> None:
    cost = table(40, 40)
    free, held = (
        unbalanced(cost, 0.5, 1e6, scaling=Scaling(tolerance=1e-9)),
        sinkhorn(cost, 0.5, scaling=Scaling(tolerance=1e-9)),
    )
    # without its best constant the potentials would creep by 1 / rho an update
    assert bool(free.converged) and int(free.iterations) < 500
    # the marginals give way by about the cost over rho
    assert torch.allclose(free.log_plan().exp(), held.log_plan().exp(), rtol=1e-3, atol=1e-7)


def test_unbalanced_pairs_follow_the_plan() -> None:
    x0, x1 = clouds(8, 6)
    x1[-1] = 30.0
    table = ot.dist(x0.numpy(), x1.numpy())
    plan = unbalanced(torch.from_numpy(table), 1.0, 2.0)
    distribution = (plan.log_plan().exp() / plan.mass()).numpy()
    g, counts, draws = gen(), np.zeros((8, 6)), 2000
    for _ in range(draws):
        np.add.at(counts, tuple(plan.pairs(8, g).T.numpy()), 1)
    # five standard errors of independent draws; evenly spread rows only lower them
    assert (
        np.abs(counts / (8 * draws) - distribution) < 5 * np.sqrt(distribution / (8 * draws)) + 1e-12
    ).all()
    coupling = UnbalancedOT(1.0, 2.0, relative=False)
    pairing = coupling.pair(x0, x1, gen(7))
    assert torch.equal(pairing.indices, plan.pairs(8, gen(7))) and int(pairing.indices[:, 1].max()) < 5
    assert pairing.info["mass"] == pytest.approx(float(plan.mass()), rel=1e-6)
    assert pairing.info["cost"] == pytest.approx((distribution * table).sum(), rel=1e-6)
    heavy = Rows(x0, weight=torch.full((8,), 2.0))
    assert coupling.pair(heavy, x1, gen()).info["mass"] > pairing.info["mass"]


# -- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call,match",
    [
        (lambda: sinkhorn(torch.zeros(2, 2), 0.0), "epsilon: expected positive"),
        (lambda: sinkhorn(torch.zeros(2, 2), math.nan), "epsilon: expected positive"),
        (lambda: sinkhorn(torch.zeros(3, 2, 2), torch.ones(2)), "epsilon: expected a number or shape"),
        (lambda: sinkhorn(torch.zeros(2, 2), 1.0, scaling=Scaling(tolerance=0)), "tolerance"),
        (lambda: sinkhorn(torch.zeros(2, 2), 1.0, scaling=Scaling(max_iterations=0)), "max_iterations"),
        (lambda: sinkhorn(torch.zeros(2, 2, dtype=torch.int64), 1.0), "cost: expected a float32"),
        (lambda: sinkhorn(torch.zeros(2, 2, dtype=torch.float16), 1.0), "cost: expected a float32"),
        (lambda: sinkhorn(torch.zeros(2), 1.0), "cost: expected a float32"),
        (lambda: sinkhorn(torch.full((2, 2), math.nan), 1.0), "cost: expected finite"),
        (lambda: sinkhorn(torch.zeros(2, 2), 1.0, torch.ones(3)), "a: expected 2 masses"),
        (lambda: sinkhorn(torch.zeros(2, 2), 1.0, None, torch.tensor([1.0, -1.0])), "b: expected finite"),
        (lambda: sinkhorn(torch.zeros(2, 2), 1.0, torch.zeros(2)), "a: expected finite"),
        (lambda: unbalanced(torch.zeros(2, 2), 1.0, 0.0), "rho: expected a positive"),
        (lambda: unbalanced(torch.zeros(2, 2), 1.0, math.inf), "rho: expected a positive finite"),
        (
            lambda: sinkhorn(torch.zeros(2, 2), 1.0, torch.ones(2), 2 * torch.ones(2)),
            "a, b: expected masses of equal",
        ),
        (lambda: partial(torch.zeros(2, 2), 1.5), "mass: expected a share"),
        (lambda: partial(torch.full((2, 2), math.inf), 0.5), "cost: expected a finite"),
        (lambda: partial(torch.zeros(2, 2), 0.5, torch.ones(3)), "a: expected 2 masses"),
        (lambda: partial(torch.zeros(2, 2), 0.5, None, torch.zeros(2)), "b: expected finite"),
        (lambda: SinkhornOT(0.0), "epsilon: expected a positive"),
        (lambda: SinkhornOT(-1.0), "epsilon: expected a positive"),
        (lambda: SinkhornOT(tolerance=0.0), "tolerance"),
        (lambda: SinkhornOT(max_iterations=0), "max_iterations"),
        (lambda: UnbalancedOT(0.1, 0.0), "rho: expected a positive"),
        (lambda: PartialOT(0.0), "mass: expected a share"),
        (lambda: SinkhornOT().pair(torch.full((2, 1), math.nan), torch.zeros(2, 1)), "finite values"),
        (
            lambda: SinkhornOT().pair(Rows(torch.zeros(2, 1), weight=-torch.ones(2)), torch.zeros(2, 1)),
            "source.wei",
        ),
        (
            lambda: UnbalancedOT().pair(torch.zeros(2, 1), Rows(torch.zeros(2, 1), weight=torch.zeros(2))),
            "target.w",
        ),
        (
            lambda: PartialOT().pair(torch.zeros(2, 1), Rows(torch.zeros(2, 1), weight=torch.ones(3))),
            "target.weight",
        ),
        (lambda: SinkhornOT().pair(torch.zeros(2, 1), torch.zeros(2, 3)), "equal events"),
    ],
)
def test_bad_input_is_named(call, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize(
    "coupling", [SinkhornOT(), UnbalancedOT(), PartialOT()], ids=lambda c: type(c).__name__
)
def test_clouds_without_rows_and_of_other_events_are_refused(coupling):
    with pytest.raises(ValueError, match="at least one row each"):
        coupling.pair(torch.zeros(0, 2), torch.zeros(0, 2))
    with pytest.raises(ValueError, match="expected equal events"):
        coupling.pair(torch.zeros(3, 2), torch.zeros(3, 4))


@pytest.mark.parametrize("dim", [1, 2, 10])
def test_a_regularisation_of_nothing_has_the_cost_of_the_exact_plan(dim: int) -> None:
    """epsilon = 1e-5 of the costs' range: what regularisation may add is epsilon log n, 5e-5 of the range."""
    g = torch.Generator().manual_seed(dim)
    x, y = (torch.randn(64, dim, generator=g, dtype=torch.float64) for _ in range(2))
    cost = torch.cdist(x, y + 1).square()
    span = float(cost.max() - cost.min())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = sinkhorn(cost, 1e-5 * span)
    right = float(ot.emd2(np.full(64, 1 / 64), np.full(64, 1 / 64), cost.numpy()))  # type: ignore[arg-type]
    # the error of the marginals is 1e-4 of the mass, which moves over a part of the range
    assert bool(plan.converged) and abs(float((plan.log_plan().exp() * cost).sum()) - right) < 1e-3 * right
