"""Which columns are data: chosen, left out, integers, identifiers, and what is wrong with the others."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pushforward.cli import main
from pushforward.cli.common import show_warning
from pushforward.data import Schema, load, read_rows, write_rows
from pushforward.data.columns import is_identifier
from pushforward.data.dependence import dependent

N = 60


def table(**columns) -> pd.DataFrame:
    """Two columns of measured numbers, and what is given."""
    g = np.random.default_rng(0)
    return pd.DataFrame({"a": g.normal(size=N), "b": g.normal(size=N)} | columns)


def message(*args, **options) -> str:
    with pytest.raises(ValueError) as caught:
        load(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# columns and exclude


def test_columns_are_chosen_or_left_out():
    frame = table(name=["u", "v"] * 30, age=np.arange(N) % 7 + 0.5, w=1.0)
    for options in ({"exclude": ["name", "w"]}, {"columns": ["a", "b", "age"]}):
        data = load(frame, **options)
        assert data.schema.columns == ("a", "b", "age") and data.schema.excluded == ("name", "w")
    data = load(frame, columns=["b", "a"], condition=["name"], sample_weight="w")
    assert data.schema.columns == ("b", "a") and data.schema.excluded == ("age",)
    assert load(frame, columns=["a", "b"], exclude=["b"]).schema.columns == ("a",)
    assert load(frame, columns="a").schema.columns == ("a",)
    expected = torch.tensor(frame[["b", "a"]].to_numpy().copy())
    assert torch.equal(read_rows(frame, data.schema).x, expected)
    # scoring needs the columns that were kept, and no others
    assert torch.equal(read_rows(frame.filter(["a", "name", "b"]), data.schema).x, expected)


def test_columns_without_names_are_matched_by_position(tmp_path):
    x = np.random.default_rng(0).normal(size=(N, 3))
    schema = load(x, exclude=["x2"]).schema
    assert schema.columns == ("x1", "x3")
    for given in (x, x[:, [0, 2]]):
        assert np.array_equal(read_rows(given, schema).x.numpy(), x[:, [0, 2]])
    with pytest.raises(ValueError, match="expected 2 columns"):
        read_rows(np.ones((2, 4)), schema)
    np.savetxt(tmp_path / "bare.csv", x, delimiter=",")
    assert np.array_equal(read_rows(tmp_path / "bare.csv", schema).x.numpy(), x[:, [0, 2]])


@pytest.mark.parametrize(
    "options, fragment",
    [
        ({"exclude": ["nam"]}, "exclude: no column 'nam'; did you mean 'name'?"),
        ({"columns": ["a", "bb"]}, "columns: no column 'bb'"),
        ({"columns": ["a", "a"]}, "columns: a column is named twice"),
        ({"exclude": ["name"], "condition": ["name"]}, "exclude: 'name' is the condition"),
        ({"columns": ["a", "name"], "condition": ["name"]}, "columns: 'name' is the condition"),
        ({"exclude": ["w"], "sample_weight": "w"}, "exclude: 'w' is the condition or the sample_weight"),
        ({"exclude": ["a", "b", "name", "w"]}, "every column is excluded"),
        ({"exclude": ["a", "b", "w"], "condition": ["name"]}, "every column is excluded"),
    ],
)
def test_bad_choices(options, fragment):
    assert fragment in message(table(name=["u", "v"] * 30, w=np.arange(N) + 0.5), **options)


def test_arrays_have_no_columns_to_choose():
    assert "exclude: arrays have no columns" in message(np.random.rand(N, 7, 2), exclude=["x1"])


def test_the_command_line_leaves_columns_out(tmp_path, capsys):
    frame = table(**{"full name": ["u", "v"] * 30, "count": np.random.default_rng(1).integers(0, 9999, N)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    train = ["train", str(tmp_path / "t.csv"), "--out", str(tmp_path / "run"), "--no-report"]
    train += ["--network", "mlp,width=8,depth=1", "--steps", "3"]
    assert main(train) == 2
    assert "leave out with --exclude 'full name'; or keep text as a condition" in capsys.readouterr().err
    assert main([*train, "--exclude", "full name"]) == 0
    samples = tmp_path / "s.csv"
    frame.drop(columns="full name").to_csv(tmp_path / "new.csv", index=False)
    assert main(["score", str(tmp_path / "run"), str(tmp_path / "new.csv"), "-o", str(samples)]) == 0
    assert len(pd.read_csv(samples)) == N
    assert main(["sample", str(tmp_path / "run"), "-n", "7", "-o", str(samples)]) == 0
    assert pd.read_csv(samples).dtypes.astype(str).tolist() == ["float64", "float64", "int64"]
    # points of the source are not rounded
    back = ["push", str(tmp_path / "run"), str(samples), "--back", "--solver", "euler,steps=2"]
    assert main([*back, "-o", str(samples)]) == 0
    assert pd.read_csv(samples)["count"].dtype == np.float64


def test_a_source_in_a_file_takes_the_same_columns(tmp_path):
    frame = table(**{"full name": ["u", "v"] * 30})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.assign(spare="w").to_csv(tmp_path / "s.csv", index=False)
    arguments = ["train", str(tmp_path / "t.csv"), "--source", str(tmp_path / "s.csv"), "--no-report"]
    arguments += ["--network", "mlp,width=8,depth=1", "--steps", "2", "--out", str(tmp_path / "run")]
    assert main([*arguments, "--exclude", "full name"]) == 2
    assert main([*arguments, "--columns", "a", "b"]) == 0


# integers


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_integers_come_back_as_integers(tmp_path, suffix):
    g = np.random.default_rng(1)
    frame = table(n=g.integers(0, 10**9, N), age=g.integers(20, 90, N), whole=np.rint(1e3 * g.normal(size=N)))
    frame.to_csv(tmp_path / "t.csv", index=False)
    for source in (frame, tmp_path / "t.csv"):
        schema = load(source, condition=["age"], condition_kind="continuous").schema
        # pandas writes whole floats with a point, which keeps them floats
        assert schema.columns == ("a", "b", "n", "whole") and schema.integers == ("n", "age")
    x = torch.tensor([[0.5, 1.5, 123456789.4, 2.25], [0.5, 1.5, -0.4, 3.0]], dtype=torch.float64)
    path = tmp_path / f"s{suffix}"

    def written(age: list[float]) -> pd.DataFrame:
        write_rows(path, x, schema, torch.tensor(age, dtype=torch.float64))
        return pd.read_parquet(path) if suffix == ".parquet" else pd.read_csv(path, sep=None, engine="python")

    back = written([40.0, 41.0])
    assert back["n"].tolist() == [123456789, 0] and back["whole"].tolist() == [2.25, 3.0]
    assert (back["n"].dtype, back["age"].dtype) == (np.int64, np.int64)
    if suffix != ".parquet":
        assert "123456789" in path.read_text() and "e+" not in path.read_text()
    # what was asked for is not rounded, and a cell that no integer holds stays as it is
    assert written([40.5, 41.0])["age"].tolist() == [40.5, 41.0]
    x[0, 2] = float("inf")
    assert written([40.0, 41.0])["n"].tolist() == [float("inf"), 0.0]


def test_integers_of_arrays_and_old_schemas():
    x = np.random.default_rng(0).integers(0, 1000, (N, 2))
    schema = load(x).schema
    assert schema.integers == ("x1", "x2")
    old = {key: value for key, value in schema.to_json().items() if key not in ("integers", "excluded")}
    assert Schema.from_json(old) == dataclasses.replace(schema, integers=(), excluded=())


# identifiers


@pytest.mark.parametrize(
    "name, values, found",
    [
        ("n", np.arange(1, N + 1), True),
        ("n", np.random.default_rng(0).permutation(N), True),
        ("n", 1000 - 5 * np.arange(N), True),
        ("customer_id", np.random.default_rng(0).permutation(10**6)[:N], True),
        ("customerId", np.random.default_rng(0).permutation(10**6)[:N], True),
        ("ID", np.random.default_rng(0).permutation(10**6)[:N].astype(float), True),
        ("id", np.arange(N) // 2, False),
        ("id", np.random.default_rng(5).normal(size=N), False),
        ("humid", np.random.default_rng(0).permutation(10**6)[:N], False),
        ("grams", np.random.default_rng(0).permutation(10**4)[:N], False),
        ("sorted", np.sort(np.random.default_rng(0).permutation(10**4)[:N]), False),
        ("x", np.random.default_rng(5).normal(size=N), False),
        ("time", 0.1 * np.arange(N), False),
        ("time", np.arange(N) + 0.0, False),
    ],
)
def test_identifiers(name, values, found):
    assert is_identifier(name, values) == found
    frame = table(**{name: values})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(frame)
    said = [str(w.message) for w in caught]
    assert (
        said
        == [f"DataFrame: {name!r} looks like an identifier of the rows; leave out with --exclude {name}"]
        * found
    )


def test_identifiers_are_said_in_one_line(tmp_path, capsys):
    path = tmp_path / "t.csv"
    table(id=np.arange(N), **{"row id": np.arange(N) ** 2}, c=0).to_csv(path, index=False)
    arguments = ["train", str(path), "--out", str(tmp_path / "run"), "--no-report", "--exclude", "c"]
    assert main([*arguments, "--network", "mlp,width=8,depth=1", "--steps", "2"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert lines == [
        f"pushforward: warning: {path}: 'id', 'row id' look like identifiers of the rows; "
        "leave out with --exclude c id 'row id'"
    ]


def test_one_of_several_processes_warns(monkeypatch, capsys):
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        show_warning("text", UserWarning, "pushforward/data/columns.py")
        assert len(capsys.readouterr().err.splitlines()) == lines


# problems


def test_all_problems_of_a_file_are_said_at_once(tmp_path):
    g = np.random.default_rng(2)
    frame = table(
        **{
            "full name": [f"n{i}" for i in range(N)],
            "city": g.choice(["Bern", "Rome"], N),
            "day": pd.date_range("2024-01-01", periods=N).strftime("%d.%m.%Y"),
            "smoker": g.choice(["yes", "no"], N),
            "age": np.where(np.arange(N) == 5, np.nan, g.normal(size=N)),
            "rate": np.where(np.arange(N) == 7, -np.inf, g.normal(size=N)),
            "unit": 7,
            "empty": [""] * N,
            "big": 2**60 + g.integers(0, 9999, N),
            "odd": ["oops", *map(str, g.normal(size=N - 1))],
            "comma": [f"{x:.3f}".replace(".", ",") for x in g.normal(size=N)],
        }
    )
    frame["twin"], frame["sum"] = frame.a, frame.a - 3 * frame.b + 1
    frame = pd.concat([frame, frame[["b"]]], axis=1)
    frame.to_csv(tmp_path / "t.csv", index=False)
    text = message(tmp_path / "t.csv")
    for part in (
        "column 'b' occurs twice",
        "columns 'full name' ('n0'), 'city' ('",
        "') hold text;",
        "column 'day' holds dates ('01.01.2024')",
        "column 'smoker' holds yes or no ('",
        "column 'comma' has decimal commas ('",
        "column 'odd' holds text among numbers ('oops' at line 2)",
        "column 'age' has missing cells (1, at line 7)",
        "column 'rate' has infinite cells (1, at line 9)",
        "column 'empty' is empty",
        "column 'unit' is constant (always 7)",
        "column 'big' holds integers beyond 2^53",
        "column 'twin' repeats another ('a'): the density would be infinite",
        "; leave out with --exclude b 'full name' city day smoker age rate unit empty big odd comma twin; "
        "or keep text as a condition: --condition city smoker",
    ):
        assert part in text, (part, text)
    names = (
        "b",
        "full name",
        "city",
        "day",
        "smoker",
        "age",
        "rate",
        "unit",
        "empty",
        "big",
        "odd",
        "comma",
        "twin",
    )
    assert load(tmp_path / "t.csv", exclude=names).schema.columns == ("a", "sum")
    # what is left out already stays so in the suggestion
    assert "with --exclude city b 'full name' day" in message(tmp_path / "t.csv", exclude=["city"])


def test_long_lists_are_cut():
    frame = table(**{f"c{i}": 1.0 for i in range(8)})
    assert "columns 'c0' (always 1), 'c1' (always 1)" in message(frame)
    assert "'c4' (always 1) and 3 more are constant" in message(frame)
    frame = table(**{f"c{i}": 1.0 for i in range(30)})
    assert message(frame).endswith("; keep the others with --columns a b")
    assert load(frame, columns=["a", "b"]).schema.columns == ("a", "b")


def test_a_table_of_text_only(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("first,second\n" + "u,v\nx,y\n" * 20)
    assert message(path).endswith(
        "columns 'first' ('u'), 'second' ('v') hold text; no other column is left to learn"
    )


def test_problems_of_the_condition_are_said_with_the_others():
    frame = table(kind=["u", None] * 30, c=5.0)
    text = message(frame, condition=["kind"])
    assert "column 'kind' has missing cells (30, the first at row 2)" in text
    assert text.endswith("column 'c' is constant (always 5); leave out with --exclude c")


@pytest.mark.parametrize(
    "cell",
    (
        "2024-03-01|2024-03-01T12:30:00Z|2024-03-01 12:30:00.5+01:00|2024/3/1|1/3/2024|01.03.24|1 March 2024"
        "|Mar 1, 2024|1-Mar-24|12:30|2024-03"
    ).split("|"),
)
def test_dates_are_known(cell):
    assert f"column 'c' holds dates ('{cell}')" in message(table(c=[cell, None] * 30))


@pytest.mark.parametrize("cell", ["1-2", "March", "12.5.1 kg", "192.168.0.1", "2024-03-01x", "ab:cd"])
def test_other_texts_are_no_dates(cell):
    assert f"column 'c' holds text ('{cell}')" in message(table(c=[cell] * N))


def test_few_rows_and_many_columns(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    assert message(tmp_path / "t.csv").endswith("t.csv: 1 row, expected at least 32")
    assert message(table()[:31]).endswith("31 rows, expected at least 32")
    x = np.random.default_rng(0).normal(size=(40, 50))
    x[:, 7] = x[:, 3]
    assert load(x).schema.event_shape == (50,)  # of fewer rows than columns dependence says nothing


# dependence


def columns(*parts: np.ndarray) -> np.ndarray:
    return np.stack(parts, 1)


A, B, C = np.random.default_rng(0).normal(size=(3, 200))


@pytest.mark.parametrize(
    "x, found",
    [
        (columns(A, B, C), {}),
        (columns(A, B, A), {2: [0]}),
        (columns(A, B, A + B), {2: [0, 1]}),
        (columns(A + B, A, C, B), {3: [0, 1]}),
        (columns(A, B, C, 100 - A - B - C), {3: [0, 1, 2]}),
        (columns(A, -2 * A, A + 1e5, B), {1: [0], 2: [0]}),
        (columns(A, A + 1e-8 * B), {}),  # noise, if little
        (columns(1e9 + A, 1e-9 * (1 + B)), {}),
        (columns(1e9 + A, B, 1e9 + A + B), {2: [0, 1]}),  # up to what float64 rounds, 1e-7 of a deviation
        (columns(1e9 + A, B, 1e9 + A + 1e-4 * B, A + 1e-5 * C), {2: [0, 1]}),
        (columns(1e9 + A, B, 2e9 + 2 * (1e9 + A)), {2: [0]}),
        (columns(1e-9 * A, 1e9 * B, 1e9 * B - 3e18 * (1e-9 * A)), {2: [0, 1]}),
        (columns(1e300 * A, 1e-300 * B), {}),
        (columns(A, B, A + B).astype(np.float32), {2: [0, 1]}),
        (columns(A, A + 1e-4 * B).astype(np.float32), {}),
        (columns(A, B, C, A)[:4], {}),
        (columns(A), {}),
    ],
)
def test_columns_that_others_determine(x, found):
    assert dependent(x) == found


def test_a_long_table_is_looked_at_in_part_and_then_whole(monkeypatch):
    monkeypatch.setattr("pushforward.data.dependence.BUDGET", 0)
    rare = np.zeros(200)
    rare[3] = 1.0  # not among the rows that are looked at first
    assert dependent(columns(A, A + rare, B, A - B)) == {3: [0, 2]}


def test_numbers_rounded_in_a_file_are_no_combination(tmp_path):
    frame = table()
    frame["exact"] = frame.a + frame.b
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert "'exact' is an exact linear combination of others ('a', 'b')" in message(tmp_path / "t.csv")
    frame.round(3).assign(exact=frame.exact.round(3)).to_csv(tmp_path / "t.csv", index=False)
    assert load(tmp_path / "t.csv").schema.columns == ("a", "b", "exact")


def test_columns_of_very_different_size_are_learnt():
    frame = pd.DataFrame({"far": 1e9 + A, "small": 1e-9 * (1 + B)})
    data = load(frame)
    z = data.preprocess.inverse(data.train.x)
    assert torch.allclose(z.std(0, correction=0), torch.ones(2, dtype=torch.float64), rtol=1e-6)
    # float64 holds 1e9 to 1.2e-7, which is what is lost of a deviation of 1
    lost = (data.preprocess.forward(z) - data.train.x).abs().amax(0)
    assert lost[0] < 3e-7 and lost[1] < 1e-23


def test_run_folders_remember(tmp_path: Path):
    frame = table(n=np.random.default_rng(0).integers(0, 10**6, N), spare=1.0)
    schema = load(frame, exclude=["spare"]).schema
    assert Schema.from_json(schema.to_json()) == schema
    assert (schema.excluded, schema.integers) == (("spare",), ("n",))
