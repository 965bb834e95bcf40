"""Baselines without a network: against SciPy and scikit-learn, in any units, under any condition."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.mixture import GaussianMixture as ScikitMixture
from torch import Tensor

from effort import first
from pushforward.bijections import Affine, Chain
from pushforward.couplings import Rows
from pushforward.data.dataset import whitening
from pushforward.metrics import KernelDensity, fit_blend, fit_gaussian, fit_mixture
from pushforward.metrics.baselines.blend import cross_fit, stacked
from pushforward.metrics.baselines.coordinates import standard
from pushforward.metrics.baselines.kernel import kernels
from pushforward.metrics.baselines.mixture import Shape, mixture
from pushforward.recipes.start import _without
from pushforward.sources import Blend, Empirical, GaussianMixture, Kernels, LinearShift, Mapped, Normal
from pushforward.tensors import drop_condition

DOUBLE = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clusters(rows: int, seed: int = 0) -> Tensor:
    """Three normal clusters of unlike shape in two dimensions."""
    g = gen(seed)
    centres = torch.tensor([[-4.0, 0.0], [4.0, 1.0], [0.0, 6.0]], dtype=DOUBLE)
    spread = torch.tensor([[1.0, 0.2], [0.3, 1.0], [0.5, 0.5]], dtype=DOUBLE)
    k = torch.randint(3, (rows,), generator=g)
    return centres[k] + spread[k] * torch.randn(rows, 2, generator=g, dtype=DOUBLE)


FITS = {
    "gaussian": lambda x, c=None: fit_gaussian(x, c),
    "shrunk gaussian": lambda x, c=None: fit_gaussian(x, c, shrink=True),
    "mixture": lambda x, c=None: fit_mixture(x, c),
    "blend": lambda x, c=None: fit_blend(x, c),
    "kernel": lambda x, c=None: KernelDensity(x, condition=c, generator=gen()),
}


@pytest.mark.parametrize("name", FITS)
def test_units_of_columns_do_not_matter(name):
    x, y = clusters(200), clusters(50, 1)
    unit, offset = torch.tensor([1e-9, 1e9], dtype=DOUBLE), torch.tensor([3e-9, -2e9], dtype=DOUBLE)
    plain = FITS[name](x).log_prob(y)
    scaled = FITS[name](x * unit + offset).log_prob(y * unit + offset)
    # the log-determinant of the units is log(1e-9) + log(1e9) = 0
    torch.testing.assert_close(scaled, plain, atol=1e-5, rtol=1e-5)


def test_a_gaussian_of_many_unlike_columns_is_the_closed_form():
    x = torch.tensor(load_breast_cancer(return_X_y=True)[0])
    found = float(fit_gaussian(x).log_prob(x).mean())
    slogdet = np.linalg.slogdet(np.cov(x.numpy().T, bias=True))[1]
    assert found == pytest.approx(-0.5 * (30 * math.log(2 * math.pi) + slogdet + 30), abs=1e-6)
    assert fit_gaussian(x).note == ""


def test_singular_covariances_are_shrunk_and_said():
    x = torch.randn(20, 30, generator=gen(), dtype=DOUBLE)
    distribution = fit_gaussian(x)
    assert distribution.note.startswith("singular covariance, shrunk by")
    assert bool(distribution.log_prob(torch.randn(5, 30, generator=gen(1), dtype=DOUBLE)).isfinite().all())
    twice = torch.cat([x[:, :2], x[:, :1]], 1)
    assert fit_gaussian(twice).note
    assert bool(fit_blend(twice).log_prob(twice).isfinite().all())


def test_a_mixture_finds_the_components_and_is_scikit_learns():
    x, y = clusters(600), clusters(400, 1)
    distribution = fit_mixture(x)
    assert distribution.note == "3 components"
    peer = ScikitMixture(3, random_state=0).fit(x.numpy())
    # both are maximum likelihood on 600 rows, with diagonal or full covariances: within .03 nats
    assert float(distribution.log_prob(y).mean()) == pytest.approx(peer.score(y.numpy()), abs=0.03)


def test_kernels_are_scipys():
    x, y = clusters(80), clusters(40, 1)
    peer = stats.gaussian_kde(x.numpy().T, bw_method=0.3)
    mine = Kernels(x, torch.from_numpy(peer.covariance))
    np.testing.assert_allclose(mine.log_prob(y), peer.logpdf(y.numpy().T), rtol=1e-9)
    z = y.clone().requires_grad_()
    (slope,) = torch.autograd.grad(mine.log_prob(z).sum(), z)
    step = torch.tensor([1e-6, 0.0], dtype=DOUBLE)
    numeric = (mine.log_prob(y + step) - mine.log_prob(y - step)) / 2e-6
    torch.testing.assert_close(slope[:, 0], numeric, rtol=1e-5, atol=1e-6)


def test_kernels_of_unlike_widths_are_a_sum_of_scipys_normals():
    x, y = clusters(30), clusters(20, 1)
    widths = torch.rand(30, generator=gen(), dtype=DOUBLE) + 0.2
    shape, noise = (
        torch.tensor([[0.5, 0.1], [0.1, 0.3]]).double(),
        torch.tensor([[1.0, 0.4], [0.4, 0.2]]).double(),
    )
    for extra in (None, noise):
        mine = Kernels(x, shape, widths, extra)
        covariances = [w**2 * shape + (0 if extra is None else extra) for w in widths]
        peer = np.mean([stats.multivariate_normal(m, cast(Any, c)).pdf(y) for m, c in zip(x, covariances)], 0)
        np.testing.assert_allclose(mine.log_prob(y), np.log(peer), rtol=1e-9)


def test_kernels_are_narrow_where_rows_are_dense():
    x, y = (
        torch.cat([torch.randn(n, 2, generator=gen(s), dtype=DOUBLE) * w for n, w in ((200, 0.02), (200, 1))])
        for s in (0, 1)
    )
    z, units = standard(x)
    local, equal = kernels(z, "columns"), KernelDensity(x)
    ours = local.log_prob(units.inverse(y)) - units.scale.log().sum()
    # half of the rows have their own width instead of a common one; .3 nats is half of what is seen
    assert float((ours - equal.log_prob(y)).mean()) > 0.3


SOURCES = {
    "mixture": lambda: GaussianMixture(clusters(3), 0.7),
    "kernels": lambda: Kernels(clusters(50), torch.tensor([[0.5, 0.1], [0.1, 0.3]], dtype=DOUBLE)),
    "kernels of unlike widths": lambda: Kernels(
        clusters(50),
        torch.tensor([[0.5, 0.1], [0.1, 0.3]], dtype=DOUBLE),
        torch.linspace(0.5, 2, 50, dtype=DOUBLE),
        torch.tensor([[0.3, -0.1], [-0.1, 0.1]], dtype=DOUBLE),
    ),
    "blend": lambda: Blend(
        [SOURCES["mixture"](), SOURCES["kernels"](), Normal(2, 3.0).double()], [0.2, 0.5, 0.3]
    ),
    "mapped": lambda: Mapped(
        SOURCES["blend"](), Affine(torch.ones(2, dtype=DOUBLE), torch.full((2,), 2.0, dtype=DOUBLE))
    ),
    "normal": lambda: Normal(2, 2.0, 1.0).double(),
}


@pytest.mark.parametrize("name", SOURCES)
def test_draws_follow_the_density(name):
    distribution = SOURCES[name]()
    side = torch.linspace(-40, 40, 801, dtype=DOUBLE)
    grid = torch.cartesian_prod(side, side)
    mass = distribution.log_prob(grid).exp() * 0.01
    assert float(mass.sum()) == pytest.approx(1, abs=1e-6)
    x = distribution.sample(40_000, generator=gen(3))
    mean, second = (mass[:, None] * grid).sum(0), (mass[:, None] * grid**2).sum(0)
    # five standard errors; the fourth moments of these distributions are below 4 times their squared second
    # ones
    assert bool(((x.mean(0) - mean).abs() < 5 * (second / 40_000).sqrt()).all())
    assert bool(((x.square().mean(0) - second).abs() < 5 * second * (3 / 40_000) ** 0.5).all())


@pytest.mark.parametrize("name", ["mixture", "kernels", "kernels of unlike widths", "blend", "normal"])
def test_noise_added_is_a_convolution(name):
    distribution = SOURCES[name]()
    wide = distribution.convolved(0.5, 0.8)
    y = 0.4 * clusters(5, 2)
    noise = torch.randn(50_000, 2, generator=gen(), dtype=DOUBLE)
    # p(y) = E p_0.5x(y - 0.8 n), by Monte Carlo to about a percent
    for row in y:
        mean = (distribution.log_prob((row - 0.8 * noise) / 0.5).exp() / 0.25).mean()
        assert float(wide.log_prob(row[None]).exp()) == pytest.approx(float(mean), rel=0.05, abs=1e-7)


def test_one_far_row_does_not_blind_a_mixture_to_all_others():
    x, y = clusters(300), clusters(100, 1)
    far = torch.cat([x, torch.tensor([[1e6, 0.0]], dtype=DOUBLE)])
    # a component for the far row takes 1/301 of the weight and some of the rows' precision: .1 nats
    assert float((fit_mixture(far).log_prob(y) - fit_mixture(x).log_prob(y)).mean()) > -0.1


@pytest.mark.parametrize("size", [1e6, 1e8, 1e12, 1e100])
def test_a_row_that_is_as_far_as_numbers_go_leaves_a_mixture_that_can_be_turned(size: float) -> None:
    """In double precision the rows beside it keep their density in other coordinates."""
    x = torch.randn(300, 3, dtype=DOUBLE, generator=gen()) @ torch.tensor(
        [[1.0, 0.5, 0.2], [0.0, 1.0, -0.7], [0.0, 0.0, 1.0]], dtype=DOUBLE
    )
    far = torch.cat([x, torch.tensor([[0.0, size, 0.0]], dtype=DOUBLE)])
    found = mixture(far, Shape(False, "full", 1), 0)
    matrix = torch.tensor([[1.3, -0.6, 0.0], [-0.6, 1.7, 0.5], [0.0, 0.5, 1.3]], dtype=DOUBLE)
    turned = found.affine(matrix, torch.zeros(3, dtype=DOUBLE)).log_prob(x @ matrix.T)
    torch.testing.assert_close(turned, found.log_prob(x) - matrix.logdet(), atol=1e-3, rtol=0)


def test_a_column_that_is_mostly_one_value_keeps_its_scale():
    x = torch.zeros(1000, 2, dtype=DOUBLE)
    x[:, 1] = torch.randn(1000, generator=gen(), dtype=DOUBLE)
    x[:200, 0] = torch.randn(200, generator=gen(1), dtype=DOUBLE)
    noisy = x + 1e-4 * torch.randn(1000, 2, generator=gen(2), dtype=DOUBLE)
    # a fifth of the rows are no outliers, however near to each other the rest is
    torch.testing.assert_close(standard(noisy)[1].scale, x.std(0, correction=0), rtol=0.01, atol=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_mixture_finds_the_levels_of_a_column_from_every_seed(seed):
    g = gen(seed)
    x = torch.randn(200, 4, generator=g, dtype=DOUBLE)
    x[:, 1] = (torch.rand(200, generator=g) < 0.4).double()
    # the floor of variance is a millionth: log(1000) nats for the level, less what a level costs to name
    gain = (fit_mixture(x, seed=seed).log_prob(x) - fit_gaussian(x).log_prob(x)).mean()
    assert float(gain) > math.log(1000) - 2


def test_whitening_of_a_fold_has_not_seen_the_rows_held_out():
    x, held = clusters(60), torch.arange(0, 60, 5)
    other = x.clone()
    other[held] = 1e3
    found = [_without(held, Rows(rows), whitening(rows)) for rows in (x, other)]
    for part in found:
        assert isinstance(part, Chain)
    torch.testing.assert_close(found[0].forward(x), found[1].forward(x))
    assert float((whitening(x).forward(x) - whitening(other).forward(x)).abs().max()) > 0.1


def test_linear_maps_of_sources_change_the_density_by_the_determinant():
    mixture, kernels = SOURCES["mixture"](), SOURCES["kernels of unlike widths"]()
    matrix = torch.randn(2, 2, generator=gen(3), dtype=DOUBLE)
    offset = torch.tensor([1.0, -2.0], dtype=DOUBLE)
    x, condition = clusters(5, 1), torch.tensor([[0.5], [-1.0], [2.0], [0.0], [1.0]], dtype=DOUBLE)
    shifted = LinearShift(mixture, torch.tensor([[1.0], [3.0]], dtype=DOUBLE))
    for distribution, given in (
        (mixture, None),
        (Blend([mixture, kernels], [0.3, 0.7]), None),
        (shifted, condition),
    ):
        moved = distribution.affine(matrix, offset).log_prob(x @ matrix.T + offset, given)
        torch.testing.assert_close(moved, distribution.log_prob(x, given) - torch.linalg.slogdet(matrix)[1])


def test_a_source_of_points_with_noise():
    distribution = Empirical(clusters(4)).convolved(2.0, 0.5)
    assert distribution.noise == 0.5 and bool((distribution.rows == 2 * clusters(4)).all())


def test_weights_of_a_stack_are_those_of_most_likelihood():
    density = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.2], [0.6, 0.5]], dtype=DOUBLE)
    w = float(stacked(density.log())[0])
    grid = torch.linspace(0, 1, 10_001, dtype=DOUBLE)[:, None]
    best = grid[(grid * density[:, 0] + (1 - grid) * density[:, 1]).log().sum(1).argmax()]
    assert w == pytest.approx(float(best), abs=1e-3)


def test_a_blend_is_no_worse_than_its_parts_on_new_rows():
    x = torch.tensor(load_wine(return_X_y=True)[0])
    found = []
    for seed in range(5):
        order = torch.randperm(len(x), generator=gen(seed))
        train, test = x[order[36:]], x[order[:36]]
        rows = [fit_blend(train).log_prob(test)]
        rows += [
            distribution.log_prob(test)
            for distribution in (fit_gaussian(train), fit_mixture(train), KernelDensity(train))
        ]
        found.append(torch.stack(rows, 1))
    scores = torch.cat(found)
    gain = scores[:, :1] - scores[:, 1:]
    error = gain.std(0) / len(gain) ** 0.5
    assert bool((gain.mean(0) > -error).all())


def test_a_blend_says_what_it_is_made_of_and_keeps_its_folds():
    x = clusters(100) / 4
    crossed = cross_fit(x, None, 5, 0)
    assert "mixture" in crossed.source.note
    held = torch.cat([fold.held for fold in crossed.folds])
    assert held.sort().values.tolist() == list(range(100))
    for fold in crossed.folds:
        torch.testing.assert_close(fold.source.log_weights, crossed.source.log_weights)
        torch.testing.assert_close(crossed.log_prob[fold.held], fold.source.log_prob(x[fold.held]))
    # rows are denser under a fit that has seen them
    assert float(crossed.source.log_prob(x).mean()) > float(crossed.log_prob.mean())


CONDITIONS = {
    "labels": lambda n, g: torch.randint(3, (n,), generator=g),
    "number": lambda n, g: torch.randn(n, generator=g, dtype=DOUBLE),
    "numbers": lambda n, g: torch.randn(n, 2, generator=g, dtype=DOUBLE),
    "both": lambda n, g: {
        "kind": torch.randint(3, (n,), generator=g),
        "size": torch.randn(n, generator=g, dtype=DOUBLE),
    },
}


@pytest.mark.parametrize("kind", first(CONDITIONS))
@pytest.mark.parametrize("name", ["gaussian", "shrunk gaussian", "mixture", "blend"])
def test_conditions_of_every_kind(name, kind):
    c = CONDITIONS[kind](400, gen(5))
    parts = list(c.values()) if isinstance(c, dict) else [c]
    shift = torch.stack([part.double().reshape(400, -1).sum(1) for part in parts]).sum(0)
    x = clusters(400) + 5 * shift[:, None]
    distribution = FITS[name](x, c)
    blind = float(FITS[name](x).log_prob(x).mean())
    assert float(distribution.log_prob(x, c).mean()) > blind + 0.3
    assert distribution.sample(400, c, gen()).shape == (400, 2)
    if isinstance(c, dict):
        turned = dict(reversed(c.items()))
        torch.testing.assert_close(distribution.log_prob(x, turned), distribution.log_prob(x, c))
    # without a condition, or where it is absent, the density is that of all rows
    assert distribution.sample(10, None, gen()).shape == (10, 2)
    assert float(distribution.log_prob(x).mean()) > blind - 0.5
    absent = drop_condition(c)
    torch.testing.assert_close(
        distribution.log_prob(x, absent), distribution.log_prob(x), atol=1e-9, rtol=1e-9
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: fit_gaussian(x, {"a": x[:5]}), "condition: expected 10 rows"),
        (lambda x: fit_gaussian(x, torch.zeros(3, dtype=torch.int64)), "condition: expected 10 labels"),
        (lambda x: fit_mixture(x), "at least 16 rows"),
        (lambda x: fit_blend(x[:1]), "two rows"),
        (lambda x: Kernels(x[:0], torch.eye(2, dtype=DOUBLE)), "rows: expected floats"),
        (lambda x: Kernels(x, torch.zeros(2, 2, dtype=DOUBLE)), "positive definite"),
        (lambda x: Kernels(x, torch.eye(3, dtype=DOUBLE)), "shape"),
        (lambda x: Kernels(x, torch.eye(2, dtype=DOUBLE), torch.zeros(10)), "10 positive numbers"),
        (lambda x: Blend([], []), "parts: expected at least one source"),
        (lambda x: Blend([Normal(1), Normal(2)], [1, 1]), "equal events"),
        (lambda x: LinearShift(Normal(1), torch.ones(1, 1)).log_prob(torch.zeros(1, 1)), "condition"),
        (lambda x: LinearShift(Normal(1), torch.ones(1, 1)).sample(2, torch.zeros(2, 2)), "2 rows of 1"),
    ],
)
def test_user_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(clusters(10))
