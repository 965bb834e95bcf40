"""Arguments of the data's public functions and classes: mistakes are one line that names them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from narrowing import wrong
from pushforward.data import ConditionSpec, MixedConditionSpec, Schema, load, read_rows, toys, write_rows
from pushforward.data.dataset import fit_preprocess
from pushforward.data.noise import resolution
from pushforward.data.split import split

X = np.random.default_rng(0).normal(size=(50, 2))
AGE = ConditionSpec(kind="continuous", columns=("age",))


def image(**options) -> Schema:
    return Schema(name="a", kind="image", event_shape=(1, 2, 2), **options)


def table() -> Schema:
    return Schema(name="a", kind="table", event_shape=(2,), columns=("a", "b"))


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: load(X, holdout="a"), "holdout: expected a share in [0, 1), got 'a'"),
        (lambda: load(X, holdout=None), "holdout: expected a share in [0, 1), got None"),
        (lambda: load(X, seed=1.5), "seed: expected a whole number, got 1.5"),
        (lambda: load("moons", rows=100.5), "rows: expected a whole number of at least 32, got 100.5"),
        (lambda: ConditionSpec(kind=wrong("label"), columns=("a",)), "kind: expected labels or continuous"),
        (
            lambda: ConditionSpec(kind="continuous", columns=wrong("ab")),
            "expected a tuple of different names",
        ),
        (lambda: ConditionSpec(kind="labels", columns=("a",)), "expected one column of different labels"),
        (
            lambda: ConditionSpec(kind="labels", columns=("a",), classes=("x", "x")),
            "expected one column of different labels",
        ),
        (
            lambda: ConditionSpec(kind="continuous", columns=("a",), low=(4.0,), high=(3.0,)),
            "expected a range for each of 1 columns",
        ),
        (lambda: MixedConditionSpec(parts=()), "expected specifications of one column each"),
        (lambda: MixedConditionSpec(parts=(AGE, AGE)), "expected specifications of one column each"),
        (
            lambda: ConditionSpec(kind="labels", columns=("a",), classes=("x", "y")).decode(torch.ones(2)),
            "expected labels as integers",
        ),
        (
            lambda: Schema(name="a", kind=wrong("tabel"), event_shape=(2,)),
            "kind: expected one of table, image",
        ),
        (lambda: Schema(name="a", kind="array", event_shape=(-2,)), "expected sizes of at least 1"),
        (
            lambda: Schema(name="a", kind="table", event_shape=(2,), columns=("a",)),
            "expected (1,), the number of columns, got (2,)",
        ),
        (lambda: image(levels=(0.0, 1.0, 0.0)), "levels: expected (low, high, step)"),
        (lambda: split(0, 0.2, 0), "n: expected at least one row, got 0"),
        (lambda: split(10, 0.2, 0, torch.zeros(3, dtype=torch.long)), "integers of at least 0 for 10 rows"),
        (lambda: split(10, 0.2, 0, torch.zeros(10)), "integers of at least 0 for 10 rows"),
        (lambda: split(10, 0.2, 0, torch.full((10,), -1)), "integers of at least 0 for 10 rows"),
        (lambda: resolution("auto", np.zeros((0, 2))), "at least one, got shape (0, 2)"),
        (lambda: fit_preprocess(torch.zeros(0, 2), table(), "whiten"), "x: expected at least one row"),
        (lambda: fit_preprocess(torch.zeros(9, 3), table(), "none"), "shape (rows, 2), got (9, 3)"),
        (lambda: fit_preprocess(torch.full((9, 2), torch.inf), table(), "none"), "x: expected finite"),
    ],
)
def test_mistakes_are_named(call, says):
    with pytest.raises(ValueError) as caught:
        call()
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*toys.LABELS, "checkerboard", "swissroll", "scurve", "gaussian"])
def test_arguments_of_toys(name):
    toy = getattr(toys, name)
    for arguments, says in (((0,), "got 0"), ((2.5,), r"got 2\.5")):
        with pytest.raises(ValueError, match=f"n: expected at least one row, {says}"):
            toy(*arguments)
    with pytest.raises(ValueError, match=r"dtype: expected a floating dtype, got torch\.int64"):
        toy(3, dtype=torch.int64)
    if name in toys.LABELS:
        with pytest.raises(ValueError, match=r"noise.*: expected .* of at least 0, got nan"):
            toy(3, noise=float("nan"))
        # arrays and lists of labels are labels
        drawn = [
            toy(3, label=label, generator=torch.Generator().manual_seed(0))
            for label in (torch.tensor([0, 1, 1]), np.array([0, 1, 1]), [0, 1, 1])
        ]
        assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-155, 1e155, 1e200, 5e307])
@pytest.mark.parametrize("kind", ["auto", "standardise", "none"])
def test_columns_whose_squares_no_float_holds_are_refused(scale, kind):
    with pytest.raises(ValueError, match="column 'x2' is too far from 1 to compute with") as caught:
        load(X * [1, scale], preprocess=kind)
    assert "--exclude x2" in str(caught.value)
    with pytest.raises(ValueError, match="column 'y' is too far from 1"):
        load((X, X[:, 0] * scale))
    with pytest.raises(ValueError, match="values too far from 1"):
        load(np.tile(X[:, None, :], (1, 3, 1)) * scale)


@pytest.mark.parametrize("scale, dtype", [(1e-140, "f8"), (1e140, "f8"), (1e-25, "f4"), (1e25, "f4")])
def test_columns_of_large_and_small_numbers_are_learnt_from(scale, dtype):
    """Rows come back from the space of the model, and volumes are those of the units."""
    x = (X * scale).astype(dtype)
    data, plain = load(x, holdout=0.0), load(X, holdout=0.0)
    z, log_det = data.preprocess.inverse_and_log_det(data.train.x)
    z0, log_det0 = plain.preprocess.inverse_and_log_det(plain.train.x)
    tolerance = 1e-4 if dtype == "f4" else 1e-9
    assert torch.allclose(z.double(), z0, atol=tolerance)
    assert torch.allclose(log_det.double(), log_det0 - 2 * np.log(scale), rtol=tolerance)
    assert torch.allclose(data.preprocess.forward(z) / scale, data.train.x / scale, rtol=tolerance)


def test_float32_columns_beyond_float32s_squares_are_refused():
    for scale in (1e-40, 1e37):
        with pytest.raises(ValueError, match=r"'x1'.*too far from 1"):
            load((X * scale).astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.uint64])
def test_small_integers_are_numbers(dtype):
    x = np.random.default_rng(0).integers(0, 100, (60, 3)).astype(dtype)
    for given in (x, pd.DataFrame(x, columns=["x1", "x2", "x3"])):
        data = load(given, holdout=0.0)
        assert data.train.x.dtype == torch.float64
        assert sorted(data.train.x.tolist()) == sorted(x.tolist())
        assert read_rows(given, data.schema).x.tolist() == x.tolist()
    labels = load((X, (np.arange(50) % 3).astype(dtype))).schema.condition
    assert labels is not None and labels.classes == ("0", "1", "2")


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_what_is_not_finite_is_refused(bad, dtype):
    x = X.astype(dtype)
    x[3, 1] = bad
    schema = load(X).schema
    for call in (lambda: load(x), lambda: read_rows(x, schema), lambda: load(torch.from_numpy(x))):
        with pytest.raises(ValueError, match=r"not finite, the first at index \[3, 1\]"):
            call()
    with pytest.raises(ValueError, match=r"'b'.*(missing|infinite|not finite)"):
        load(pd.DataFrame(x, columns=["a", "b"]))


def test_folders_and_files_without_rows(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "classes").mkdir()
    (tmp_path / "classes" / "cats").mkdir()
    (tmp_path / "head.csv").write_text("x1,x2\n")
    np.save(tmp_path / "none.npy", np.zeros((0, 2)))
    pd.DataFrame({"x1": [], "x2": []}).to_parquet(tmp_path / "none.parquet")
    schema = load(X).schema
    for name in ("empty", "classes", "head.csv", "none.npy", "none.parquet"):
        for call in (load, lambda path: read_rows(path, schema)):
            with pytest.raises(ValueError, match=r"no rows|no images|0 rows"):
                call(tmp_path / name)


def test_arrays_and_lists_are_written_as_tensors_are(tmp_path):
    spec = ConditionSpec(kind="labels", columns=("kind",), classes=("x", "y"))
    schema = Schema(name="a", kind="table", event_shape=(2,), columns=("a", "b"), condition=spec)
    rows, labels = [[1.0, 2.5], [3.0, 4.0]], [0, 1]
    written = []
    alike: list[tuple[Any, Any]] = [
        (torch.tensor(rows), torch.tensor(labels)),
        (np.array(rows, dtype=np.float32), np.array(labels)),
        (rows, labels),
    ]
    for x, y in alike:
        written.append(tmp_path / f"{len(written)}.csv")
        write_rows(written[-1], x, schema, y)
    assert {path.read_text() for path in written} == {"a,b,kind\n1.0,2.5,x\n3.0,4.0,y\n"}
