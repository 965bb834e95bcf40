"""Columns of every kind: what they are taken for, as tokens and numbers and back, and as a text."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from contract import every
from pushforward.cli import main
from pushforward.data.kinds import (
    KINDS,
    ColumnKind,
    Given,
    TableKinds,
    from_toml,
    infer,
    kind_from_json,
    read_table,
    to_toml,
)
from pushforward.data.kinds.cells import Cells
from pushforward.data.kinds.maps import Affine, Log, Logit, Quantiles, Soft, middle


def texts(values: Any) -> np.ndarray:
    values = list(values)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class Case(NamedTuple):
    """A column of a kind: cells it is fitted to, others of it, what a user has to say, and whether fresh
    values come back for the same ones."""

    draw: Callable[[np.random.Generator, int], np.ndarray]
    given: Given = Given()
    fresh: bool = False


def days(generator: np.random.Generator, n: int, first: str, step: str) -> np.ndarray:
    return np.datetime64(first, step) + generator.integers(0, 900, n)


def reformatted(dates: np.ndarray, format: str) -> np.ndarray:
    return texts(pd.Series(dates.astype("datetime64[s]")).dt.strftime(format))


CASES: dict[str, Case] = {
    "constant": Case(lambda g, n: texts(["x"] * n)),
    "boolean": Case(lambda g, n: texts(np.where(np.arange(n) % 3 == 1, "Yes", "No"))),
    "date": Case(lambda g, n: texts(map(str, days(g, n, "1999-03-05", "D")))),
    "date with a time": Case(lambda g, n: reformatted(days(g, n, "2020-01-03T04:05", "h"), "%d.%m.%Y %H:%M")),
    "date that are months": Case(lambda g, n: reformatted(days(g, n, "1999-03", "M"), "%b %Y")),
    "time": Case(lambda g, n: texts(f"{m // 60}:{m % 60:02d}" for m in g.integers(0, 1440, n))),
    "identifier": Case(lambda g, n: texts(f"C{i:04d}" for i in range(n)), fresh=True),
    "ordinal": Case(lambda g, n: np.arange(n) % 4 + 2),
    "ordinal of texts": Case(
        lambda g, n: texts(np.array(["low", "mid", "high"])[np.arange(n) % 3]),
        Given(kind="ordinal", levels=("low", "mid", "high")),
    ),
    "bounded": Case(lambda g, n: np.round(np.append(g.beta(0.7, 0.7, n - 2), [0.0, 1.0]), 3)),
    "bounded of full precision": Case(lambda g, n: np.append(g.beta(0.7, 0.7, n - 2), [0.0, 1.0])),
    "count": Case(lambda g, n: g.poisson(20, n)),
    "count with atoms": Case(lambda g, n: np.where(g.random(n) < 0.4, 0, g.geometric(0.003, n))),
    "integer": Case(lambda g, n: g.integers(-200, 200, n)),
    "skewed": Case(lambda g, n: np.round(np.exp(2 + g.normal(size=n)), 4)),
    "skewed, heavy on both sides": Case(lambda g, n: g.normal(size=n) ** 5),
    "skewed with atoms": Case(lambda g, n: np.where(g.random(n) < 0.4, 0, np.exp(g.normal(size=n)).round(2))),
    "real": Case(lambda g, n: np.round(5 * g.normal(size=n), 2)),
    "real of full precision": Case(lambda g, n: g.normal(1e5, 1e-2, n)),
    "real above 0": Case(lambda g, n: np.abs(g.normal(3, 1, n)) + 0.01),
    "category": Case(lambda g, n: texts(np.array(["a b", "ä", "3+", "="])[np.arange(n) % 4])),
    "category of numbers": Case(lambda g, n: np.arange(n) % 4 + 2.5, Given(kind="category")),
}


def test_every_kind_has_a_case() -> None:
    assert {name.split(",")[0].split(" ")[0] for name in CASES} == {*KINDS} - {"text"}


def same(a: np.ndarray, b: np.ndarray) -> None:
    """Equal in type and value, floats of full precision up to rounding."""
    assert a.dtype == b.dtype
    if a.dtype == np.float64:
        # of the largest: a coordinate has the rounding of what it is shifted by
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13 * np.nanmax(np.abs(b)))
    else:
        assert a.tolist() == b.tolist()


def with_gaps(values: np.ndarray) -> np.ndarray:
    values = values.copy() if values.dtype == object else values.astype(np.float64)
    values[::7] = None if values.dtype == object else np.nan
    return values


def fitted(case: Case, values: np.ndarray) -> ColumnKind:
    return infer(pd.DataFrame({"x": values}), {"x": case.given}).kinds[0]


def kind_of(name: str) -> str:
    return name.split(",")[0].split(" ")[0]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_cells_come_back_exactly(name: str, gaps: bool) -> None:
    case = CASES[name]
    if gaps and name in ("constant", "identifier"):
        pytest.skip("has no empty cells")
    train, new = case.draw(rng(0), 600), case.draw(rng(1), 600)
    if gaps:
        train, new = with_gaps(train), with_gaps(new)
    kind = fitted(case, train)
    assert kind.word == kind_of(name)
    for generator in (None, rng(2)):
        tokens, numbers = kind.encode(new, generator)
        assert numbers.shape == (600, kind.numbers) and numbers.dtype == np.float64
        assert (tokens is None) == (kind.tokens == 0)
        if tokens is not None:
            assert tokens.shape == (600,) and tokens.dtype == np.int64 and tokens.max() < kind.tokens
        there = np.ones(600, dtype=bool) if tokens is None else tokens < kind.numbered
        assert (np.isnan(numbers) == ~there[:, None]).all()
        found = kind.decode(tokens, numbers)
        if case.fresh:
            assert len({*found.tolist(), *train.tolist()}) == 1200
        else:
            same(found, new)


@pytest.mark.parametrize("name", CASES)
def test_plain_data_and_text_bring_the_kind_back(name: str) -> None:
    case = CASES[name]
    frame = pd.DataFrame({"a column = [x]": case.draw(rng(0), 600)})
    found = infer(frame, {"a column = [x]": case.given})
    plain = json.loads(json.dumps(found.to_json()))
    assert TableKinds.from_json(plain) == found
    assert kind_from_json(plain["columns"][0]["kind"]) == found.kinds[0]
    given = from_toml(to_toml(found))
    assert infer(frame, given).kinds == found.kinds


@pytest.mark.parametrize("name", CASES)
def test_log_det_is_that_of_differences(name: str) -> None:
    """A step of the decoding without its rounding, in weeks and steps of time for dates."""
    kind = fitted(CASES[name], CASES[name].draw(rng(0), 600))
    z = rng(3).normal(size=(50, kind.numbers))
    z[0] = np.nan
    maps: list[Any] = [vars(kind).get("map") or vars(kind).get("place")][: kind.numbers]
    if clock := vars(kind).get("clock"):
        maps = [*filter(None, maps), clock.map]
    expected, h = np.zeros(50), 1e-4
    for i in range(kind.numbers):
        slope = (maps[i].inverse(z[1:, i] + h) - maps[i].inverse(z[1:, i] - h)) / (2 * h)
        expected[1:] += np.log(slope)
    np.testing.assert_allclose(kind.log_det(z), expected, atol=2e-4)


@pytest.mark.parametrize("name", [name for name in CASES if kind_of(name) not in ("date", "time")])
def test_log_det_gives_densities_in_units_of_the_data(name: str) -> None:
    """A normal density of the coordinate, as one of the data, has mass 1.

    The tolerance is that of trapezia where lines through quantiles of heavy tails have their corners.
    """
    kind = fitted(CASES[name], CASES[name].draw(rng(0), 600))
    if not kind.numbers:
        assert not kind.log_det(np.zeros((3, 0))).any()
        return
    values: Any = vars(kind)["map"]
    z = np.linspace(-6, 6, 200_001)
    density = np.exp(-(z**2) / 2 - kind.log_det(z[:, None])) / np.sqrt(2 * np.pi)
    assert np.trapezoid(density, values.inverse(z)) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("name", [name for name in CASES if kind_of(name) != "time"])
def test_coordinates_are_standardised(name: str) -> None:
    kind = fitted(CASES[name], values := CASES[name].draw(rng(0), 600))
    z = kind.encode(values, rng(1))[1][:, :1]
    z = z[~np.isnan(z)]
    if len(z):
        # quantiles are joined by lines: not exactly
        assert abs(z.mean()) < 0.05 and 0.9 < z.std() < 1.1


@every("fit", {"affine": Affine, "log": Log, "soft": Soft, "logit": Logit})
def test_maps_reach_far_beyond_the_data(fit: Any) -> None:
    numbers = {"low": -1.0, "high": 2.0, "width": 3.0, "center": 0.5, "scale": 2.0}
    chosen = fit(**{name: value for name, value in numbers.items() if name in fit.__dataclass_fields__})
    z = np.linspace(-9, 9, 101)
    v = chosen.inverse(z)
    low, high = chosen.interval
    assert (np.diff(v) > 0).all() and v.min() > low and v.max() < high
    np.testing.assert_allclose(chosen.forward(v), z, atol=1e-6)


def test_mapped_quantiles_reach_beyond_the_data() -> None:
    values = rng().normal(size=500) ** 5
    found = fitted(CASES["real"], values)
    assert isinstance(vars(found)["map"], Quantiles)
    _, z = found.encode(far := np.array([2 * values.min(), 2 * values.max()]))
    assert z[0, 0] < -3 and z[1, 0] > 3
    np.testing.assert_allclose(found.decode(None, z), far)


def test_the_log_is_taken_where_it_makes_data_normal_and_not_elsewhere() -> None:
    z = rng().normal(size=500)
    assert isinstance(vars(fitted(CASES["real"], np.exp(z)))["map"], Log)
    assert isinstance(vars(fitted(CASES["real"], 5 + z))["map"], Soft)
    assert isinstance(vars(fitted(CASES["real"], z))["map"], Affine)
    assert isinstance(vars(fitted(CASES["real"], np.where(z > 0, 9 + z / 9, z / 9)))["map"], Affine)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_one_outlier_moves_nothing_and_units_neither(unit: float) -> None:
    values = rng().normal(size=200)
    alone = middle(values)
    center, scale = middle(unit * np.append(values, 1e9))
    assert abs(center / unit - alone[0]) < 1e-9 and scale / unit == pytest.approx(alone[1])
    found = infer(pd.DataFrame({"x": unit * np.append(values, 1e9)})).columns[0]
    assert found.doubt is not None and "lies far from the rest" in found.doubt


def test_counts_stay_counts_and_shares_stay_shares() -> None:
    z = np.linspace(-30, 30, 601)[:, None]
    count = fitted(CASES["count"], rng().poisson(30, 500)).decode(None, z)
    share = fitted(CASES["bounded"], CASES["bounded"].draw(rng(), 500)).decode(None, z)
    assert count.dtype == np.int64 and count.min() == 0
    assert share.min() == 0 and share.max() == 1


def test_rounded_numbers_say_that_densities_are_bounds() -> None:
    bounds = {name: fitted(case, case.draw(rng(), 600)).bound for name, case in CASES.items()}
    # of two decimals and a deviation of 5, 600 numbers hardly repeat; of three between 0 and 1 they do
    assert {name for name, bound in bounds.items() if bound} == {
        "date", "date with a time", "date that are months", "time", "count", "count with atoms", "integer",
    }  # fmt: skip
    assert fitted(CASES["real"], rng().normal(size=600).round(1)).bound


# -- what columns are taken for -------------------------------------------------------------------------

SEEN: dict[str, tuple[Any, str]] = {
    "spaces": (["a b"] * 9, "constant"),
    "truth values": ([True, False] * 9, "boolean"),
    "no and yes in capitals": (["NO", "YES", None] * 9, "boolean"),
    "female and male": (["female", "male"] * 9, "category"),
    "one level and gaps": (["x", None] * 9, "category"),
    "numbered rows": (range(1, 40), "identifier"),
    "names of rows": ([f"AB-{i:05d}" for i in range(40)], "identifier"),
    "hexadecimal names": ([f"{i * 7919**4:024x}" for i in range(1, 40)], "identifier"),
    "cylinders": ([4, 6, 8] * 20, "ordinal"),
    "hours": ([*range(24)] * 50, "ordinal"),
    "prices": ([1.69, 1.79, 1.99] * 20, "ordinal"),
    "years": ([i for i in range(1970, 2010) for _ in "ab"], "integer"),
    "rain": ([0.0] * 60 + [i / 10 for i in range(1, 60)], "real"),
    "sentences": ([f"the {i} quick foxes" for i in "abcdefghijkl"], "text"),
    "days first": (["13/01/2020", "02/01/2020"] * 9, "date"),
    "short years": (["1/31/99", "12/1/01"] * 9, "date"),
    "instants": (["2020-01-01T00:05:00Z", "2020-01-02T10:00:00Z"] * 9, "date"),
    "hours of the day": (["09:00", "17:30", None] * 9, "time"),
}


@pytest.mark.parametrize("name", SEEN)
def test_columns_are_understood(name: str) -> None:
    values, word = SEEN[name]
    assert infer(pd.DataFrame({"x": values})).kinds[0].word == word


def column(values: Any, **given: Any) -> Any:
    return infer(pd.DataFrame({"x": values}), {"x": Given(**given)}).columns[0]


def test_zeros_and_codes_are_values_of_their_own() -> None:
    some = rng().normal(10, 2, 100).round(2)
    assert column([*some, *[0.0] * 20]).kind.atoms == (0.0,)
    found = column([*rng().integers(1, 70, 100), -999, -999])
    assert found.kind.atoms == (-999,) and found.kind.lowest == 0
    assert found.doubt == "-999 in 2 rows: missing?"
    balance = column(np.where(rng().random(500) < 0.4, 0, rng(1).geometric(0.003, 500))).kind
    assert balance.atoms == (0,) and balance.decode(np.zeros(1, dtype=np.int64), np.array([[-50.0]])) == [1]
    # frequent, but no more than what lies beside it
    assert column(rng().poisson(3, 500) * 1.0, kind="count").kind.atoms == ()


DOUBTS = {
    "day or month first? read as %d/%m/%Y": ["01/02/2020", "03/04/2020", "02/01/2020"] * 9,
    'only first days: counted in years, unit = "week" if not': ["2000-01-01", "2001-01-01"] * 9,
    "12 levels in 24 rows: identifier or text?": [*"abcdefghijkl"] * 2,
    '13 numbers: levels? kind = "count" if not': [*range(13)] * 60,
    "numbers and texts": ["1", "2", "3+"] * 9,
    'numbers the rows: kind = "integer" if not': range(2000, 2040),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_doubts_are_told(doubt: str) -> None:
    assert column(DOUBTS[doubt]).doubt == doubt


def test_dates_in_order_say_which_comes_first() -> None:
    found = column(["01/02/2020", "02/01/2020", "03/01/2020"])
    assert found.kind.format == "%m/%d/%Y"


def test_dtypes_of_a_frame_come_back() -> None:
    n = 60
    frame = pd.DataFrame(
        {
            "small": pd.array([1, None, 700] * 20, dtype="Int32"),
            "single": rng().normal(size=n).astype("float32"),
            "truth": rng().random(n) > 0.5,
            "holes": pd.array([True, None, False] * 20, dtype="boolean"),
            "labels": pd.Categorical(["b", "a", None] * 20),
            "time": pd.date_range("2020-01-01", periods=n, freq="7h"),
        }
    )
    found = infer(frame)
    pd.testing.assert_frame_equal(found.decode(*found.encode(frame)), frame)


# -- tables ---------------------------------------------------------------------------------------------


def table(n: int, copies: int = 1) -> pd.DataFrame:
    """A column of every case, ``copies`` times."""
    cases = {name: case for name, case in CASES.items() if not case.given.named()}
    return pd.DataFrame(
        {f"{name} {i}": case.draw(rng(i), n) for i in range(copies) for name, case in cases.items()}
    )


@pytest.mark.parametrize("n, copies", [(100, 1), (120, 6), (1, 1), (2, 1)])
def test_tables_of_every_kind_come_back(n: int, copies: int) -> None:
    frame = table(max(n, 60), copies).head(n)
    found = infer(frame)
    tokens, numbers = found.encode(frame.filter([*frame][::-1]), rng())
    assert tokens.shape == (n, len(found.token_columns)) == (n, len(found.levels))
    assert numbers.shape == (n, len(found.number_columns))
    back = found.decode(tokens, numbers)
    learnt = [kind.name for kind in found.kinds if kind.word != "identifier"]
    assert [*back] == [*frame]
    pd.testing.assert_frame_equal(back.filter(learnt), frame.filter(learnt), check_exact=False, rtol=1e-12)
    parts = [
        kind.log_det(numbers[:, np.array(found.number_columns) == i]) for i, kind in enumerate(found.kinds)
    ]
    np.testing.assert_allclose(found.log_det(numbers), sum(parts))


def test_one_column_is_a_table() -> None:
    frame = pd.DataFrame({"x": [0.5, 1.25, 7.5]})
    found = infer(frame)
    tokens, numbers = found.encode(frame)
    assert tokens.shape == (3, 0) and numbers.shape == (3, 1) and found.decode(tokens, numbers).equals(frame)


@pytest.mark.slow
def test_long_tables_are_fast() -> None:
    """A second or two for each column here; the limit is for slower machines."""
    frame = pd.DataFrame({name: CASES[name].draw(rng(), 100_000) for name in KINDS if name in CASES})
    begun = time.process_time()
    found = infer(frame)
    tokens, numbers = found.encode(frame, rng())
    found.decode(tokens, numbers)
    assert time.process_time() - begun < 60


def test_unlike_units_are_all_near_one() -> None:
    z = rng().normal(size=(100, 3))
    frame = pd.DataFrame({"tiny": 1e-9 * z[:, 0], "huge": 1e12 * z[:, 1], "far": 1e8 + z[:, 2]})
    found = infer(frame)
    _, numbers = found.encode(frame)
    np.testing.assert_allclose(numbers.std(0), 1, atol=1e-6)


# -- mistakes -------------------------------------------------------------------------------------------

BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "texts among numbers": (
        [*map(str, range(99)), "many"],
        {},
        r"'many' at row 100, but most cells are numbers",
    ),
    "two formats": (
        ["2020-01-31"] * 9 + ["31.01.2020"],
        {},
        r"'31.01.2020' at row 10, but two formats of dates",
    ),
    "a date that is none": (
        ["2020-01-31"] * 9 + ["2020-02-31"],
        {},
        r"'2020-02-31' at row 10, but most are as",
    ),
    "nothing": ([None, None], {}, r"every cell is empty; leave out with --exclude x"),
    "infinite": ([1.5, np.inf, 2.5], {}, r"inf at row 2, but a number has to be finite"),
    "not exact": ([2**60, 2**60, 5], {"kind": "count"}, r"integers beyond 2\^53"),
    "too large": ([1e200, 2e200, 0.5], {"kind": "real"}, r"cannot compute with it \(up to 2e\+200\)"),
    "a text as number": (["a", "b"], {"kind": "real"}, r"'a' at row 1, but kind real takes numbers"),
    "fractions as counts": ([1.0, 2.5], {"kind": "count"}, r"2.5 at row 2, but kind count takes whole"),
    "negative counts": ([1, -2], {"kind": "count"}, r"-2 at row 2, but lowest = 0"),
    "below the lowest": ([1.5, -2.5], {"lowest": 0}, r"-2.5 at row 2, but lowest = 0"),
    "outside limits": ([0.5, 1.5], {"limits": (0, 1)}, r"1.5 at row 2, but its limits are 0 and 1"),
    "falling limits": ([0.5, 0.7], {"limits": (1, 0)}, r"limits: expected two that rise, got 1 and 0"),
    "no limits": ([5.5, 7.5], {"kind": "bounded"}, r"needs its limits, as limits = \[0, 1\]"),
    "an unknown level": (["a", "b"], {"levels": ("a", "c")}, r"'b' at row 2, but that is none of its levels"),
    "levels twice": (["a", "b"], {"levels": ("a", "a")}, r"levels: expected different ones, got a, a"),
    "levels of words": ([1, 2], {"kind": "ordinal", "levels": ("a",)}, r"levels: 'a' is no number"),
    "no order": (["a", "b"], {"kind": "ordinal"}, r"kind ordinal needs the order of its texts"),
    "three truths": (["a", "b", "c"], {"kind": "boolean"}, r"kind boolean takes two levels, got 3"),
    "no constant": (["a", "b"], {"kind": "constant"}, r"'b' at row 2, but kind constant takes one value"),
    "an empty constant": (["a", None], {"kind": "constant"}, r"an empty cell at row 2"),
    "a format of nothing": (["a", "b"], {"kind": "date", "format": "%Q"}, r"format: expected one such as %Y"),
    "no format": (["a", "b"], {"kind": "date"}, r"no format of dates is known that reads \['a'\]"),
    "another format": (["2020-01-31"], {"format": "%d.%m.%Y"}, r"'2020-01-31' at row 1, but its format is"),
    "no first day": (["2020-01-31"] * 2, {"unit": "month"}, r'unit = "month" takes first days of months'),
    "gaps": (["a", None], {"missing": False}, r"an empty cell at row 2, but missing = false"),
    "an unknown kind": ([1, 2], {"kind": "caount"}, r"no kind 'caount'; did you mean 'count'\?"),
    "what a kind has not": (
        [1, 2],
        {"kind": "real", "format": "%Y"},
        r"kind real takes lowest, atoms from a user",
    ),
    "what no kind has": (["a", "b"], {"limits": (0, 1), "unit": "week"}, r"no kind takes limits, unit and"),
    "too many levels": (
        [f"a{i}" for i in range(1001)],
        {"kind": "category"},
        r"up to 1,000 levels, got 1,001",
    ),
    "fractions as names": ([0.5, 1.5], {"kind": "identifier"}, r"kind identifier takes whole numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_contradictions_are_one_clear_line(name: str) -> None:
    values, given, told = BAD[name]
    with pytest.raises(ValueError, match=told) as error:
        column(values, **given)
    assert "\n" not in str(error.value) and "'x'" in str(error.value)


NEW: dict[str, tuple[Any, Any, str]] = {
    "an unknown level": (["red", "blue"] * 9, ["red", "rod"], r"'rod' at row 2, .* did you mean 'red'"),
    "a gap": (
        ["red", "blue"] * 9,
        ["red", None],
        r"an empty cell at row 2, but kind category without missing",
    ),
    "another constant": ([3, 3], [3, 4], r"4 at row 2, but its constant value is 3"),
    "below the lowest": (rng().poisson(20, 99), [3, -4], r"-4 at row 2, but kind count takes numbers from 0"),
    "a fraction": (rng().poisson(20, 99), [3, 4.5], r"4.5 at row 2, but kind count takes whole numbers"),
    "outside": (CASES["bounded"].draw(rng(), 99), [0.5, 1.5], r"1.5 at row 2, .* from 0 up to 1"),
    "another time": (
        ["2020-01-01 12:00", "2020-02-03 12:00"],
        ["2020-01-01 13:00"],
        r"13:00' at row 1, but the time of all rows",
    ),
    "free text": (
        [f"the {i} red fox" for i in "abcde"],
        ["x"],
        r"free text is not learnt; leave the column out",
    ),
}


@pytest.mark.parametrize("name", NEW)
def test_cells_that_do_not_fit_are_one_clear_line(name: str) -> None:
    values, others, told = NEW[name]
    found = infer(pd.DataFrame({"x": values}))
    with pytest.raises(ValueError, match=told):
        found.encode(pd.DataFrame({"x": others}))


def test_columns_are_looked_for_by_name() -> None:
    frame = pd.DataFrame({"age": [1.5, 2.5], "name": ["a", "b"]})
    with pytest.raises(ValueError, match=r"schema: no column 'aeg'; did you mean 'age'"):
        infer(frame, {"aeg": Given(kind="count")})
    with pytest.raises(ValueError, match=r"exclude: no column 'aeg'"):
        infer(frame, exclude=["aeg"])
    with pytest.raises(ValueError, match="every column is left out"):
        infer(frame, exclude=["age", "name"])
    with pytest.raises(ValueError, match="no column 'name'"):
        infer(frame).encode(frame.drop(columns="name"))
    with pytest.raises(ValueError, match=r"several columns are called 'age'"):
        infer(pd.DataFrame([[1, 2]], columns=["age", "age"]))
    with pytest.raises(ValueError, match="without rows"):
        infer(frame.head(0))


def test_what_stands_for_no_cell_is_refused() -> None:
    kind = fitted(CASES["count with atoms"], CASES["count with atoms"].draw(rng(), 600))
    with pytest.raises(ValueError, match=r"tokens: expected 0 to 1, got 0 to 2"):
        kind.decode(np.array([0, 2]), np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"numbers: expected \(n, 1\), got \(2, 2\)"):
        kind.decode(np.array([0, 1]), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="expected finite ones"):
        kind.decode(np.array([0, 0]), np.array([[np.nan], [1e9]]))
    with pytest.raises(ValueError, match=r"tokens: expected some"):
        kind.decode(None, np.zeros((2, 1)))
    found = infer(pd.DataFrame({"x": ["2020-01-01", "2020-05-01", "2021-07-08"]}))
    with pytest.raises(ValueError, match="dates of the years 1 to 9999"):
        found.decode(np.array([[0]]), np.array([[1e9]]))
    with pytest.raises(ValueError, match=r"tokens: expected \(1, 1\), got \(1, 2\)"):
        found.decode(np.zeros((1, 2), dtype=np.int64), np.zeros((1, 1)))


@pytest.mark.parametrize(
    "data, told",
    [
        ({"kind": "maybe"}, "no kind 'maybe'"),
        ({}, "kind: expected text, got null"),
        ({"kind": "category", "name": "x"}, "levels is missing"),
        ({"kind": "category", "name": "x", "levels": [1]}, r"levels\[0\]: expected text"),
        ({"kind": "category", "name": "x", "levels": ["a"], "order": 1}, "order: unknown entry"),
    ],
)
def test_damaged_data_are_refused(data: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        kind_from_json(data)


@pytest.mark.parametrize(
    "text, told",
    [
        ("[age", "schema: no TOML"),
        ("age = 3", 'schema: "age": expected a table such as'),
        ('[age]\nkind = "cuont"', "no kind 'cuont'; did you mean 'count'"),
        ("[age]\nkin = 3", "kin: unknown entry; did you mean kind"),
        ("[age]\nkind = 3", "kind: expected text or null, got 3"),
        ("[age]\nlimits = [1]", "limits: expected a list of 2"),
        ("[age]\nlevels = [true]", "levels: expected texts or numbers, got true"),
        ("[age]\nlowest = nan", "lowest: expected a number or -inf, got nan"),
        ('[age]\nunit = "day"', "unit: expected one of week, month, year"),
    ],
)
def test_schemas_with_mistakes_are_one_clear_line(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        from_toml(text)


# -- files and the command ------------------------------------------------------------------------------

CSV = "ID,zip code,born,income,note\n" + "".join(
    f"{i},{i * 37 % 900:05d},{1 + i % 28}.{1 + i % 12}.1990,{'' if i % 5 == 0 else i * i},{'ab'[i % 2]}\n"
    for i in range(1, 61)
)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(CSV)
    return path


def test_the_command_prints_and_writes_what_it_understood(
    people: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "schema.toml"
    assert main(["schema", str(people), "-o", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["column", "kind", "missing", "range", "or", "levels", "treatment", "doubt"]
    kinds = dict(
        zip(["ID", "zip code", "born", "income", "note"], (line[10:].split()[0] for line in lines[1:]))
    )
    assert kinds == {
        "ID": "identifier",
        "zip code": "identifier",
        "born": "date",
        "income": "count",
        "note": "category",
    }
    assert "20 %" in lines[4] and lines[-1] == str(out)
    assert 'format = "%-d.%-m.%Y"' in out.read_text()

    edited = (
        out.read_text().replace('kind = "identifier"', 'kind = "category"', 2).replace('"count"', '"integer"')
    )
    (tmp_path / "edited.toml").write_text(edited)
    assert main(["schema", str(people), "--schema", str(tmp_path / "edited.toml"), "--exclude", "note"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[10:].split()[0] for line in lines[1:]] == ["category", "category", "date", "integer"]


def test_files_come_back_as_they_were(people: Path) -> None:
    raw = read_table(str(people))
    found = infer(raw, exclude=["ID"])
    given = {"zip code": Given(kind="category")}
    found = infer(raw, given, exclude=["ID"])
    back = found.decode(*found.encode(raw, rng()))
    assert back.to_csv(index=False).splitlines() == [line.partition(",")[2] for line in CSV.splitlines()]


@pytest.mark.parametrize(
    "text, more, told",
    [
        ("a,a\n1,2\n3,4\n", [], "several columns are called 'a'"),
        ("a\n1\n\n", ["--exclude", "b"], "no column 'b'"),
        ("a,b\n1,\n2,\n", [], "column 'b': every cell is empty"),
        ("a\n1.5\n2.5\ninf\n", [], "inf at line 4"),
        ("a\n" + "".join(f"{i}\n" for i in range(50)) + "x\n", [], "'x' at line 52"),
    ],
)
def test_the_command_refuses_in_one_line(
    text: str, more: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert main(["schema", str(path), "-o", str(tmp_path / "schema.toml"), *more]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not (tmp_path / "schema.toml").exists()


def test_the_command_names_the_schema_that_is_wrong(people: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "edited.toml"
    path.write_text("[height]\n")
    assert main(["schema", str(people), "--schema", str(path)]) == 2
    assert "schema: no column 'height'" in capsys.readouterr().err
    path.write_text("[income]\nmissing = false\n")
    assert main(["schema", str(people), "--schema", str(path)]) == 2
    assert "column 'income': an empty cell at line 6, but missing = false" in capsys.readouterr().err
    assert main(["schema", str(people), "-o", str(tmp_path / "schema.txt")]) == 2
    assert main(["schema", str(people), "--schema", str(tmp_path / "none.toml")]) == 2


def test_a_path_and_a_frame_are_read_alike(people: Path) -> None:
    frame = pd.read_csv(people, dtype={"zip code": str})
    assert infer(frame).names == infer(read_table(str(people))).names
    assert isinstance(infer(frame).kinds[0], ColumnKind)
    assert Cells("x", np.array([1, 2])).seen == 2
