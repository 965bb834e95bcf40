"""Synthetic rows, scores and imputations of tables of any columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from pushforward.estimators import FlowTable

CITIES, SHARES = np.array(["Rome", "Oslo", "Lima"]), (0.5, 0.3, 0.2)


def table(n: int, seed: int = 0) -> Any:
    """Warmth depends on the city, rain is 0 in half of the rows, and gaps are likelier where it is warm."""
    rng = np.random.default_rng(seed)
    city = rng.choice(3, n, p=SHARES)
    warmth = np.array([20.0, 5.0, 15.0])[city] + 2 * rng.normal(size=n)
    rain = np.where(rng.random(n) < 0.5, 0.0, np.exp(rng.normal(size=n)))
    people = np.where(rng.random(n) < 1 / (1 + np.exp(15 - warmth)), np.nan, rng.poisson(30, n))
    return pd.DataFrame(
        {
            "station": np.arange(100, 100 + n),
            "city": CITIES[city],
            "warmth": warmth,
            "rain": rain,
            "people": people,
            "open": rng.random(n) < 0.25,
            "day": pd.to_datetime("2020-03-01") + pd.to_timedelta(rng.integers(0, 200, n), unit="D"),
            "year": 2020,
        }
    )


@pytest.fixture(scope="module")
def fitted() -> FlowTable:
    return FlowTable(width=192, depth=2, steps=1000, random_state=0).fit(table(4000))


def test_samples_are_like_the_table(fitted: FlowTable) -> None:
    real, n = table(4000, 1), 4000
    drawn: Any = fitted.sample(n, random_state=1)
    assert list(drawn.columns) == list(real.columns) and drawn["open"].dtype == bool
    assert not {*drawn["station"]} & {*table(4000)["station"]} and bool((drawn["year"] == 2020).all())
    # the error of a share of 4,000 rows is .008, and training adds to it
    for city, share in zip(CITIES, SHARES):
        assert abs((drawn["city"] == city).mean() - share) < 0.05
    assert abs((drawn["rain"] == 0).mean() - 0.5) < 0.05
    assert bool((drawn["rain"] >= 0).all())
    assert drawn["day"].dtype == real["day"].dtype and not drawn["day"].isna().any()
    # even over 200 days, whose middle half is [50, 150)
    middle = (drawn["day"] - pd.to_datetime("2020-03-01")).dt.days.between(50, 149).mean()
    assert abs(middle - 0.5) < 0.05
    assert abs(drawn["people"].isna().mean() - real["people"].isna().mean()) < 0.06
    warm = drawn[["city", "warmth"]].groupby("city")["warmth"].mean()
    assert abs(warm["Rome"] - 20) < 1 and abs(warm["Oslo"] - 5) < 1 and abs(warm["Lima"] - 15) < 1
    whole = drawn["people"].dropna().astype(float)
    assert bool((whole == whole.round()).all() and (whole >= 0).all())


def test_columns_that_are_given_are_kept_and_decide_on_others(fitted: FlowTable) -> None:
    drawn: Any = fitted.sample(1000, given={"warmth": 5.0, "open": True}, random_state=2)
    assert bool((drawn["warmth"] == 5.0).all() and drawn["open"].all())
    assert (drawn["city"] == "Oslo").mean() > 0.9  # by Bayes' rule all but 1e-5
    again = fitted.sample(1000, given={"warmth": 5.0, "open": True}, random_state=2)
    pd.testing.assert_frame_equal(drawn, again)


def test_gaps_are_filled_and_the_rest_stays(fitted: FlowTable) -> None:
    full = table(2000, 3).assign(people=30.0)
    holes = full.copy()
    rng = np.random.default_rng(0)
    for name in ("city", "warmth", "rain", "people"):
        holes[name] = holes[name].where(rng.random(2000) > 0.3)
    holes.index = pd.Index(range(9000, 11000))
    filled: Any = fitted.impute(holes, random_state=0)
    assert not filled.isna().any().any() and filled.index.equals(holes.index)
    for name in holes:
        known = holes[name].notna()
        assert bool((filled[name][known] == holes[name][known]).all())
    gone = holes["city"].isna() & holes["warmth"].notna()
    right = (filled["city"][gone].to_numpy() == full["city"][gone.to_numpy()].to_numpy()).mean()
    assert right > 0.8  # .90 of draws by Bayes' rule; the error of so many gaps is .02


def test_scores_are_those_of_the_distribution(fitted: FlowTable) -> None:
    frame = table(600, 4)
    found = fitted.score_samples(frame)
    assert found.shape == (600,) and bool(np.isfinite(found).all())
    mixed = frame.assign(warmth=frame["warmth"].sample(frac=1, random_state=0).to_numpy())
    assert fitted.score(frame) > fitted.score(mixed) + 1
    # the entropy of city, warmth, rain, people and open, by their closed forms
    normal = 0.5 * math.log(2 * math.pi * math.e)
    city = -sum(p * math.log(p) for p in SHARES)
    rain = math.log(2) + 0.5 * normal
    door = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    gap = 1 / (1 + np.exp(15 - frame["warmth"]))
    chances = np.where(frame["people"].isna(), gap, 1 - gap)
    people = (~frame["people"].isna()).mean() * (0.5 * math.log(30) + normal)  # of Poisson(30), to .01
    # a day, of which there are 200, is a weekday and a place within a week
    truth = -(city + math.log(2) + normal + rain + door + people + math.log(200))
    truth += np.log(chances).mean()
    # the spread of the mean over 600 rows is .1; a short training may lose a third of a nat
    assert truth - 0.6 < fitted.score(frame) < truth + 0.3


def test_it_is_an_estimator() -> None:
    model = FlowTable(width=16, steps=10, kinds={"year": "category"})
    twin: Any = clone(model)
    assert twin.get_params() == model.get_params()


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda m: FlowTable(steps=1).fit(table(31)), "X: expected at least 32 rows, got 31"),
        (lambda m: FlowTable().fit(table(50)[["station", "year"]]), "X: no column to learn from; all are"),
        (lambda m: FlowTable(kinds={"town": "category"}).fit(table(50)), "no column 'town'"),
        (lambda m: m.sample(2, given={"town": "Rome"}), "given: no column 'town'"),
        (lambda m: m.sample(2, given={"city": "Roma"}), "'Roma'"),
        (lambda m: m.sample(2, given={"warmth": math.nan}), "column 'warmth': an empty cell"),
        (lambda m: m.score_samples(table(5).drop(columns="rain")), "no column 'rain'"),
        (lambda m: m.impute(table(5).drop(columns="rain")), "X: no column 'rain'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(fitted: FlowTable, call, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        call(fitted)
    assert "\n" not in str(error.value)
