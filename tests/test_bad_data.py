"""Data that cannot be used: one clear line each, which says what is wrong and where."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from narrowing import one_tensor
from pushforward.data import ConditionSpec, Schema, load, read_rows, toys, write_rows

GOOD = "".join(f"{i}.5,{i * i}\n" for i in range(50))


def fails(call, *fragments: str) -> None:
    """``call`` raises a ValueError of one line that holds all ``fragments``, and shows no other traceback."""
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message, message
    # What the user sees is this error alone, and not a subclass of a library's.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert type(caught.value) is ValueError


def file(folder: Path, text: str, name: str = "t.csv") -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


@pytest.mark.parametrize(
    "name, fragments",
    [
        ("no/such.csv", ["no such file or folder", "no/such.csv"]),
        ("such.parquet", ["no such file or folder", "such.parquet"]),
        ("mons", ["no data set 'mons'", "no such file", "did you mean 'moons'?"]),
        ("qqqq", ["no data set 'qqqq'", "known: moons, 8gaussians"]),
    ],
)
def test_a_missing_source(name, fragments):
    fails(lambda: load(name), *fragments)


@pytest.mark.parametrize(
    "text, fragments",
    [
        ("", ["t.csv", "is empty"]),
        ("\n \n", ["is empty"]),
        ("# one\n# two\n", ["comments only"]),
        ("a,b\n", ["no rows"]),
        ("# c\na,b\n" + GOOD + "1,2,3\n" + GOOD, ["line 53 has 3 cells, expected 2"]),
        ("# c\na,b\n" + GOOD + "1\n" + GOOD, ["line 53 has 1 cell, expected 2"]),
        ("a,b\n\n" + GOOD + "1,two\n", ["column 'b'", "'two'", "line 53"]),
        ("a,b\n" + GOOD + '"1\n2",3\n', ["column 'a'", "line 52"]),
        ('a,b\n"1\n",3\n' + GOOD + "1,two\n", ["column 'b'", "line 54"]),
        (
            "a,b\n" + GOOD + ",2\n,3\n",
            ["column 'a' has missing cells (2, the first at line 52)", "--exclude a"],
        ),
        ("a,b\n" + GOOD + "4,NA\n", ["column 'b' has missing cells (1, at line 52)"]),
        ("a,b\n" + GOOD + "4,-inf\n", ["column 'b' has infinite cells (1, at line 52)"]),
        ("a,b,a\n" + GOOD.replace("\n", ",1\n"), ["column 'a' occurs twice", "--exclude a"]),
        (",a,b\n0,1,2\n", ["column 1 has no name"]),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n", ["line 1 should name the columns", "'5.1'"]),
        ("a;b\n" + GOOD.replace(",", ";").replace(".", ","), ["'0,5'", "decimals with a point"]),
        ("a,b,c\n" + GOOD.replace("\n", ",7\n"), ["column 'c' is constant (always 7)"]),
        ("a,b\n" + GOOD[:100], ["rows, expected at least 32"]),
        ("id,b\n" + "".join(f"{2**53 + 2 * i},{i}\n" for i in range(40)), ["column 'id'", "2^53"]),
    ],
)
def test_a_bad_text_table(tmp_path, text, fragments):
    fails(lambda: load(file(tmp_path, text)), *fragments)


def test_a_text_table_that_is_not_text(tmp_path):
    (tmp_path / "t.csv").write_bytes("a,b\n1,é\n".encode("latin-1"))
    fails(lambda: load(tmp_path / "t.csv"), "t.csv", "UTF-8")


def test_an_unknown_suffix_and_a_bad_parquet_file(tmp_path):
    fails(lambda: load(file(tmp_path, "x", "t.xlsx")), "cannot read .xlsx", ".csv", ".npz")
    fails(lambda: load(file(tmp_path, "PAR1 damaged", "t.parquet")), "not a readable Parquet file")
    fails(lambda: load(file(tmp_path, "", "t.parquet")), "not a readable Parquet file")
    frame = pd.DataFrame({"a": np.arange(50.0), "b": np.arange(50.0) ** 2})
    frame.to_parquet(tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[: len(content) // 2])
    fails(lambda: load(tmp_path / "cut.parquet"), "not a readable Parquet file")
    middle = bytes(b ^ 255 for b in content[20:200])
    (tmp_path / "bits.parquet").write_bytes(content[:20] + middle + content[200:])
    fails(lambda: load(tmp_path / "bits.parquet"), "not a readable Parquet file")


def frame(**columns) -> Any:
    return pd.DataFrame({"a": np.arange(50.0), "b": np.arange(50.0) ** 2} | columns)


@pytest.mark.parametrize(
    "table, fragments",
    [
        (frame(c=["text", "other"] * 25), ["column 'c' holds text ('text')", "--exclude c", "--condition c"]),
        (frame(c=[True, False] * 25), ["column 'c' holds yes or no ('True')", "--condition c"]),
        (frame(c=pd.date_range("2020", periods=50)), ["column 'c' holds dates", "2020-01-01"]),
        (frame(c=[1 + 1j] * 50), ["column 'c'", "(1+1j)"]),
        (frame(c=[[1, 2]] * 50), ["column 'c'", "[1, 2]"]),
        (frame(c=[None] + [2.5] * 49), ["column 'c' has missing cells (1, at row 1)"]),
        (frame(c=["1.5", "NA"] * 25), ["column 'c' has missing cells (25, the first at row 2)"]),
        (
            frame(c=pd.array([1, None] * 25, dtype="Int64")),
            ["column 'c' has missing cells (25, the first at row 2)"],
        ),
        (frame().set_axis(["a", "a"], axis=1), ["column 'a' occurs twice"]),
        (frame().iloc[:0], ["0 rows"]),
        (frame(c=2**60 + np.arange(50)), ["column 'c'", "2^53"]),
    ],
)
def test_a_bad_frame(table, fragments):
    fails(lambda: load(table), *fragments)


@pytest.mark.parametrize(
    "options, fragments",
    [
        ({"condition": ["labl"]}, ["no column 'labl'", "did you mean 'label'?"]),
        ({"condition": ["label", "label"]}, ["named twice"]),
        ({"condition": ["label", "alcohol"], "condition_kind": "continuous"}, ["'label' holds texts"]),
        (
            {"condition": ["label", "alcohol"], "condition_kind": "labels"},
            ["126 different labels in 178 rows"],
        ),
        ({"condition": ["label"], "condition_kind": "continuous"}, ["'label' holds texts"]),
        ({"condition": ["proline"], "condition_kind": "labels"}, ["121 different labels in 178 rows"]),
        ({"condition_kind": "label"}, ["condition_kind", "'label'"]),
        ({"holdout": 1.0}, ["holdout", "1.0"]),
        ({"holdout": -0.1}, ["holdout", "-0.1"]),
        ({"holdout": 0.95}, ["holdout: 0.95 leaves 9 rows"]),
        ({"rows": 100}, ["rows", "fixed number"]),
        ({"preprocess": "logit"}, ["logit", "pixels"]),
        ({"preprocess": "pca"}, ["preprocess", "'pca'"]),
    ],
)
def test_bad_options(options, fragments):
    fails(lambda: load("wine", **options), *fragments)


def test_conditions_that_say_nothing_or_take_everything():
    fails(lambda: load(frame(), condition=["a", "b"]), "every column is excluded, the condition")
    fails(lambda: load(frame(c=["u"] * 50), condition=["c"]), "'c' is constant (always u)")
    fails(lambda: load(frame(c=[0.5] * 50), condition=["c"]), "'c' is constant (always 0.5)")
    fails(
        lambda: load(frame(c=["u", None] * 25), condition=["c"]),
        "'c' has missing cells (25, the first at row 2)",
    )
    fails(
        lambda: load(frame(c=[0.5, np.nan] * 25), condition=["c"]),
        "'c' has missing cells (25, the first at row 2)",
    )
    fails(lambda: load(np.random.rand(50, 7, 2), condition=["c"]), "no column 'c'", "no columns to choose")


def test_too_few_rows(tmp_path):
    fails(lambda: load("moons", rows=31), "rows", "at least 32", "31")
    fails(lambda: load(np.random.rand(50, 2), rows=40), "rows")
    fails(lambda: load(pd.concat([frame()[:20]] * 3), deduplicate=True), "20 distinct rows")
    fails(lambda: load(np.random.rand(31, 2)), "31 rows")


@pytest.mark.parametrize(
    "x, fragments",
    [
        (np.full((50, 2), 1j), ["complex"]),
        (np.array([["a", "b"]] * 50), ["texts"]),
        (np.array([[None, 1]] * 50), ["Python objects"]),
        ([[1.0, 2.0], [3.0]] * 20, ["equal lengths"]),
        (np.full((50, 2), 2**63 - 1), ["2^53"]),
        (np.arange(50 * 16).reshape(50, 4, 4) * 2**20, ["not exact in float32"]),
        (np.zeros((50, 5, 6, 7), np.uint8), ["1, 3 or 4 channels", "(50, 5, 6, 7)"]),
        (np.zeros((50, 0)), ["(50, 0)"]),
        (np.zeros(()), ["shape ()"]),
        (np.zeros((0, 3)), ["no rows"]),
        (np.zeros((50, 3, 3)), ["every value is 0"]),
        (np.zeros((50, 3, 3), np.uint8), ["every value is 0"]),
        (torch.tensor([[0.0, 1.0], [torch.nan, 2.0]] * 25), ["25 of 100 values are not finite", "[1, 0]"]),
        (np.array([[1.0, 2.0]] * 49 + [[1.0, 3.0]]), ["column 'x1' is constant (always 1)"]),
        ((np.random.rand(50, 2), np.zeros(49), 1), ["a pair (x, y)", "3"]),
        ((np.random.rand(50, 2), np.arange(49) % 2), ["equal lengths", "50", "49"]),
        ((np.random.rand(50, 2), np.zeros((50, 2, 2))), ["y: expected shape"]),
    ],
)
def test_bad_arrays(x, fragments):
    fails(lambda: load(x), *fragments)


def test_bad_array_files(tmp_path):
    fails(lambda: load(file(tmp_path, "not numpy", "a.npy")), "a.npy", "not a readable .npy file")
    fails(lambda: load(file(tmp_path, "", "a.npz")), "a.npz", "not a readable .npz file")
    np.save(tmp_path / "o.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    fails(lambda: load(tmp_path / "o.npy"), "Python objects")
    np.savez(tmp_path / "o.npz", x=np.array([{}, []], dtype=object))
    fails(lambda: load(tmp_path / "o.npz"), "Python objects")
    np.savez(tmp_path / "two.npz", day2=np.zeros((50, 3)), day3=np.zeros((60, 3)))
    fails(lambda: load(tmp_path / "two.npz"), "day2 (50, 3)", "day3 (60, 3)", "two.npz:day2")
    fails(lambda: load(f"{tmp_path}/two.npz:day4"), "no array 'day4'", "did you mean", "known: day2, day3")
    np.savez_compressed(tmp_path / "c.npz", x=np.random.rand(500, 3))
    content = bytearray((tmp_path / "c.npz").read_bytes())
    content[3000:3050] = bytes(50)
    (tmp_path / "c.npz").write_bytes(content)
    fails(lambda: load(tmp_path / "c.npz"), "not a readable .npz file")


def test_bad_image_folders(tmp_path):
    def picture(name: str, width: int = 4, height: int = 5, mode: str = "L") -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new(mode, (width, height)).save(tmp_path / name)

    (tmp_path / "none").mkdir()
    fails(lambda: load(tmp_path / "none"), "no images", ".png")
    picture("sizes/a.png")
    picture("sizes/b.png", 4, 6)
    fails(lambda: load(tmp_path / "sizes"), "a.png is 4 x 5", "b.png is 4 x 6")
    picture("broken/a.png")
    file(tmp_path / "broken", "no image", "b.png")
    fails(lambda: load(tmp_path / "broken"), "b.png", "not a readable image")
    picture("cut/a.png", 400, 400)
    content = (tmp_path / "cut/a.png").read_bytes()
    (tmp_path / "cut/a.png").write_bytes(content[: len(content) // 2])
    fails(lambda: load(tmp_path / "cut"), "a.png", "not a readable image")
    picture("deep/a.png", mode="I;16")
    fails(lambda: load(tmp_path / "deep"), "8 bits per channel", "I;16")
    picture("mixed/a.png")
    (tmp_path / "mixed/inner").mkdir()
    picture("mixed/inner/b.png")
    fails(lambda: load(tmp_path / "mixed"), "both in the folder and in sub-folders")


# new data for a known schema


def test_new_rows_that_do_not_fit_a_table(tmp_path):
    schema = load(frame(kind=["u", "v"] * 25), condition=["kind"]).schema
    fails(lambda: read_rows(file(tmp_path, "a,bb,kind\n1,2,u\n"), schema), "'b' is missing", "mean 'bb'")
    fails(lambda: read_rows(file(tmp_path, "a,b\n1,2\n"), schema), "condition 'kind' is missing")
    fails(lambda: read_rows(np.ones((1, 2)), schema), "condition 'kind' is missing", "a pair (x, y)")
    fails(lambda: read_rows(np.ones((1, 3)), schema), "expected 2 columns (a, b), got 3")
    fails(lambda: read_rows(np.ones((1, 3, 3)), schema), "a table with columns a, b", "array")
    fails(lambda: read_rows((np.ones((1, 2)), ["w"]), schema), "no label 'w'", "known: u, v")
    fails(lambda: read_rows((np.ones((1, 2)), ["u", "v"]), schema), "equal lengths, got 1 and 2")
    fails(lambda: read_rows(frame()[:0], schema), "no rows")
    fails(lambda: read_rows((frame(), np.ones(50)), load(frame()).schema), "not learnt with a condition")


def test_new_rows_that_do_not_fit_images():
    schema = load("digits").schema
    fails(lambda: read_rows(np.zeros((3, 8, 9), np.uint8), schema), "(1, 8, 8)", "(1, 8, 9)")
    fails(lambda: read_rows(np.full((3, 8, 8), 17), schema), "pixels from 0 to 16", "17 to 17")
    fails(lambda: read_rows(np.full((3, 8, 8), 0.5), schema), "in steps of 1")
    fails(lambda: read_rows(np.zeros((3, 64)), schema), "(1, 8, 8)", "(64,)")
    assert read_rows(np.full((3, 8, 8), 5.0), schema).x.shape == (3, 1, 8, 8)


def test_conditions_that_were_not_trained_on():
    labels = ConditionSpec(kind="labels", columns=("species",), classes=("setosa", "virginica"))
    fails(lambda: labels.encode("setoza"), "'species'", "'setoza'", "did you mean 'setosa'?", "virginica")
    fails(lambda: labels.encode([0, 2]), "no label '2'")
    fails(lambda: labels.decode(torch.tensor([-1])), "labels in 0..1")
    digits = ConditionSpec(kind="labels", columns=("n",), classes=("3", "5"))
    fails(lambda: digits.encode(0), "no label '0'", "known: 3, 5")  # not an index where labels are numbers
    ages = ConditionSpec(kind="continuous", columns=("age",), low=(0.0,), high=(1.0,))
    fails(lambda: ages.encode("old"), "finite numbers for age", "'old'")
    fails(lambda: ages.encode([0.5, float("nan")]), "finite numbers for age", "nan")
    fails(lambda: ages.encode([None]), "finite numbers for age", "None")
    fails(lambda: ages.encode([[1, 2]]), "age", "(1, 2)")
    both = ConditionSpec(kind="continuous", columns=("age", "size"), low=(0.0, 0.0), high=(1.0, 1.0))
    fails(lambda: both.encode(0.5), "age, size", "()")
    fails(lambda: both.encode([[0.5]]), "age, size", "(1, 1)")
    fails(lambda: Schema.from_json({"name": "x"}), "schema", "kind")
    fails(lambda: Schema.from_json({"nom": "x"}), "schema", "nom")


def test_what_cannot_be_written(tmp_path):
    wine, digits = load("wine", condition=["label"]), load("digits")
    x, c = wine.test.x, one_tensor(wine.test.condition)
    fails(lambda: write_rows(tmp_path / "a.xls", x, wine.schema), ".xls", ".csv, .tsv, .parquet")
    fails(lambda: write_rows(tmp_path / "a", x, wine.schema), "without a suffix")
    fails(lambda: write_rows(tmp_path / "a.npy", x, wine.schema, c), "no condition; write .npz")
    fails(lambda: write_rows(tmp_path / "a.png", x, wine.schema), "at most 8 columns, got 13")
    fails(lambda: write_rows(tmp_path / "a.csv", digits.test.x, digits.schema), "images", ".npz or .png")
    fails(lambda: write_rows(tmp_path / "a.csv", x[:, :3], wine.schema), "(rows, 13)", "(36, 3)")
    fails(lambda: write_rows(tmp_path / "a.csv", x[:0], wine.schema), "no rows")
    fails(lambda: write_rows(tmp_path / "a.csv", x, wine.schema, c[:5]), "(36,)", "(5,)")
    fails(lambda: write_rows(tmp_path / "a.npz", digits.test.x, digits.schema, c), "have none")
    arrays = load(torch.rand(50, 7, 2)).schema
    fails(lambda: write_rows(tmp_path / "a.png", torch.rand(5, 7, 2), arrays), ".npy or .npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "call, fragments",
    [
        (lambda: toys.moons(0), ["n: expected at least one row, got 0"]),
        (lambda: toys.checkerboard(0), ["n: expected"]),
        (lambda: toys.gaussian(0), ["n: expected"]),
        (lambda: toys.moons(5, noise=-1.0), ["noise", "-1"]),
        (lambda: toys.pinwheel(5, noise=-1.0), ["noise", "-1"]),
        (lambda: toys.gaussian(5, correlation=1.0), ["correlation", "1.0"]),
        (lambda: toys.moons(5, label=torch.zeros(4, dtype=torch.long)), ["label", "(4,)"]),
        (lambda: toys.moons(5, label=torch.full((5,), 2)), ["0..1"]),
    ],
)
def test_bad_arguments_of_toys(call, fragments):
    fails(call, *fragments)
