"""Semidiscrete transport against quantiles, exact plans, exhaustive search and a known multinomial."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import ot
import pytest
import scipy.stats
import torch

from pushforward import registry
from pushforward.couplings import Rows, SemidiscreteOT
from pushforward.metrics.baselines import linear_gaussian
from pushforward.plans import chi_square
from pushforward.plans.heights import refine_heights
from pushforward.plans.search import DenseSearch, TangentSearch, partition
from pushforward.sources import Empirical, Normal

DOUBLE = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=gen(seed))


@pytest.fixture(scope="module")
def plane() -> tuple[torch.Tensor, SemidiscreteOT]:
    """Forty points in the plane, in three clumps, and a coupling fitted to them."""
    clumps = torch.tensor([[-4.0, 0.0], [3.0, 3.0], [3.0, -3.0]], dtype=DOUBLE)
    data = clumps[torch.arange(40) % 3] + 0.3 * normal(40, 2)
    return data, SemidiscreteOT(tolerance=1e-3).fit(Normal(2), data, gen())


# -- the fit -------------------------------------------------------------------------------------------


def test_two_atoms_on_the_line_are_split_at_the_quantile():
    """x goes to -1 where g_- - x > g_+ + x, so that (g_- - g_+) / 2 is the quantile of the share of -1."""
    data = Rows(torch.tensor([[-1.0], [1.0]], dtype=DOUBLE), weight=torch.tensor([0.3, 0.7]))
    fitted = SemidiscreteOT(tolerance=2e-5).fit(Normal(1), data, gen())
    assert fitted.info["converged"] and fitted.potentials is not None
    # chi^2 = (p - .3)^2 / (.3 x .7), and dp is the normal density, .348, times the error
    error = math.sqrt(2e-5 * 0.21) / scipy.stats.norm.pdf(scipy.stats.norm.ppf(0.3))
    found = float(fitted.potentials[0] - fitted.potentials[1]) / 2
    assert abs(found - scipy.stats.norm.ppf(0.3)) < 1.5 * error
    # E|x - y|^2 = E x^2 + 1 - 2 E[x y] with E[x y] = 2 pdf(quantile); 500,000 draws of it deviate by .003
    assert fitted.info["cost"] == pytest.approx(
        2 - 4 * scipy.stats.norm.pdf(scipy.stats.norm.ppf(0.3)), abs=0.02
    )
    assert abs(float(fitted.potentials @ torch.tensor([0.3, 0.7], dtype=DOUBLE))) < 1e-7


def test_cells_have_the_masses_of_the_weights(plane):
    data, fitted = plane
    x = Normal(2).sample(200_000, generator=gen(5))
    chosen = fitted.pair(x, data).indices[:, 1].bincount(minlength=40).double()
    # chi^2 was at most 1e-3 up to its own noise; a sum of squares of 200,000 draws adds 40 / 200,000
    assert float((40 * (chosen / 200_000) - 1).square().mean()) < 2 * 1e-3 + 40 / 200_000
    assert fitted.info["chi_square"] < 1e-3


def test_many_atoms_start_from_fewer_and_converge():
    data = torch.cat([normal(600, 2), 0.1 * normal(400, 2, seed=1) + 5])
    seen: list[int] = []
    coupling = SemidiscreteOT(tolerance=0.05, progress=lambda step, rows, chi: seen.append(rows))
    fitted = coupling.fit(Normal(2), data, gen())
    assert fitted.info["converged"] and seen[0] < 1000 and seen[-1] == 1000
    assert len(seen) == fitted.info["iterations"]
    chosen = fitted.pair(Normal(2).sample(200_000, generator=gen(7)), data).indices[:, 1]
    # two standard deviations of the estimate, sqrt(2 N) / B = 2e-4, are far below the slack of .02
    assert chi_square(chosen.bincount(minlength=1000), torch.full((1000,), 1e-3)) < 0.07


def test_points_that_never_win_are_found():
    """In tight clumps most points start out hidden behind a neighbour, where counts alone say nothing."""
    clumps = 6 * normal(4, 6)
    data = clumps[torch.arange(200) % 4] + 0.02 * normal(200, 6, seed=1)
    fitted = SemidiscreteOT(max_iterations=80).fit(Normal(6), data, gen())
    assert fitted.info["converged"]
    chosen = fitted.pair(Normal(6).sample(100_000, generator=gen(3)), data).indices[:, 1]
    assert int(chosen.bincount(minlength=200).min()) > 0


def test_finer_heights_follow_the_tangent_planes():
    """Blended tangents of a quadratic miss it by half the curvature times the square of the distance."""
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=DOUBLE)
    coarse, fine = normal(2000, 2), 0.7 * normal(500, 2, seed=1)
    found = refine_heights(fine, coarse, -0.5 * ((coarse @ matrix) * coarse).sum(1), coarse @ matrix)
    distance = torch.from_numpy(ot.dist(fine.numpy(), coarse.numpy())).sort(1).values[:, 6]
    miss = (found + 0.5 * ((fine @ matrix) * fine).sum(1)).abs()
    largest = float(torch.linalg.eigvalsh(matrix)[-1])
    assert bool((miss <= 0.5 * largest * distance + 1e-12).all())


def test_many_dimensions_converge():
    data = normal(300, 30).float() * torch.linspace(0.1, 3, 30)
    fitted = SemidiscreteOT().fit(Normal(30), data.reshape(300, 5, 6).flatten(1), gen())
    assert fitted.info["converged"]
    x = Normal(30).sample(50_000, generator=gen(3))
    chosen = fitted.pair(x, data).indices[:, 1]
    assert chi_square(chosen.bincount(minlength=300), torch.full((300,), 1 / 300)) < 0.06
    cost = (x - data[chosen]).square().sum(1)
    # five standard errors of the mean
    assert abs(float(cost.mean()) - fitted.info["cost"]) < 5 * float(cost.std()) * (
        1 / 50_000**0.5 + 1 / 8192**0.5
    )


@pytest.mark.parametrize("dim", [2, 8])
def test_finite_sources_cost_what_the_exact_plan_costs(dim):
    """With 3,000 equally likely source rows the problem is a discrete one, which POT solves."""
    source, data = normal(3000, dim), 2 * normal(15, dim, seed=1) + 1
    weight = torch.rand(15, dtype=DOUBLE, generator=gen(2)) + 0.2
    fitted = SemidiscreteOT(tolerance=1e-3).fit(source, Rows(data, weight=weight), gen())
    pairs = fitted.pair(source, Rows(data, weight=weight)).indices
    share = pairs[:, 1].bincount(minlength=15).double() / 3000
    b = weight / weight.sum()
    assert float(((share - b).square() / b).sum()) < 3e-3
    # for the shares that it attains, a plan made of maxima of potentials is exactly optimal
    cost = (source - data[pairs[:, 1]]).square().sum(1).mean()
    table = ot.dist(source.numpy(), data.numpy())
    assert float(cost) == pytest.approx(ot.emd2(np.full(3000, 1 / 3000), share.numpy(), table), rel=1e-9)
    exact = ot.emd2(np.full(3000, 1 / 3000), b.numpy(), table)
    # the cost moves with the shares by at most sqrt(chi^2) times the spread of the costs
    assert float(cost) == pytest.approx(exact, rel=0.03)


def test_weights_of_the_source_count():
    x, weight = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([1.0, 1.0, 2.0])
    source = Rows(x.repeat(10, 1), weight=weight.repeat(10))
    data = torch.tensor([[0.5], [9.0]])
    fitted = SemidiscreteOT().fit(source, data, gen())
    assert fitted.pair(source, data).indices[:, 1].tolist() == [0, 0, 1] * 10


def test_far_offsets_change_nothing(plane):
    data, fitted = plane
    x = normal(2000, 2, seed=3)
    chosen = fitted.pair(x, data).indices
    moved = SemidiscreteOT(tolerance=1e-3).fit(Normal(2), data + 1000, gen())
    assert moved.potentials is not None and fitted.potentials is not None
    # the same draws give the same steps, up to rounding at 1,000
    assert float((moved.pair(x, data + 1000).indices == chosen).double().mean()) > 0.998
    expected = fitted.potentials + 1000 * (data - data.mean(0)).sum(1)
    assert torch.allclose(moved.potentials, expected, atol=1e-4)
    wide = normal(500, 20).float()
    near = SemidiscreteOT().fit(Normal(20), wide, gen())
    far = SemidiscreteOT().fit(Normal(20, loc=1000.0), wide.double() - 1000, gen())
    assert (
        near.info["chi_square"] == pytest.approx(far.info["chi_square"], abs=0.01) and far.info["converged"]
    )


def test_equal_rows_share_their_mass():
    x = torch.tensor([[-1.0], [1.0], [1.0], [-1.0], [1.0]])
    data = Rows(x, weight=torch.tensor([1.0, 1.0, 3.0, 1.0, 2.0]))
    fitted = SemidiscreteOT(tolerance=1e-3).fit(Normal(1), data, gen())
    chosen = fitted.pair(Normal(1).sample(40_000, generator=gen(1)), data, gen(2)).indices[:, 1]
    share = chosen.bincount(minlength=5) / 40_000
    # five standard errors of a share, .0025, and the tolerance: chi^2 = 1e-3 moves p = .25 by .014
    assert share.tolist() == pytest.approx([0.125, 0.125, 0.375, 0.125, 0.25], abs=0.0125 + 0.014)


def test_one_row_takes_everything():
    fitted = SemidiscreteOT().fit(Normal(2), torch.ones(1, 2), gen())
    assert fitted.pair(torch.zeros(3, 2), torch.ones(1, 2)).indices.tolist() == [[0, 0], [1, 0], [2, 0]]


def test_a_fit_that_is_cut_short_says_so():
    with pytest.warns(UserWarning, match="chi\\^2"):
        fitted = SemidiscreteOT(tolerance=1e-4, max_iterations=1).fit(Normal(2), normal(200, 2), gen())
    assert not fitted.info["converged"] and fitted.info["chi_square"] > 1e-4


# -- the estimate ----------------------------------------------------------------------------------------


def test_chi_square_is_unbiased():
    b = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=DOUBLE)
    p = np.array([0.15, 0.2, 0.25, 0.4])
    truth = float(((torch.from_numpy(p) - b).square() / b).sum())
    counts = np.random.default_rng(0).multinomial(20, p, size=20_000)
    found = torch.tensor([chi_square(torch.from_numpy(row), b) for row in counts], dtype=DOUBLE)
    # four standard errors; the plain statistic would be off by (K - 1) / 20, ninety of them
    assert abs(float(found.mean()) - truth) < 4 * float(found.std()) / 20_000**0.5
    with pytest.raises(ValueError, match="two draws"):
        chi_square(torch.tensor([1, 0]), torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match="sum one"):
        chi_square(torch.tensor([1, 4]), torch.tensor([0.5, 0.6]))


# -- the search ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 4])
@pytest.mark.parametrize("curved", [0.0, 0.4])
def test_searches_agree_with_all_scores(dim, curved):
    """Heights that follow the data's shape, and heights that do not, with a far constant."""
    points, x = normal(1500, dim), 2 * normal(400, dim, seed=1)
    heights = (curved - 0.5) * points.square().sum(1) + 0.01 * normal(1500, seed=2) + 100
    scores = heights + x @ points.T
    value, index = scores.topk(2, 1)
    for search in (TangentSearch(points), DenseSearch(points)):
        search.update(heights)
        alone, both = search.query(x), search.query(x, runner_up=True)
        tight = 1e-11 if isinstance(search, TangentSearch) else 1e-4
        for found in (alone, both):
            assert torch.equal(found.first, index[:, 0])
            assert torch.allclose(found.score, value[:, 0], atol=1e-11, rtol=0)
        assert torch.allclose(both.gap, value[:, 0] - value[:, 1], atol=tight, rtol=0)
        assert float((both.second == index[:, 1]).double().mean()) > 0.99
        assert len(search.query(x[:0]).first) == 0


def test_near_ties_are_settled_in_double_precision():
    points = torch.randn(300, 64, generator=gen())
    twins = torch.cat([points, points * (1 + 1e-7)]).double()
    heights = torch.cat([torch.zeros(300), 1e-9 * torch.randn(300, generator=gen(1))]).double()
    x = torch.randn(500, 64, generator=gen(2)).double()
    search = DenseSearch(twins)
    search.update(heights)
    exact = (heights + x @ twins.T).argmax(1)
    assert torch.equal(search.query(x).first, exact)
    assert torch.equal(search.query(x, runner_up=True).first, exact)
    rounded = (heights.float() + x.float() @ twins.float().T).argmax(1)
    assert not torch.equal(rounded, exact)


def test_partition_is_balanced_and_near():
    points = normal(1000, 2).numpy()
    order, bounds = partition(points, 4)
    assert sorted(order) == list(range(1000)) and set(np.diff(bounds)) <= {62, 63}
    spread = np.mean([points[order[a:b]].std(0).mean() for a, b in pairwise(bounds)])
    assert spread < 0.5 * points.std()


# -- use -------------------------------------------------------------------------------------------------


def test_conditions_ride_along_and_event_shapes_are_kept():
    data = Rows(normal(30, 1, 2, 3).float(), condition={"label": torch.arange(30)})
    fitted = registry.create("coupling", "semidiscrete,tolerance=0.1").fit(Normal((1, 2, 3)), data, gen())
    assert fitted.whole and fitted.tolerance == 0.1
    _, x1 = fitted(Rows(normal(7, 1, 2, 3).float()), data)
    assert x1.x.shape == (7, 1, 2, 3) and torch.equal(x1.x, data.x[x1.condition["label"]])


def test_the_same_generator_gives_the_same_fit():
    data = normal(50, 2)
    a, b, c = (SemidiscreteOT().fit(Normal(2), data, gen(seed)).potentials for seed in (1, 1, 2))
    assert a is not None and b is not None and c is not None and torch.equal(a, b) and not torch.equal(a, c)


def test_state_dict_round_trip(plane):
    data, fitted = plane
    again = SemidiscreteOT()
    again.load_state_dict(fitted.state_dict())
    x = normal(500, 2, seed=9)
    assert torch.equal(again.pair(x, data.clone()).indices, fitted.pair(x, data).indices)
    assert dict(again.info) == dict(fitted.info) and isinstance(again.info["iterations"], int)
    with pytest.raises(ValueError, match="centre"):
        again.load_state_dict({"potentials": torch.zeros(2), "fingerprint": torch.zeros(16)})


def test_mistakes_are_named(plane):
    data, fitted = plane
    x = torch.zeros(3, 2, dtype=DOUBLE)
    with pytest.raises(ValueError, match="not fitted"):
        SemidiscreteOT().pair(x, data)
    with pytest.raises(ValueError, match="not fitted"):
        SemidiscreteOT().state_dict()
    changed = data.clone()
    with pytest.raises(ValueError, match="other data"):
        fitted.pair(x, data.flip(0))
    fitted.pair(x, changed)
    changed[0] += 1e-3
    with pytest.raises(ValueError, match="other data"):
        fitted.pair(x, changed)
    with pytest.raises(ValueError, match="other data"):
        fitted.pair(x, Rows(data, weight=torch.arange(1.0, 41.0)))
    for weight, message in (
        (torch.zeros(40), "positive"),
        (torch.full((40,), torch.inf), "positive"),
        (torch.arange(40.0) - 1, "positive"),
        (torch.ones(39), "shape"),
    ):
        with pytest.raises(ValueError, match=rf"target\.weight: expected .*{message}"):
            SemidiscreteOT().fit(Normal(2), Rows(data, weight=weight))
    with pytest.raises(ValueError, match="event shapes"):
        SemidiscreteOT().fit(Normal(3), data)
    with pytest.raises(ValueError, match="event shapes"):
        SemidiscreteOT().fit(torch.zeros(5, 3), data)
    with pytest.raises(ValueError, match="event shapes"):
        fitted.pair(torch.zeros(5, 3), data)
    with pytest.raises(ValueError, match=r"source\.weight"):
        SemidiscreteOT().fit(Rows(x, weight=torch.tensor([1.0, -1.0, 1.0])), data)
    with pytest.raises(ValueError, match="at least 400 rows, got 3"):
        SemidiscreteOT().fit(Empirical(x), data)
    with pytest.raises(ValueError, match="finite"):
        SemidiscreteOT().fit(Normal(2), torch.full((4, 2), torch.nan))
    with pytest.raises(ValueError, match="without a condition"):
        distribution = linear_gaussian(torch.zeros(2), torch.ones(2, 1), torch.eye(2))
        SemidiscreteOT().fit(distribution, data)
    with pytest.raises(ValueError, match="tolerance"):
        SemidiscreteOT(tolerance=0.0)
    with pytest.raises(ValueError, match="max_iterations"):
        SemidiscreteOT(max_iterations=0)
