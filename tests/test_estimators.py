"""The scikit-learn estimators: scikit-learn's own checks, densities that are densities, honest thresholds."""

from __future__ import annotations

import json
import pickle
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, check_outliers_fit_predict

from pushforward.bijections import Blur, Chain, Whiten
from pushforward.cli import main
from pushforward.data.atoms import atoms
from pushforward.data.dataset import whitening
from pushforward.data.noise import resolution
from pushforward.estimators import FlowDensity, FlowOutlierDetector
from pushforward.estimators.tails import Columns, Tail
from pushforward.flows import BijectiveFlow, Transformed
from pushforward.random import seeded
from pushforward.runs.preprocessing import bijection_from_json, bijection_to_json
from pushforward.sources import Normal

FAST: dict[str, Any] = {"method": "nsf,layers=2,bins=4,width=8", "steps": 5, "random_state": 0}
WEIGHTS = "a random split cannot be the same for repeated rows as for weighted ones"
EXPECTED = {"check_sample_weight_equivalence_on_dense_data": WEIGHTS}


@pytest.fixture(scope="module")
def normal() -> np.ndarray:
    """300 rows of a correlated normal distribution far from 0, in unlike units."""
    g = np.random.default_rng(0)
    return g.multivariate_normal([1e4, -2.0], [[100.0, 0.6], [0.6, 0.01]], 300)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(FlowDensity(**FAST), id="density"),
        pytest.param(FlowOutlierDetector(**FAST, folds=2), id="detector", marks=pytest.mark.thorough),
    ],
)
def test_check_estimator(estimator) -> None:
    done = check_estimator(estimator, expected_failed_checks=EXPECTED, on_skip=None)
    failed = [check["check_name"] for check in done if check["status"] in ("xfail", "failed")]
    assert failed in ([], list(EXPECTED))


@pytest.mark.parametrize("method", ["nsf,layers=2,width=16", "maf", "fm"])
def test_learns_a_normal_law_in_data_units(normal: np.ndarray, method: str) -> None:
    options: dict[str, Any] = {"lr": 2e-3}
    if method == "fm":
        options = {"network": "mlp,width=32,depth=2", "solver": "rk4,steps=8", "lr": 1e-2}
    steps = 400 if method == "fm" else 60
    density = FlowDensity(method, options=options, steps=steps, random_state=0).fit(normal)
    covariance: Any = [[100.0, 0.6], [0.6, 0.01]]
    distribution = stats.multivariate_normal([1e4, -2.0], covariance)
    new = distribution.rvs(500, random_state=1)
    # 240 rows determine a normal distribution up to 5 / 480 = 0.01 nats; the rest is what a short training
    # may lose
    assert distribution.logpdf(new).mean() - density.score(new) == pytest.approx(0.04, abs=0.06)
    assert density.score_samples(new).dtype == np.float64
    assert density.score(new) == pytest.approx(density.score_samples(new).mean())


def test_density_integrates_to_one_and_matches_samples() -> None:
    x = make_moons(400, noise=0.1, random_state=0)[0]
    density = FlowDensity("nsf,layers=4,width=16", steps=100, random_state=0).fit(x)
    across, up = np.arange(-3, 4, 0.03), np.arange(-2.5, 3, 0.03)
    grid = np.stack(np.meshgrid(across, up, indexing="ij"), -1).reshape(-1, 2)
    values = np.exp(density.score_samples(grid)).reshape(len(across), len(up))
    assert integrate.trapezoid(integrate.trapezoid(values, up), across) == pytest.approx(1.0, abs=5e-3)
    mean = integrate.trapezoid(integrate.trapezoid(values * across[:, None], up), across)
    drawn = density.sample(4000, random_state=3)
    # 4 standard errors, and what the grid misses
    assert drawn[:, 0].mean() == pytest.approx(mean, abs=4 * drawn[:, 0].std() / 4000**0.5 + 5e-3)


def test_latent_space_and_back(normal: np.ndarray) -> None:
    density = FlowDensity(method="nsf,layers=2,width=16", steps=60, random_state=0).fit(normal)
    z = density.transform(normal)
    np.testing.assert_allclose(density.inverse_transform(z), normal, rtol=1e-9)
    # standard normal: 300 rows have means and deviations within 4 standard errors, and some misfit
    np.testing.assert_allclose(z.mean(0), 0, atol=0.35)
    np.testing.assert_allclose(z.std(0), 1, atol=0.3)
    with pytest.raises(ValueError, match=r"shape \(n, 2\), got \(4, 3\)"):
        density.inverse_transform(np.zeros((4, 3)))


def test_held_out_scores_are_those_of_rows_not_trained_on(normal: np.ndarray) -> None:
    density = FlowDensity(**{**FAST, "steps": 60}, holdout=0.3).fit(normal)
    every = density.score_samples(normal)
    held = np.isclose(every[:, None], density.held_out_scores_, rtol=0, atol=1e-9).any(1)
    assert len(density.held_out_scores_) == held.sum() == 90
    # rows that the whitening, hence the training, has not seen move nothing but these scores
    moved = normal.copy()
    moved[held] += 0.1
    again = FlowDensity(**FAST, holdout=0.3)
    before, after = again.fit(normal).flow_.bijection, again.fit(moved).flow_.bijection
    torch.testing.assert_close(after.covariance, before.covariance, rtol=0, atol=0)
    assert len(FlowDensity(**FAST, holdout=0.0).fit(normal).held_out_scores_) == 0


def test_same_seed_same_flow_and_threads_are_left_alone(normal: np.ndarray) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    first, again = (FlowDensity(**FAST).fit(normal) for _ in range(2))
    other = FlowDensity(**{**FAST, "random_state": 1}).fit(normal)
    np.testing.assert_array_equal(first.score_samples(normal), again.score_samples(normal))
    assert np.abs(first.score_samples(normal) - other.score_samples(normal)).max() > 1e-3
    np.testing.assert_array_equal(first.sample(5), again.sample(5))
    assert np.abs(first.sample(5, random_state=7) - first.sample(5)).max() > 1e-3
    threads = torch.get_num_threads()
    torch.set_num_threads(before)
    assert threads == 3


@pytest.mark.thorough
def test_pipeline_grid_search_frame_pickle_clone(normal: np.ndarray) -> None:
    frame = pd.DataFrame(normal, columns=["mass", "length"])
    density = FlowDensity(**FAST).fit(frame)
    assert list(cast(Any, density).feature_names_in_) == ["mass", "length"]
    np.testing.assert_array_equal(
        density.score_samples(frame), FlowDensity(**FAST).fit(normal).score_samples(normal)
    )
    twin = pickle.loads(pickle.dumps(density))
    np.testing.assert_array_equal(twin.score_samples(frame), density.score_samples(frame))
    assert cast(FlowDensity, clone(density)).get_params() == density.get_params()
    pipeline = make_pipeline(StandardScaler(), FlowDensity(**FAST)).fit(frame)
    assert pipeline.score_samples(frame).shape == (300,)
    search = GridSearchCV(FlowDensity(**{**FAST, "steps": 60}), {"noise": [0.0, 2.0]}, cv=2).fit(normal)
    assert search.best_params_ == {"noise": 0.0}  # blurring by two deviations costs likelihood
    detector = make_pipeline(StandardScaler(), FlowOutlierDetector(**FAST, folds=0)).fit(frame)
    assert set(detector.predict(frame)) <= {-1, 1}


def test_weights_move_the_density() -> None:
    g = np.random.default_rng(0)
    x = np.concatenate([g.normal(-3, 0.5, (100, 2)), g.normal(3, 0.5, (100, 2))])
    weight = np.where(np.arange(200) < 100, 9.0, 1.0)
    density = FlowDensity("maf,layers=2,width=16", steps=150, random_state=0).fit(x, sample_weight=weight)
    share = (density.sample(1000, random_state=0).sum(1) < 0).mean()
    assert share == pytest.approx(0.9, abs=0.08)
    zero = np.where(np.arange(200) < 100, 1.0, 0.0)
    without = FlowDensity(**FAST).fit(x[:100])
    with pytest.raises(ValueError, match="at least two positive weights"):
        without.fit(x, sample_weight=np.arange(200) == 7)
    weighted = FlowDensity(**FAST).fit(x, sample_weight=zero)
    np.testing.assert_allclose(weighted.score_samples(x), without.score_samples(x), rtol=1e-5)


@pytest.mark.parametrize("estimator", [FlowDensity, FlowOutlierDetector])
def test_constant_columns_and_columns_that_are_mostly_one_value_have_a_density(estimator):
    g = np.random.default_rng(0)
    x = np.column_stack(
        [np.zeros(200), np.full(200, 3.7), np.where(g.random(200) < 0.8, 0.0, g.normal(size=200))]
    )
    x = np.column_stack([x, g.normal(size=(200, 2))])
    with pytest.warns(UserWarning):
        found = estimator(steps=20, random_state=0).fit(x)
    assert np.isfinite(found.score_samples(x)).all()


def test_threshold_is_a_quantile_of_rows_not_trained_on() -> None:
    x = make_moons(1500, noise=0.1, random_state=0)[0]
    fresh = make_moons(4000, noise=0.1, random_state=1)[0]
    detector = FlowOutlierDetector(
        "nsf,layers=2,width=16", contamination=0.1, folds=2, steps=60, random_state=0
    ).fit(x)
    held = detector.held_out_scores_
    assert len(held) == 1500 and (held < detector.threshold_).mean() == pytest.approx(0.1, abs=1 / 1500)
    # 4 standard errors of the quantile of 1,500 rows and of the share of 4,000, and a little for the mixture
    # of two flows, which scores new rows higher than each of them does
    errors = (0.09 / 1500 + 0.09 / 4000) ** 0.5
    assert (detector.predict(fresh) == -1).mean() == pytest.approx(0.1, abs=4 * errors + 0.01)
    far = np.array([[0.5, 3.0], [-3.0, -3.0]])
    assert detector.predict(far).tolist() == [-1, -1]
    assert detector.offset_ == detector.threshold_
    across, up = np.arange(-4, 5, 0.1), np.arange(-3.5, 4, 0.1)
    grid = np.stack(np.meshgrid(across, up, indexing="ij"), -1).reshape(-1, 2)
    mass = detector.flow_.log_prob(torch.from_numpy(grid)).exp().sum().item() * 0.1**2
    assert mass == pytest.approx(1.0, abs=0.02)  # blurred by 0.3 deviations, so coarse steps do
    with pytest.raises(AttributeError, match="fit_predict"):
        detector.fit_predict(x)


def test_outliers_among_the_training_rows(normal: np.ndarray) -> None:
    x = np.concatenate([normal, [[1.2e4, -2.0]] * 3 + np.random.default_rng(0).normal(0, 1.0, (3, 2))])
    detector = FlowOutlierDetector(**FAST, novelty=False, contamination=10 / 303, folds=0)
    check_outliers_fit_predict("FlowOutlierDetector", detector)
    found = detector.fit_predict(x)
    assert (found == -1).sum() == 10 and (found[300:] == -1).all()


def test_few_rows_atoms_and_constant_columns_warn() -> None:
    g = np.random.default_rng(0)
    x = g.normal(size=(200, 3))
    x[:, 1] = 7.0
    x[:80, 2] = 0.0
    with (
        pytest.warns(UserWarning, match="constant columns: 1"),
        pytest.warns(UserWarning, match="column 'x2' is 7 in 1.., column 'x3' is 0 in .*blurred by 0.0003"),
    ):
        density = FlowDensity(**FAST).fit(x)
    assert np.isfinite(density.score_samples(x)).all()
    np.testing.assert_allclose(resolution("scott", g.normal(size=(32, 1))), 0.5)
    np.testing.assert_array_equal(resolution(0.0, x), 0)
    with pytest.warns(UserWarning, match="blurred by 0.05 deviations there$"):
        resolution("auto", np.repeat(x, 10, axis=0)[:, 1:] + g.normal(size=(2000, 2)) * [0, 1e-9])
    with (
        pytest.warns(UserWarning, match="10 rows are few"),
        pytest.warns(UserWarning, match="training scores"),
    ):
        detector = FlowOutlierDetector(**FAST).fit(g.normal(size=(10, 2)))
    assert len(detector.held_out_scores_) == 0 and np.isfinite(detector.threshold_)
    whole = np.repeat(g.normal(size=(10, 2)), [1] * 9 + [12], axis=0)
    assert [v.tolist() if isinstance(v, np.ndarray) else v for v in atoms(whole)] == [[True, True], True]
    assert not atoms(g.normal(size=(10, 2)))[0].any()


def test_columns_are_one_dimensional_kernel_densities_of_scipy() -> None:
    g = np.random.default_rng(0)
    x, y = g.normal(size=(200, 3)) * [1.0, 1e-9, 1e9], g.normal(size=(7, 3)) * [1.0, 1e-9, 1e9]
    x[:, 2] = 5.0  # a constant column counts for nothing
    weight = g.uniform(0.5, 2.0, 200)
    columns = Columns(x, weight)

    def expected(rows: np.ndarray, w: np.ndarray, at: np.ndarray) -> float:
        total = 0.0
        for j in range(2):
            kde = stats.gaussian_kde(rows[:, j], weights=w)
            factor = columns.widths[j] / kde.covariance[0, 0] ** 0.5
            total += float(stats.gaussian_kde(rows[:, j], factor * kde.factor, w).logpdf(at[j])[0])
        return total

    np.testing.assert_allclose(columns(y), [expected(x, weight, row) for row in y], rtol=1e-8)
    rest = np.arange(200) != 3
    assert columns.left_out()[3] == pytest.approx(expected(x[rest], weight[rest], x[3]), rel=1e-8)
    # the lowest of ten rows has one tenth of them at or below it, a row below all an eleventh with itself
    tails = Columns(np.arange(10.0)[:, None])
    np.testing.assert_allclose(np.exp(tails.tails()), np.minimum(np.arange(1, 11), np.arange(10, 0, -1)) / 10)
    np.testing.assert_allclose(np.exp(tails.tails(np.array([[-5.0], [4.5]]))), [1 / 11, 6 / 11])


def test_tails_are_shares_of_normal_rows_and_fall_without_end() -> None:
    scores = np.random.default_rng(0).normal(size=1000)
    tail = Tail(scores)
    shares = np.exp(tail(np.quantile(scores, [0.1, 0.5, 0.9])))
    np.testing.assert_allclose(shares, [0.1, 0.5, 0.9], atol=1e-3)
    low = tail(np.array([-1e3, -1e2, scores.min()]))
    assert (np.diff(low) > 0).all() and low[2] == pytest.approx(np.log(0.5 / 1000))
    # a row of weight 2 is two rows
    twice = Tail(np.repeat(scores[:3], [2, 1, 1]))
    weighted = Tail(scores[:3], np.array([2.0, 1.0, 1.0]))
    assert abs(twice(np.array([10.0])) - weighted(np.array([10.0]))) < 1e-12


def test_combined_score_finds_what_is_far_in_one_column_and_what_is_off_the_line() -> None:
    g = np.random.default_rng(0)
    x = g.normal(size=(300, 2)) @ np.array([[1.0, 0.99], [0.0, 0.14]])
    detector = FlowOutlierDetector(contamination=0.05, steps=20, random_state=0).fit(x)
    assert detector.criterion_ == "combined"
    assert (detector.held_out_scores_ < detector.threshold_).mean() == pytest.approx(0.05, abs=1 / 300)
    assert detector.predict([[4.5, 4.5], [1.0, -1.0], [0.0, 0.0]]).tolist() == [-1, -1, 1]
    fresh = g.normal(size=(4000, 2)) @ np.array([[1.0, 0.99], [0.0, 0.14]])
    # 4 standard errors of the quantile of 300 rows
    assert (detector.predict(fresh) == -1).mean() == pytest.approx(0.05, abs=4 * (0.0475 / 300) ** 0.5)
    density = FlowOutlierDetector(criterion="density", steps=20, random_state=0).fit(x)
    np.testing.assert_allclose(density.score_samples(x), density.flow_.log_prob(torch.from_numpy(x)))
    with pytest.raises(ValueError, match="expected auto, density or combined"):
        FlowOutlierDetector(criterion="tails").fit(x)  # type: ignore[arg-type]


def test_whitening_is_the_covariance_of_the_rows(normal: np.ndarray) -> None:
    weight = np.random.default_rng(1).uniform(size=300)
    whiten = whitening(torch.from_numpy(normal), torch.from_numpy(weight))
    assert isinstance(whiten, Whiten)
    # up to the shrinkage, which is of the order of 1 / rows
    expected = np.cov(normal.T, aweights=weight, ddof=0)
    np.testing.assert_allclose(whiten.covariance.numpy(), expected, rtol=0.05)
    # one far row moves nothing much
    far = normal.copy()
    far[0] = 1e9
    moved = whitening(torch.from_numpy(far))
    plain = whitening(torch.from_numpy(normal))
    np.testing.assert_allclose(moved.covariance.diag(), plain.covariance.diag(), rtol=1.0)
    np.testing.assert_allclose(moved.loc, plain.loc, atol=0.1 * float(plain.covariance[0, 0].sqrt()))
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y, log_det = whiten.forward_and_log_det(x)
    back, inverse = whiten.inverse_and_log_det(y)
    torch.testing.assert_close(back, x)
    jacobian = torch.autograd.functional.jacobian(lambda v: whiten.forward(v[None])[0], x[0])
    torch.testing.assert_close(log_det, jacobian.slogdet()[1].expand(5))
    torch.testing.assert_close(inverse, -log_det)
    unit = torch.tensor([1e-9, 1e9], dtype=torch.float64)
    unlike = whitening(torch.from_numpy(normal) * unit)
    torch.testing.assert_close(
        unlike.inverse(torch.from_numpy(normal) * unit),
        whitening(torch.from_numpy(normal)).inverse(torch.from_numpy(normal)),
        atol=1e-6,
        rtol=1e-6,
    )
    with pytest.raises(ValueError, match="positive definite"):
        Whiten(torch.zeros(2), torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"shapes \(d,\) and \(d, d\)"):
        Whiten(torch.zeros(2), torch.eye(3))


def test_blur_bounds_the_density_of_the_blurred_law_and_is_stored(normal: np.ndarray) -> None:
    # the flow is N(0, 1), the blur 0.5: the distribution that it bounds is N(0, 1.25), and the bound, a mean
    # over the noise, is log N(x; 0, 1) - 0.25 / 2
    flow = Transformed(BijectiveFlow(Chain(), Normal(1).double()), Blur(0.5), torch.float64)
    x = torch.full((20_000, 1), 0.7, dtype=torch.float64)
    bound = flow.log_prob(x, None, seeded(0))
    expected = stats.norm.logpdf(0.7) - 0.125
    assert flow.density == "bound" and expected < stats.norm.logpdf(0.7, scale=1.25**0.5)
    # 4 standard errors
    assert float(bound.mean()) == pytest.approx(expected, abs=4 * float(bound.std()) / 20_000**0.5)
    drawn = flow.sample(20_000, None, seeded(1))
    assert float(drawn.var()) == pytest.approx(1.25, rel=4 * (2 / 20_000) ** 0.5)
    with pytest.raises(ValueError, match="scale: expected finite numbers >= 0"):
        Blur(torch.tensor([0.1, -0.1]))
    chain = Chain(whitening(torch.from_numpy(normal)), Blur(torch.tensor([0.1, 0.2], dtype=torch.float64)))
    again = bijection_from_json(json.loads(json.dumps(bijection_to_json(chain))))
    assert {k: v.tolist() for k, v in again.state_dict().items()} == {
        k: v.tolist() for k, v in chain.state_dict().items()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contamination": 0.5}, r"contamination: expected a share in \(0, 0.5\), got 0.5"),
        ({"contamination": 0.0}, "contamination"),
        ({"folds": 1}, "folds: expected 0 or at least 2, got 1"),
        (
            {"options": {"noise": "silverman"}},
            "noise: expected a number >= 0, auto or scott, got 'silverman'",
        ),
        ({"options": {"noise": -1.0}}, "noise"),
        ({"method": "nfs"}, "did you mean 'nsf'"),
        ({"method": "fm,layers=3"}, "only normalizing flows take options"),
        ({"options": {"wight": 1}}, "options: .*wight"),
        (
            {"criterion": "combined", "options": {"space": "torus"}},
            "criterion: combined judges columns, which alone mean nothing with space torus; expected auto",
        ),
        ({"options": {"space": "torus"}}, "space torus: .* is for vectors; take method rfm"),
        ({"method": "dfm"}, "tokens are whole levels"),
        (
            {"method": "rectified-flow", "options": {"distil": True, "pairs": 32, "network": "mlp,width=4"}},
            "no density",
        ),
    ],
)
def test_mistakes(normal: np.ndarray, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlowOutlierDetector(**{**FAST, "steps": 2, **change}).fit(normal[:40])


def test_places_have_a_density_per_area_of_the_globe() -> None:
    g = np.random.default_rng(0)
    places = np.column_stack([np.degrees(np.arcsin(g.uniform(0.5, 1, 300))), g.uniform(-180, 180, 300)])
    options = {"space": "sphere,lat=0,lon=1", "folds": 0, "network": "mlp,width=16,depth=1"}
    density = FlowDensity(options=options, steps=30, random_state=0).fit(places)
    # the north is denser than the whole globe, where the log-density would be -log(4 pi)
    assert density.score(places) > -np.log(4 * np.pi)
    latent = density.transform(places)
    assert latent.shape == (300, 3)
    np.testing.assert_allclose(np.linalg.norm(latent, axis=1), 1, atol=1e-9)
    # there and back, by the solver's tolerance of 1e-5
    np.testing.assert_allclose(density.inverse_transform(latent)[:, 0], places[:, 0], atol=0.1)
    drawn = density.sample(50)
    assert drawn.shape == (50, 2) and (np.abs(drawn[:, 0]) <= 90).all()
    noise: dict[str, Any] = {"noise": 0.1}
    for change, told in ((noise, "noise: 0.1 moves"), ({}, "latitude: expected degrees")):
        with pytest.raises(ValueError, match=f"options: .*{told}"):
            FlowDensity(options=options, steps=2, **change).fit(places + (not change) * 20.0)


@pytest.mark.parametrize("folds", [0, 2])
def test_outliers_among_places_are_those_of_low_density_per_area(folds: int) -> None:
    g = np.random.default_rng(0)
    places = np.column_stack([np.degrees(np.arcsin(g.uniform(0.5, 1, 300))), g.uniform(-180, 180, 300)])
    options = {"space": "sphere,lat=0,lon=1", "network": "mlp,width=16,depth=1"}
    detector = FlowOutlierDetector(options=options, folds=folds, steps=200, random_state=0).fit(places)
    assert detector.criterion_ == "density"
    # the cap is a quarter of the globe: -log(pi), which the edge that such a network cannot draw lowers
    held, whole = np.nanmean(detector.held_out_scores_), detector.score_samples(places).mean()
    assert -np.log(4 * np.pi) < held < -np.log(np.pi) and abs(held - whole) < 0.2
    # places that are far apart in columns and near on the globe, and a place on the other side of it
    assert detector.predict([[89.0, 170.0], [89.0, -10.0], [-80.0, 0.0]]).tolist() == [1, 1, -1]
    assert float((detector.predict(places) == -1).mean()) < 0.15


def test_nan_is_refused() -> None:
    for estimator in (FlowDensity(), FlowOutlierDetector()):
        with pytest.raises(ValueError, match="NaN"):
            estimator.fit([[0.0, 1.0], [np.nan, 2.0], [3.0, 1.0]])


def test_score_flags_anomalies(tmp_path, capsys) -> None:
    g = np.random.default_rng(0)
    table, new = tmp_path / "table.csv", tmp_path / "new.csv"
    pd.DataFrame(g.normal(size=(500, 2)), columns=["a", "b"]).to_csv(table, index=False)
    rows = np.concatenate([g.normal(size=(400, 2)), [[9.0, -9.0], [50.0, 0.0]]])
    pd.DataFrame(rows, columns=["a", "b"]).to_csv(new, index=False)
    small = ["--method", "maf", "--flow", "maf,layers=1,width=8", "--steps", "20", "--no-report"]
    assert main(["train", str(table), "--out", str(tmp_path / "run"), *small]) == 0
    out = tmp_path / "scores.csv"
    assert main(["score", str(tmp_path / "run"), str(new), "--flag-below", "0.1", "-o", str(out)]) == 0
    scores: Any = pd.read_csv(out)
    assert list(scores.columns) == ["log_prob", "flag"]
    assert scores["flag"].iloc[-2:].tolist() == [1, 1]
    # the quantile of 100 held-out rows is that of the distribution within 4 standard errors
    assert scores["flag"][:400].mean() == pytest.approx(0.1, abs=4 * (0.09 / 100 + 0.09 / 400) ** 0.5)
    limit = scores["log_prob"][scores["flag"] == 1].max()
    assert (scores["log_prob"][scores["flag"] == 0] >= limit).all()
    said = capsys.readouterr().err
    assert (
        f"flagged {scores['flag'].sum()} of 402 rows" in said
        and "the 0.1 quantile of 100 held-out rows" in said
    )
    assert main(["score", str(tmp_path / "run"), str(new), "--flag-below", "0.7"]) == 2
    assert "--flag-below: expected a number in (0, 0.5), got 0.7" in capsys.readouterr().err
    assert main(["train", str(table), "--out", str(tmp_path / "all"), "--holdout", "0", *small]) == 0
    assert main(["score", str(tmp_path / "all"), str(new), "--flag-below", "0.1", "-o", str(out)]) == 2
    assert "no held-out rows" in capsys.readouterr().err
