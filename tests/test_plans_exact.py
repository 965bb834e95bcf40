"""Exact plans against POT, SciPy, all permutations, sorting and order statistics."""

import importlib
import itertools
import math

import numpy as np
import ot
import pytest
import scipy.stats
import torch
from scipy.integrate import dblquad, quad
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from narrowing import known
from pushforward import random
from pushforward.couplings import MinibatchOT, Rows
from pushforward.plans import exact, exact_of_costs, sparse, squared_distances
from pushforward.plans.pricing import MOST, Costs

DOUBLE = torch.float64


def draw(*shape, seed=0):
    return random.normal(shape, random.seeded("exact plans", seed), DOUBLE)


def two_rings(n, d=2, seed=0):
    """A normal cloud and eight normal spots on a circle: the plan tears the cloud apart."""
    g = random.seeded("rings", seed)
    angle = torch.randint(8, (n,), generator=g) * (math.pi / 4)
    spots = torch.zeros(n, d, dtype=DOUBLE)
    spots[:, 0], spots[:, 1] = 5 * angle.cos(), 5 * angle.sin()
    return random.normal((n, d), g, DOUBLE), spots + 0.3 * random.normal((n, d), g, DOUBLE)


def least_cost(x, y):
    """The optimal mean cost of equally many rows by SciPy, which has another algorithm than the library."""
    cost = cdist(x.numpy(), y.numpy(), "sqeuclidean")
    return float(cost[linear_sum_assignment(cost)].mean())


def cost_of(x, y, permutation):
    assert torch.equal(permutation.sort().values, torch.arange(len(x)))
    return float((x - y[permutation]).square().sum(1).mean())


# -- equal sizes: permutations ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_all_permutations(n):
    x, y = draw(n, 3), draw(n, 3, seed=1)
    plan = exact(x, y)
    truth = min(
        (x - y[list(order)]).square().sum(1).mean().item() for order in itertools.permutations(range(n))
    )
    assert plan.cost == pytest.approx(truth, rel=1e-12)
    assert cost_of(x, y, plan.permutation) == pytest.approx(truth, rel=1e-12)
    assert torch.equal(plan.pairs(n), torch.stack([torch.arange(n), known(plan.permutation)], 1))


@pytest.mark.parametrize("n", [150, 1100])
def test_the_line_is_sorted(n):
    x, y = draw(n, 1), 2 * draw(n, 1, seed=1) + 3
    truth = ot.wasserstein_1d(x[:, 0].numpy(), y[:, 0].numpy(), p=2)
    assert exact(x, y).cost == pytest.approx(truth, rel=1e-12)
    # the same line in the plane takes the general way
    flat = [torch.cat([z, torch.zeros_like(z)], 1) for z in (x, y)]
    assert exact(*flat).cost == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("n, d", [(200, 2), (1400, 2), (1100, 3), (1050, 12)])
def test_against_pot_over_all_pairs(n, d):
    x, y = two_rings(n, d)
    plan = exact(x, y)
    truth = ot.emd2([], [], cdist(x.numpy(), y.numpy(), "sqeuclidean"), numItermax=10**8)
    assert plan.cost == pytest.approx(truth, abs=1e-8)
    assert cost_of(x, y, plan.permutation) == pytest.approx(truth, abs=1e-8)


def test_neither_the_order_of_rows_nor_offset_nor_unit_matters():
    x, y = ((z * 1024).round() / 1024 for z in two_rings(1100))
    plan = exact(x, y)
    shuffled = torch.randperm(1100, generator=torch.Generator().manual_seed(0))
    permutation = known(plan.permutation)
    assert torch.equal(known(exact(x[shuffled], y).permutation), permutation[shuffled])
    # multiples of 1/1024 keep all their digits when 2^20 is added
    far = exact(x + 2.0**20, y + 2.0**20)
    assert torch.equal(known(far.permutation), permutation)
    assert far.cost == pytest.approx(plan.cost, abs=1e-9)
    for small in (200, 1100):
        near = exact(x[:small], y[:small])
        for unit in (1e-9, 1e9):
            scaled = exact(x[:small] * unit, y[:small] * unit)
            assert scaled.cost / unit**2 == pytest.approx(near.cost, rel=1e-12)
    # only one side far away: the plan is the same, the cost that of the distance
    assert torch.equal(known(exact(x, y + 2.0**20).permutation), permutation)


CLOUDS = {
    "repeated targets": lambda x, y: (x, y[torch.arange(len(y)) % 37]),
    "repeated on both sides": lambda x, y: (x[torch.arange(len(x)) % 500], y[torch.arange(len(y)) % 700]),
    "on a lattice": lambda x, y: ((4 * x).round() / 4, (2 * y).round() / 2),
    "one point": lambda x, y: (x * 0, y * 0 + 1),
    "one point to many": lambda x, y: (x * 0, y),
    "the same rows": lambda x, y: (x, x.flip(0)),
    "a shift": lambda x, y: (x, x.flip(0) + 0.5),
    "heavy tails": lambda x, y: (x / y[:, :1].abs(), y / x[:, :1].abs()),
    "one outlier": lambda x, y: (x, torch.cat([y[1:], 1e4 + y[:1]])),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_awkward_clouds(name):
    x, y = CLOUDS[name](draw(1050, 2), draw(1050, 2, seed=1))
    assert cost_of(x, y, exact(x, y).permutation) == pytest.approx(least_cost(x, y), rel=1e-9, abs=1e-12)


def test_small_clouds_take_the_sparse_way_too():
    for n in (1, 2, 3, 10, 65, 200, 400):
        x, y = two_rings(n, seed=n)
        found = torch.from_numpy(sparse.assignment(x.numpy(), y.numpy()))
        assert cost_of(x, y, found) == pytest.approx(least_cost(x, y), rel=1e-12)


def test_a_search_that_does_not_end_gives_way_to_all_pairs(monkeypatch):
    x, y = two_rings(1100)
    truth = exact(x, y).cost
    # the module, which in the package stands behind the function of its name
    module = importlib.import_module("pushforward.plans.exact")
    monkeypatch.setattr(module, "assignment", lambda x, y: None)
    assert exact(x, y).cost == pytest.approx(truth, rel=1e-12)


def test_reduced_costs_are_searched_completely():
    x, y = draw(300, 3).numpy(), draw(260, 3, seed=1).numpy()
    u, v = draw(300, seed=2).numpy(), draw(260, seed=3).numpy()
    table = cdist(x, y, "sqeuclidean") - u[:, None] - v
    for costs in (Costs(x, y), Costs(np.tile(x, 4) / 2, np.tile(y, 4) / 2)):
        assert (costs.table is not None) == (costs.x.shape[1] > 8)
        level = np.sort(table.ravel())[3000:3002].mean()
        np.testing.assert_array_equal(costs.below(u, v, level), np.flatnonzero(table < level))
        np.testing.assert_allclose(costs.column_minima(u), (table + v).min(0), atol=1e-12)
        np.testing.assert_allclose(costs.row_minima(v), (table + u[:, None]).min(1), atol=1e-12)
        # where nearly all pairs are below, those kept are the lowest of each row
        kept = costs.below(u, v, table.max())
        rows, columns = np.divmod(kept, 260)
        assert (np.bincount(rows) == MOST).all()
        lowest = np.sort(table, 1)[:, MOST - 1]
        assert (table[rows, columns] <= lowest[rows] + 1e-12).all()


def far(kind, n):
    """Clouds with rows so far out that costs of the others are lost beside theirs in double precision."""
    x, y = draw(n, 2), 1 + draw(n, 2, seed=1)
    if kind == "one side":
        x[0] = 1e8
    if kind == "both sides":
        x[0] = y[0] = 1e8
    if kind == "apart":
        x[0], y[3] = 1e8, -1e8
    if kind == "half":
        x[: n // 2] += 2.0**26
        y[: n // 2] += 2.0**26
    return x, y


@pytest.mark.parametrize("n", [90, 700])
@pytest.mark.parametrize("kind", ["one side", "both sides", "apart", "half"])
def test_far_rows_leave_the_others_their_pairs(kind, n):
    x, y = far(kind, n)
    permutation = known(exact(x, y).permutation)
    near = torch.ones(n, dtype=torch.bool)
    if kind == "half":
        near[: n // 2] = False
        assert bool((permutation[~near] < n // 2).all())
    else:
        near[0] = False
        near[permutation == (3 if kind == "apart" else -1)] = False
    rows, columns = x[near], y[permutation[near]]
    cost = cdist(rows.numpy(), columns.numpy(), "sqeuclidean")
    best = cost[linear_sum_assignment(cost)].sum()
    assert float((rows - columns).square().sum()) == pytest.approx(best, rel=1e-9)


def test_costs_of_the_user_with_one_huge_entry():
    cost = draw(60, 60).square()
    truth = cost.numpy()[linear_sum_assignment(cost.numpy())].mean()
    order = linear_sum_assignment(cost.numpy())[1]
    huge = cost.clone()
    huge[0, (order[0] + 1) % 60] = 1e18
    assert exact_of_costs(huge).cost == pytest.approx(truth, rel=1e-9)
    # and a row and a column that are dear to all
    huge = cost.clone()
    huge[5] += 1e14
    huge[:, 7] += 1e14
    with pytest.warns(UserWarning, match="costs differ too much in size"):
        plan = exact_of_costs(huge)
    got = cost[plan.rows, plan.columns].mean()
    # costs of 1e14 have no digit below 1/64 themselves
    assert float(got) == pytest.approx(truth, abs=2 / 64 / 60)


def test_near_distances_keep_their_digits_beside_far_rows():
    x, y = draw(40, 3), draw(30, 3, seed=1)
    for size in (1e3, 1e8, 1e14):
        x[0] = y[0] = size
        y[1] = size * (1 + 1e-9)
        truth = cdist(x.numpy(), y.numpy(), "sqeuclidean")
        np.testing.assert_allclose(squared_distances(x, y), truth, rtol=1e-9)
        # a mask that hides nothing
        mask = torch.ones(40, 3, dtype=torch.bool)
        np.testing.assert_allclose(squared_distances(x, y, mask), truth, rtol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_lines_of_unequal_sizes_against_pot(weighted):
    x, y = draw(23, 1), 2 * draw(31, 1, seed=1)
    a, b = (draw(k, seed=k).abs() for k in (23, 31))
    a[3] = b[0] = 0.0
    a, b = (a / a.sum(), b / b.sum()) if weighted else (None, None)
    plan = exact(x, y, a, b)
    left, right = (np.full(k, 1 / k) if w is None else w.numpy() for w, k in ((a, 23), (b, 31)))
    truth = ot.emd2(left, right, cdist(x.numpy(), y.numpy(), "sqeuclidean"))
    assert plan.cost == pytest.approx(truth, rel=1e-9)
    np.testing.assert_allclose(plan.dense().sum(1), left, atol=1e-14)
    np.testing.assert_allclose(plan.dense().sum(0), right, atol=1e-14)


# -- masses and unequal sizes ------------------------------------------------------------------------------


def test_masses_against_pot():
    x, y = draw(30, 2), draw(45, 2, seed=1)
    a, b = draw(30, seed=2).abs(), draw(45, seed=3).abs()
    b[4] = 0.0
    plan = exact(x, y, 3 * a / a.sum(), 3 * b / b.sum())
    first, second = (a / a.sum()).numpy(), (b / b.sum()).numpy()
    truth = ot.emd2(first, second, cdist(x.numpy(), y.numpy(), "sqeuclidean"))
    assert plan.cost == pytest.approx(truth, rel=1e-10)
    np.testing.assert_allclose(plan.dense().sum(1), first, atol=1e-12)
    np.testing.assert_allclose(plan.dense().sum(0), second, atol=1e-12)
    assert plan.permutation is None
    assert float((plan.dense() * squared_distances(x, y)).sum()) == pytest.approx(truth, rel=1e-10)


def test_drawn_pairs_follow_the_plan():
    x, y, a = draw(6, 2), draw(9, 2, seed=1), torch.arange(1.0, 7.0)
    plan = exact(x, y, a)
    count, draws = 500, 60
    total = torch.zeros(6, 9, dtype=DOUBLE)
    for seed in range(draws):
        rows, columns = plan.pairs(count, random.seeded("pairs", seed)).unbind(1)
        drawn = torch.zeros(6, 9, dtype=DOUBLE).index_put_(
            (rows, columns), torch.tensor(1.0, dtype=DOUBLE), accumulate=True
        )
        # systematic draws: each pair and each row is drawn its mass times count, rounded up or down
        assert float((drawn - count * plan.dense()).abs().max()) < 1 + 1e-9
        assert float((drawn.sum(1) - count * plan.dense().sum(1)).abs().max()) < 1 + 1e-9
        total += drawn
    # and unbiased: a count of fractional part f has variance f (1 - f) <= 1/4; five standard errors
    assert float((total / draws - count * plan.dense()).abs().max()) < 5 * 0.5 / math.sqrt(draws)
    assert torch.equal(plan.pairs(20, random.seeded(1)), plan.pairs(20, random.seeded(1)))
    assert not torch.equal(plan.pairs(20, random.seeded(1)), plan.pairs(20, random.seeded(3)))


def test_any_costs():
    cost = draw(40, 40)
    plan = exact_of_costs(cost)
    assert plan.cost == pytest.approx(float(cost.numpy()[linear_sum_assignment(cost.numpy())].mean()))
    assert torch.equal(known(plan.permutation).sort().values, torch.arange(40))
    assert exact_of_costs(torch.full((3, 3), 7.0)).cost == pytest.approx(7.0)


# -- masks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", ["target", "source", "both"])
def test_masked_costs_against_a_loop(masked):
    """Sequences (T, F) with a mask over T that stands for F; padding holds NaN."""
    x, y = draw(7, 5, 2) + 1e6, draw(9, 5, 2, seed=1) + 1e6
    p, q = (draw(n, 5, seed=2 + n) > -0.5 for n in (7, 9))
    q[3] = False
    truth = np.zeros((7, 9))
    for i, j, t in itertools.product(range(7), range(9), range(5)):
        if (masked == "target" or p[i, t]) and (masked == "source" or q[j, t]):
            truth[i, j] += float((x[i, t] - y[j, t]).square().sum())
    masks = {}
    if masked != "target":
        masks["x_mask"], x = p, torch.where(p[..., None], x, torch.nan)
    if masked != "source":
        masks["y_mask"], y = q, torch.where(q[..., None], y, torch.nan)
    np.testing.assert_allclose(squared_distances(x, y, **masks), truth, rtol=1e-9, atol=1e-9)
    plan = exact(x, y, **masks)
    assert plan.cost == pytest.approx(ot.emd2([], [], truth), rel=1e-8)


def test_coupling_ignores_padding():
    x, y = draw(20, 6), draw(20, 6, seed=1)
    mask = torch.arange(6).expand(20, 6) < 4
    padded = torch.where(mask, y, torch.nan)
    pairing = MinibatchOT().pair(x, Rows(padded, mask=mask))
    truth = MinibatchOT().pair(x[:, :4], y[:, :4])
    assert torch.equal(pairing.indices, truth.indices)
    assert pairing.info["cost"] == pytest.approx(truth.info["cost"], rel=1e-12)


def test_squared_distances_keep_their_digits_far_away():
    x, y = draw(30, 4), draw(20, 4, seed=1)
    x, y = ((z * 1024).round() / 1024 for z in (x, y))
    truth = cdist(x.numpy(), y.numpy(), "sqeuclidean")
    for offset in (0.0, 1000.0, 2.0**20):
        np.testing.assert_allclose(squared_distances(x + offset, y + offset), truth, atol=1e-9)
    single = squared_distances((x + 1000).float(), (y + 1000).float())
    assert single.dtype == DOUBLE


# -- minibatches of normal distributions
# ------------------------------------------------------------------------------


def expected_cost(n):
    """E of the mean cost of an optimal pairing of n draws of N(0, 1) with n others: sum_i 2 Var x_(i) / n.

    As sum_i E x_(i)^2 = n, only the means of the order statistics are needed, by quadrature.
    """
    normal = scipy.stats.norm

    def mean(i):
        factor = n * math.comb(n - 1, i)
        return quad(
            lambda z: z * factor * normal.cdf(z) ** i * normal.sf(z) ** (n - 1 - i) * normal.pdf(z), -12, 12
        )[0]

    return 2 * (n - sum(mean(i) ** 2 for i in range(n))) / n


def test_expected_cost_itself():
    assert expected_cost(1) == pytest.approx(2.0)
    assert expected_cost(2) == pytest.approx(2 * (1 - 1 / math.pi), rel=1e-8)
    # E max(z1, z2)^2 = 1, and the larger of two has this mean
    larger = dblquad(lambda a, b: max(a, b) * math.exp(-(a * a + b * b) / 2) / (2 * math.pi), -8, 8, -8, 8)[0]
    assert expected_cost(2) == pytest.approx(2 * (1 - larger**2), rel=1e-3)


@pytest.mark.parametrize("n", [2, 16])
def test_minibatch_cost_is_that_of_order_statistics(n):
    coupling, g = MinibatchOT(), random.seeded("order statistics", n)
    costs = torch.tensor(
        [
            coupling.pair(x0, x1).info["cost"]
            for x0, x1 in (random.normal((2, n, 1), g, DOUBLE) for _ in range(3000))
        ]
    )
    # five standard errors of the mean of 3,000 independent batches
    assert abs(float(costs.mean()) - expected_cost(n)) < 5 * float(costs.std()) / math.sqrt(3000)


# -- mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message, call",
    [
        ("a: expected 3 masses", lambda x: exact(x, x, torch.ones(2))),
        ("b: expected finite non-negative", lambda x: exact(x, x, None, torch.tensor([1.0, -1.0, 1.0]))),
        ("a: expected finite non-negative", lambda x: exact(x, x, torch.zeros(3))),
        ("a: expected finite non-negative", lambda x: exact(x, x, torch.tensor([1.0, math.nan, 1.0]))),
        (
            "source.weight: expected 3 finite non-negative",
            lambda x: MinibatchOT().pair(Rows(x, weight=torch.zeros(3)), x),
        ),
        ("x, y: expected equal events", lambda x: exact(x, x[:, :1])),
        ("x: expected at least one row", lambda x: exact(x[:0], x)),
        ("y: expected finite values", lambda x: exact(x, x / 0)),
        ("a, b: expected masses of equal sums, got 3 and 6", lambda x: exact(x, x, x[:, 0], 2 * x[:, 0])),
        ("x, y: expected finite values whose squares", lambda x: squared_distances(x, x * 1e200 * 1e30)),
        (
            "x, y: 6,000 and 5,999 rows need a table of 275",
            lambda x: exact(*(x[:1].expand(n, 2) for n in (6000, 5999))),
        ),
        ("cost: expected finite values", lambda x: exact_of_costs(x / 0)),
        ("cost: expected \\(n, m\\)", lambda x: exact_of_costs(x[0])),
        ("x_mask: expected the first", lambda x: exact(x, x, x_mask=torch.ones(2, dtype=torch.bool))),
        ("x, y: expected equal events", lambda x: squared_distances(x, x[:, :1])),
    ],
)
def test_mistakes(message, call):
    with pytest.raises(ValueError, match=message):
        call(torch.ones(3, 2))
