"""Metrics against SciPy, POT, scikit-learn and closed forms."""

import importlib
import math
from typing import Any, cast

import numpy as np
import ot
import pandas as pd
import pytest
import scipy.optimize
import scipy.stats
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import KernelDensity as SklearnKernelDensity

from narrowing import known, wrong
from pushforward import metrics, random
from pushforward.flows import ContinuousFlow
from pushforward.oracles import GaussianMixtureOracle
from pushforward.solvers import RK4
from pushforward.sources import GaussianMixture, LinearShift, Mapped, Normal


def draw(*shape, seed=0, scale=1.0):
    return scale * random.normal(shape, random.seeded("metrics", seed), torch.float64)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("sizes", [(50, 50), (40, 60)])
def test_wasserstein_on_the_line_and_in_the_plane(p, sizes):
    x, y = draw(sizes[0], 1), 1 + draw(sizes[1], 1, seed=1, scale=2.0)
    expected = ot.wasserstein_1d(x[:, 0].numpy(), y[:, 0].numpy(), p=p) ** (1 / p)
    assert metrics.wasserstein(x, y, p) == pytest.approx(expected, rel=1e-9)
    assert metrics.sliced_wasserstein(x, y, 3, p) == pytest.approx(expected, rel=1e-9)
    x, y = draw(sizes[0], 3, 2), draw(sizes[1], 3, 2, seed=1)
    cost = cdist(x.flatten(1).numpy(), y.flatten(1).numpy()) ** p
    assert metrics.wasserstein(x, y, p) == pytest.approx(ot.emd2([], [], cost) ** (1 / p), rel=1e-9)


def test_sliced_wasserstein_against_pot_and_for_a_shift():
    x, y = draw(70, 3), 0.5 + draw(50, 3, seed=1)
    directions = random.normal((3, 64), random.seeded("directions"), torch.float64)
    directions = (directions / directions.norm(dim=0)).numpy()
    expected = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=directions)
    found = metrics.sliced_wasserstein(x, y, 64, generator=random.seeded("directions"))
    assert found == pytest.approx(expected, rel=1e-6)
    # A shift by s gives s <u, e>, whose mean square over the sphere is s^2 / d.  <u, e>^2 is Beta(1/2, 1) for
    # d = 3: deviation .298, so over 4,000 directions the mean 1/3 is known to .0047; four of these are .019.
    shifted = metrics.sliced_wasserstein(x, x + torch.tensor([2.0, 0, 0]), 4000, generator=random.seeded(0))
    assert (shifted / 2) ** 2 == pytest.approx(1 / 3, abs=0.019)


def test_energy_distance_against_scipy_and_closed_form():
    x, y = draw(80, 1), 1 + draw(60, 1, seed=1)
    # SciPy takes the square root of the V-statistic.
    expected = scipy.stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2
    assert metrics.energy_distance(x, y) == pytest.approx(expected, rel=1e-9)

    # X - Y is N(m, 2) for normals at distance m, and its mean size is that of a folded normal.
    def gap(m):
        return math.sqrt(2) * 2 * scipy.stats.norm.pdf(m / math.sqrt(2)) + m * (
            2 * scipy.stats.norm.cdf(m / math.sqrt(2)) - 1
        )

    truth = 2 * gap(1.0) - 2 * gap(0.0)
    values = [
        metrics.energy_distance(draw(100, 1, seed=s), 1 + draw(100, 1, seed=-s), unbiased=True)
        for s in range(1, 41)
    ]
    # The mean over 40 independent draws, to four of its standard errors.
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    assert np.mean(values) == pytest.approx(truth, abs=4 * error)
    assert error < 0.03
    plain = [metrics.energy_distance(draw(100, 1, seed=s), 1 + draw(100, 1, seed=-s)) for s in range(1, 41)]
    assert np.mean(plain) - np.mean(values) == pytest.approx(2 * gap(0.0) / 100, rel=0.02)


@pytest.mark.parametrize("offset", [1e3, 1e6, 1e9])
def test_far_offset_changes_nothing(offset):
    x, y, train = (draw(60, 2, seed=s) for s in range(3))
    # Multiples of 1/1024 keep all their digits when a large power of two is added.
    x, y, train = ((rows * 1024).round() / 1024 for rows in (x, y, train))
    far = float(2 ** round(math.log2(offset)))
    calls = {
        "wasserstein": lambda s: metrics.wasserstein(x + s, y + s),
        "sliced": lambda s: metrics.sliced_wasserstein(x + s, y + s, 16, generator=random.seeded(0)),
        "energy": lambda s: metrics.energy_distance(x + s, y + s),
        "two samples": lambda s: metrics.two_sample_accuracy(x + s, y + s),
        "two images": lambda s: metrics.two_sample_accuracy(x + s, y + s, standardise=False),
        "labels": lambda s: metrics.label_accuracy(x + s, (x[:, 0] > 0).long(), y + s, (y[:, 0] > 0).long()),
        "memory": lambda s: metrics.memorisation_threshold(train + s),
        "cost": lambda s: metrics.transport_cost(x + s, y + s),
        "optimal": lambda s: metrics.optimal_cost(x + s, y + s),
        "gaussian": lambda s: float(metrics.fit_gaussian(x + s).log_prob(y + s).sum()),
        "linear": lambda s: float(metrics.fit_gaussian(x + s, x[:, 0]).log_prob(y + s, y[:, 0]).sum()),
        "kernel": lambda s: float(
            metrics.KernelDensity(x + s, generator=random.seeded(0)).log_prob(y + s).sum()
        ),
    }
    for name, call in calls.items():
        assert call(far) == pytest.approx(call(0.0), rel=1e-8), name


def test_wasserstein_of_near_points_far_away_in_float32():
    x = draw(50, 2).float() + 1000
    y = x.clone()
    y[:, 0] += 2.0**-12
    shift = float((y.double() - x.double())[:, 0].square().mean().sqrt())
    assert shift > 0
    assert metrics.wasserstein(x, y) == pytest.approx(shift, rel=1e-9)


def test_wasserstein_of_many_rows():
    x, y = ((z * 1024).round() / 1024 for z in (draw(1100, 2), 3 + draw(1100, 2, seed=1, scale=2.0)))
    cost = cdist(x.numpy(), y.numpy(), "sqeuclidean")
    truth = math.sqrt(cost[scipy.optimize.linear_sum_assignment(cost)].mean())
    assert metrics.wasserstein(x, y) == pytest.approx(truth, rel=1e-10)
    assert metrics.wasserstein(x + 2.0**20, y + 2.0**20) == pytest.approx(truth, rel=1e-10)
    assert metrics.wasserstein(x[:, None].float(), y[:, None].float()) == pytest.approx(truth, rel=1e-10)
    # each row moved by less than half the way to its neighbours: the best plan leaves them in place
    step = 1e-3 * metrics.nearest(x)[0].clamp(min=1e-9).min()
    assert metrics.wasserstein(x, x.flip(0) + step) == pytest.approx(float(step) * math.sqrt(2), rel=1e-6)


@pytest.mark.parametrize("p", [3, 40, 400, 3000])
@pytest.mark.parametrize("sizes", [(1, 1), (9, 9), (9, 6)])
def test_large_powers_against_exhaustive_search(p, sizes):
    """In the plane by all permutations, unequal sizes by repeating rows; nothing may over- or underflow."""
    n, m = sizes
    x, y = draw(n, 2), 50 + 3 * draw(m, 2, seed=1)
    whole = math.lcm(n, m)
    table = cdist(x.repeat_interleave(whole // n, 0).numpy(), y.repeat_interleave(whole // m, 0).numpy())

    # the bottleneck: the least bound under which everyone finds a partner, which W_p tends to from below
    def everyone_finds_a_partner(bound: float) -> bool:
        return not (table > bound)[scipy.optimize.linear_sum_assignment(table > bound)].any()

    bound = next(filter(everyone_finds_a_partner, np.unique(table)))
    found = metrics.wasserstein(x, y, p)
    assert bound * whole ** (-1 / p) * (1 - 1e-12) <= found <= bound * (1 + 1e-12)
    # powers of distances in units of the bottleneck; those above it by more than a factor are never used
    power = np.minimum((table / bound) ** min(p, 400), 1e6)
    rows, columns = scipy.optimize.linear_sum_assignment(power)
    if p <= 400:
        assert found == pytest.approx(bound * power[rows, columns].mean() ** (1 / p), rel=1e-9)


def test_powers_on_the_line_and_far_rows():
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[50.0], [51.0]])
    assert metrics.wasserstein(x, y, 400) == pytest.approx(50, rel=1e-12)
    assert metrics.sliced_wasserstein(x, y, 4, 400) == pytest.approx(50, rel=1e-12)
    # in the plane a shift by s moves each direction by s <u, e>, of which the largest prevails
    u = random.normal((2, 8), random.seeded("d"), torch.float64)
    u = (u / u.norm(dim=0)).abs()[0]
    shift = metrics.sliced_wasserstein(
        draw(5, 2), draw(5, 2) + torch.tensor([3.0, 0]), 8, 900, random.seeded("d")
    )
    assert 8 ** (-1 / 900) <= shift / (3 * float(u.max())) <= 1 + 1e-9
    a, b = draw(40, 2), draw(40, 2, seed=1)
    cost = cdist(a[1:].numpy(), b[1:].numpy())
    for p in (1, 2, 3):
        rows, columns = scipy.optimize.linear_sum_assignment(cost**p)
        truth = ((cost**p)[rows, columns].sum() / 40) ** (1 / p)
        a[0] = b[0] = 1e8
        assert metrics.wasserstein(a, b, p) == pytest.approx(truth, rel=1e-8)


def test_blocks_give_what_whole_tables_give(monkeypatch):
    x, y = draw(70, 3), 0.5 + draw(50, 3, seed=1)
    calls = {
        "energy": lambda: metrics.energy_distance(x, y),
        "unbiased": lambda: metrics.energy_distance(x, y, unbiased=True),
        "sliced": lambda: metrics.sliced_wasserstein(x, y, 64, generator=random.seeded(0)),
        "near": lambda: float(metrics.nearest(x.repeat(1, 7), y.repeat(1, 7))[0].sum()),
    }
    whole = {name: call() for name, call in calls.items()}
    # the modules, which in the package stand behind functions of their names
    monkeypatch.setattr(importlib.import_module("pushforward.metrics.distances"), "HELD", 200)
    monkeypatch.setattr(importlib.import_module("pushforward.metrics.transport"), "HELD", 500)
    sizes, cdist_of = [], torch.cdist

    def counted(a, b, **options):
        sizes.append(len(a) * len(b))
        return cdist_of(a, b, **options)

    monkeypatch.setattr(torch, "cdist", counted)
    for name, call in calls.items():
        assert call() == pytest.approx(whole[name], rel=1e-12), name
    assert max(sizes) <= 200 and len(sizes) > 50


def test_arrays_and_tables_are_clouds_too():
    x, y = draw(30, 2), 1 + draw(30, 2, seed=1)
    label = (x[:, 0] > 0).long()
    calls = [
        lambda f: metrics.wasserstein(f(x), f(y)),
        lambda f: metrics.wasserstein(f(x), f(y[:20]), p=1),
        lambda f: metrics.sliced_wasserstein(f(x), f(y), 8, generator=random.seeded(0)),
        lambda f: metrics.energy_distance(f(x), f(y)),
        lambda f: metrics.memorisation_share(f(x), f(y), 0.5),
        lambda f: metrics.two_sample_accuracy(f(x), f(y)),
        lambda f: metrics.label_accuracy(f(x), f(label), f(y), f(label)),
        lambda f: metrics.transport_cost(f(x), f(y)),
        lambda f: float(metrics.plan_entropy(f(x.abs()))),
        lambda f: metrics.importance(f(x[:, 0])).share,
    ]
    for call in calls:
        truth = call(lambda z: z)
        assert call(lambda z: z.numpy()) == truth
        assert call(lambda z: pd.DataFrame(z.numpy()) if z.ndim == 2 else pd.Series(z.numpy())) == truth


NONE = torch.zeros(0, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: metrics.wasserstein(NONE, x), "x"),
        (lambda x: metrics.wasserstein(x, NONE, p=1), "y"),
        (lambda x: metrics.sliced_wasserstein(x, NONE), "y"),
        (lambda x: metrics.energy_distance(NONE, x, unbiased=True), "x"),
        (lambda x: metrics.nearest(NONE, x), "x"),
        (lambda x: metrics.distances(x, NONE), "y"),
        (lambda x: metrics.memorisation_share(NONE, x), "x"),
        (lambda x: metrics.two_sample_accuracy(NONE, x), "x"),
        (lambda x: metrics.label_accuracy(NONE, NONE[:, 0], x, x[:, 0]), "train_x"),
        (lambda x: metrics.transport_cost(NONE, NONE), "x0, x1"),
        (lambda x: metrics.straightness(NONE[None].repeat(2, 1, 1), torch.tensor([0.0, 1.0])), "path"),
        (lambda x: metrics.path_energy(NONE[None].repeat(2, 1, 1), torch.tensor([0.0, 1.0])), "path"),
    ],
)
def test_clouds_without_rows_are_refused_by_name(call, name):
    with pytest.raises(ValueError, match=f"^{name}: expected .*at least one row"):
        call(draw(10, 2))


def test_plan_entropy():
    n = 6
    permutation = torch.eye(n)[torch.randperm(n, generator=torch.Generator().manual_seed(0))]
    independent = torch.ones(n, n)
    assert float(metrics.plan_entropy(permutation)) == pytest.approx(0.0, abs=1e-12)
    assert float(metrics.plan_entropy(independent)) == pytest.approx(1.0)
    mixed = (0.6 * permutation / n + 0.4 * independent / n**2).double()
    truth = scipy.stats.entropy(mixed.flatten().numpy()) / math.log(n) - 1
    assert 0.2 < truth < 0.9
    both = torch.stack([mixed, permutation.double()])
    assert metrics.plan_entropy(both).tolist() == pytest.approx([truth, 0.0], abs=1e-6)
    # a log-plan known up to a constant, with entries that vanish
    assert metrics.plan_entropy(both.log() - 2000, log=True).tolist() == pytest.approx([truth, 0.0], abs=1e-6)
    # independent rows of any masses, a map of four rows onto two, a single column
    a, b = torch.rand(2, 5, generator=torch.Generator().manual_seed(1))
    assert float(metrics.plan_entropy(a[:, None] * b[:3])) == pytest.approx(1.0, abs=1e-6)
    assert float(metrics.plan_entropy(torch.eye(2).repeat(2, 1))) == pytest.approx(0.0, abs=1e-12)
    assert float(metrics.plan_entropy(torch.ones(3, 1))) == 0.0
    for plan in (torch.ones(3), -torch.eye(2), torch.zeros(2, 2), torch.eye(2) * math.nan):
        with pytest.raises(ValueError, match="plan: expected"):
            metrics.plan_entropy(plan)


@pytest.mark.parametrize("d", [2, 20])
def test_nearest_and_memorisation(d):
    train = draw(200, d)
    train[7] = train[3]
    table = cdist(train.numpy(), train.numpy())
    np.fill_diagonal(table, np.inf)
    distance, index = metrics.nearest(train)
    np.testing.assert_allclose(distance, table.min(1), atol=1e-12)
    np.testing.assert_allclose(table[np.arange(200), index.numpy()], table.min(1), atol=1e-12)
    assert index[3] == 7 and index[7] == 3
    samples = draw(90, d, seed=1)
    distance, index = metrics.nearest(samples, train)
    np.testing.assert_allclose(distance, cdist(samples.numpy(), train.numpy()).min(1), atol=1e-12)
    threshold = metrics.memorisation_threshold(train, 0.3)
    assert threshold == pytest.approx(np.quantile(table.min(1), 0.3))
    assert metrics.memorisation_share(train, train, 0.3) == 1.0
    expected = np.mean(distance.numpy() < threshold)
    assert 0 < expected < 1
    assert metrics.memorisation_share(samples, train, 0.3) == expected


def test_two_sample_accuracy_is_chance_for_one_law_and_bayes_for_two():
    # 5 folds of 1,000 rows: a coin gives .5 +- .016; four deviations.
    assert metrics.two_sample_accuracy(draw(500, 2), draw(500, 2, seed=1)) == pytest.approx(0.5, abs=0.063)
    # N(0, I) against N(m, I): the best accuracy is Phi(|m| / 2) = .841 for |m| = 2, here within .012 of noise
    # (four deviations .046) and a little less for a machine learnt from 800 rows.
    moved = draw(500, 2, seed=1) + torch.tensor([2.0, 0.0])
    assert 0.841 - 0.06 < metrics.two_sample_accuracy(draw(500, 2), moved) < 0.841 + 0.046
    # Deviations that differ only: not to be seen by a linear rule.
    assert metrics.two_sample_accuracy(draw(500, 2), draw(500, 2, seed=1, scale=4.0)) > 0.8
    # Only columns of a common scale show what differs in the small one.
    x, y = draw(300, 2), draw(300, 2, seed=1) + torch.tensor([3.0, 0.0])
    wide = torch.tensor([1.0, 1e4])
    assert metrics.two_sample_accuracy(x * wide, y * wide) > 0.85
    assert metrics.two_sample_accuracy(x * wide, y * wide, standardise=False) < 0.7


def test_label_accuracy():
    centres = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]]).double()
    y = torch.arange(300) % 3
    train, new = centres[y] + draw(300, 2), centres[y] + draw(300, 2, seed=1)
    assert metrics.label_accuracy(train, y, new, y) > 0.98
    wrong = torch.where(torch.arange(300) < 75, (y + 1) % 3, y)
    assert metrics.label_accuracy(train, y, new, wrong) == pytest.approx(0.75, abs=0.02)


def test_total_curvature_of_a_circle_and_of_lines():
    """A circle turns by 2 pi however it is parametrised; a line at changing speed, or at rest, by nothing."""
    times = torch.linspace(0, 1, 2001, dtype=torch.float64)
    angle = 2 * torch.pi * times**2
    circle = torch.stack([angle.cos(), angle.sin()], -1)[:, None]
    # the polygon leaves out half of the first and last of the 2,000 turns, the last of 2 pi / 1000
    assert metrics.total_curvature(circle, times) == pytest.approx(2 * torch.pi, abs=0.004)
    line = torch.stack([times**3, -2 * times**3], -1)[:, None]
    assert metrics.total_curvature(line, times) == pytest.approx(0.0, abs=1e-9)
    assert metrics.total_curvature(torch.ones(5, 3, 2), torch.linspace(0, 1, 5)) == 0.0


def test_straightness_of_a_normal_to_itself_is_two_minus_half_pi():
    flow = ContinuousFlow(
        GaussianMixtureOracle(GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), 1.0)),
        RK4(steps=50),
        Normal(1).double(),
    )
    x0 = draw(2000, 1)
    times = torch.linspace(0, 1, 51, dtype=torch.float64)
    path = known(flow.trajectory(x0, times).path)
    # The flow is x_t = R_t x_0 with x_1 = x_0, so S is (2 - pi/2) times the mean of x_0^2.  A polygon of 50
    # pieces falls short by less than (1/50)^2 / 12 times the mean of (R'' x_0)^2, which is below 8.
    exact = (2 - math.pi / 2) * float(x0.square().mean())
    assert metrics.straightness(path, times) == pytest.approx(exact, abs=2.7e-4)
    # Over draws: the mean of x_0^2 is 1 +- sqrt(2 / 2000) = .032, four of which are .13 of 2 - pi/2.
    assert metrics.straightness(path, times) == pytest.approx(2 - math.pi / 2, rel=0.13)
    assert metrics.transport_cost(path[0], path[-1]) == pytest.approx(0, abs=1e-12)
    # With x_1 = x_0 the whole motion is departure from rest, so energy and straightness are one.
    assert metrics.path_energy(path, times) == pytest.approx(metrics.straightness(path, times), rel=1e-6)


def test_path_energy_and_transport_of_a_gaussian_map():
    # x_t = (1 + t) x_0 is straight and optimal: energy, cost and W_2^2 all equal the mean of |x_0|^2.
    x0 = draw(200, 2)
    times = torch.tensor([0.0, 0.1, 0.5, 1.0], dtype=torch.float64)
    path = torch.stack([(1 + t) * x0 for t in times])
    energy = float(x0.square().sum(1).mean())
    assert metrics.path_energy(path, times) == pytest.approx(energy)
    assert metrics.transport_cost(path[0], path[-1]) == pytest.approx(energy)
    assert metrics.optimal_cost(path[0], path[-1]) == pytest.approx(energy)
    assert metrics.straightness(path, times) == pytest.approx(0, abs=1e-12)
    assert metrics.normalised_path_energy(path, times) == pytest.approx(0, abs=1e-9)
    # A turn by 90 degrees: W_2 to any pairing is at most the cost, and the detour is seen.
    turned = torch.stack([x0[:, 1], -x0[:, 0]], 1)
    assert metrics.optimal_cost(x0, turned) < 0.1 * metrics.transport_cost(x0, turned)
    assert metrics.normalised_path_energy(torch.stack([x0, turned]), torch.tensor([0.0, 1.0])) > 1


def test_bits_per_dim_of_uniform_levels():
    # 256 equally likely levels are 8 bits, whatever the width of a level.
    for step in (1.0, 1 / 255):
        log_p = torch.full((3,), -10 * math.log(256 * step), dtype=torch.float64)
        torch.testing.assert_close(
            metrics.bits_per_dim(log_p, 10, step), torch.full((3,), 8.0, dtype=torch.float64)
        )


def test_gaussian_against_scipy():
    x, y = draw(300, 3) @ draw(3, 3, seed=5), draw(20, 3, seed=1)
    distribution = metrics.fit_gaussian(x.reshape(300, 1, 3))
    cov: Any = np.cov(x.T.numpy(), bias=True)
    expected = scipy.stats.multivariate_normal(x.mean(0), cov).logpdf(y.numpy())
    np.testing.assert_allclose(distribution.log_prob(y.reshape(20, 1, 3)), expected, rtol=1e-9)
    labels = (x[:, 0] > 0).long() * 7
    distribution = metrics.fit_gaussian(x, labels)
    parts = [
        scipy.stats.multivariate_normal(rows.mean(0), cast(Any, np.cov(rows.T.numpy(), bias=True)))
        for rows in (x[labels == 0], x[labels == 7])
    ]
    share = float((labels == 7).double().mean())
    np.testing.assert_allclose(
        distribution.log_prob(y, torch.full((20,), 7)), parts[1].logpdf(y.numpy()), rtol=1e-9
    )
    both = np.logaddexp(
        math.log(1 - share) + parts[0].logpdf(y.numpy()), math.log(share) + parts[1].logpdf(y.numpy())
    )
    np.testing.assert_allclose(distribution.log_prob(y), both, rtol=1e-9)
    drawn = distribution.sample(50, torch.full((50,), 7), random.seeded(0))
    assert drawn.dtype == torch.float64
    assert float((drawn[:, 0] > 0).double().mean()) > 0.8


def test_gaussian_that_follows_a_condition():
    c, noise = draw(4000, 2), draw(4000, 2, seed=1)
    slope = torch.tensor([[2.0, 0.0], [1.0, -3.0]]).double()
    x = 5 + c @ slope.T + 0.5 * noise
    distribution = metrics.fit_gaussian(x, c)
    # Coefficients of a regression on 4,000 rows: .5 / sqrt(4000) = .008, so four deviations are .032.
    assert isinstance(distribution, Mapped) and isinstance(distribution.source, LinearShift)
    scale = x.std(0, correction=0)[:, None]
    torch.testing.assert_close(scale * distribution.source.slope, slope, atol=0.032, rtol=0)
    # Per row, log p falls short of the true one by half the number of fitted parameters over the rows (.001).
    truth = Normal(2, 0.5).double().log_prob(x - 5 - c @ slope.T)
    torch.testing.assert_close(distribution.log_prob(x, c).mean(), truth.mean(), atol=0.005, rtol=0)
    drawn = distribution.sample(4000, c, random.seeded(3))
    torch.testing.assert_close(
        (drawn - 5 - c @ slope.T).std(0), 0.5 * torch.ones(2).double(), atol=0.03, rtol=0
    )


@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
@pytest.mark.parametrize("stretch", [1.0, 20.0])
def test_kernel_density_against_scikit_learn(kernel, stretch):
    wide = torch.tensor([1.0, stretch, 1.0]).double()
    centres = torch.tensor([[-3.0, 0, 0], [3.0, 0, 0]]).double()
    x = (draw(300, 3) + centres[torch.arange(300) % 2]) * wide + 100
    y = (draw(100, 3, seed=1) + centres[torch.arange(100) % 2]) * wide + 100
    mine = metrics.KernelDensity(x, kernel, generator=random.seeded("folds"))
    y_in = mine.back.inverse(y)
    volume = mine.back.inverse_and_log_det(y[:1])[1]
    peer = SklearnKernelDensity(kernel=kernel, bandwidth=mine.width).fit(mine.back.inverse(x).numpy())
    np.testing.assert_allclose(mine.log_prob(y), peer.score_samples(y_in.numpy()) + float(volume), rtol=1e-6)
    # Of scikit-learn's own densities over a grid of bandwidths none is better on new rows by more than noise:
    # the paired difference at the best bandwidth is within .05 nats here.
    scores = [
        SklearnKernelDensity(kernel=kernel, bandwidth=w)
        .fit(mine.back.inverse(x).numpy())
        .score_samples(y_in.numpy())
        .mean()
        for w in np.geomspace(0.03, 1, 15) * mine.width * 3
    ]
    assert (mine.log_prob(y) - volume).mean() > max(scores) - 0.05


def test_kernel_density_by_label():
    x = torch.cat([draw(100, 1), 10 + draw(100, 1, seed=1)])
    y = torch.arange(200) // 100
    kde = metrics.KernelDensity(x, condition=y)
    assert kde.log_prob(torch.tensor([[10.0]]), torch.tensor([1]))[0] > math.log(0.2)
    assert kde.log_prob(torch.tensor([[10.0]]), torch.tensor([0]))[0] < -10
    with pytest.raises(ValueError, match="no training rows of label 2"):
        kde.log_prob(torch.zeros(1, 1), torch.tensor([2]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: metrics.wasserstein(x, x, p=0.5), "p: expected"),
        (lambda x: metrics.wasserstein(x, x, p=math.inf), "p: expected a finite"),
        (lambda x: metrics.sliced_wasserstein(x, x, p=math.nan), "p: expected a finite"),
        (
            lambda x: metrics.wasserstein(x[:1].expand(6000, 2), x[:1].expand(6000, 2), 1),
            "need a table of 275",
        ),
        (lambda x: metrics.memorisation_share(x, x, threshold=-1.0), "threshold"),
        (
            lambda x: metrics.straightness(torch.stack([x, x]), torch.tensor([0.0, 1.0]), x0=x[:5]),
            "x0: expected",
        ),
        (lambda x: metrics.wasserstein(x, x[:, :1]), "expected equal events"),
        (lambda x: metrics.wasserstein(x[:0], x), "at least one row"),
        (lambda x: metrics.energy_distance(x, x * torch.nan), "finite"),
        (lambda x: metrics.energy_distance(x[:1], x, unbiased=True), "two rows"),
        (lambda x: metrics.sliced_wasserstein(x, x, 0), "projections"),
        (lambda x: metrics.two_sample_accuracy(x[:3], x), "folds"),
        (lambda x: metrics.label_accuracy(x, torch.zeros(9), x, torch.zeros(10)), "train_y: expected 10"),
        (lambda x: metrics.label_accuracy(x, torch.zeros(10), x, torch.zeros(10)), "two labels"),
        (lambda x: metrics.memorisation_threshold(x, 1.5), "quantile"),
        (lambda x: metrics.nearest(x[:1]), "two rows"),
        (lambda x: metrics.straightness(x[None], torch.zeros(1)), "T >= 2"),
        (lambda x: metrics.path_energy(torch.stack([x, x]), torch.tensor([1.0, 0.0])), "increasing"),
        (lambda x: metrics.transport_cost(x, x[:5]), "equal shapes"),
        (lambda x: metrics.normalised_path_energy(torch.stack([x, x]), torch.tensor([0.0, 1.0])), "divide"),
        (lambda x: metrics.bits_per_dim(0.0, 0), "size, step"),
        (lambda x: metrics.fit_gaussian(x[:1]), "two rows"),
        (lambda x: metrics.fit_gaussian(x, wrong({"a": [1]})), "condition"),
        (lambda x: metrics.KernelDensity(x, wrong("box")), "kernel"),
        (lambda x: metrics.KernelDensity(x, condition=x[:, 0]), "labels"),
        (lambda x: metrics.KernelDensity(x[:3]), "folds"),
    ],
)
def test_user_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(draw(10, 2))
