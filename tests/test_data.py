"""The data layer: splits, tables, round trips, preprocessing, conditions."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from narrowing import one_tensor
from pushforward import random
from pushforward.data import ConditionSpec, Schema, load, read_rows, write_rows
from pushforward.data.split import repeats, split
from pushforward.data.text import natural_order

REAL = os.environ.get("PUSHFORWARD_DATA")


def real_file(name: str) -> Path:
    if REAL is None or not (Path(REAL) / name).exists():
        pytest.skip(f"PUSHFORWARD_DATA names no folder with {name}")
    return Path(REAL) / name


# splits


def test_split_partitions_the_rows_and_keeps_every_label_s_share():
    labels = torch.tensor([0] * 100 + [1] * 50 + [2] * 7 + [3])[torch.randperm(158)]
    train, test = split(158, 0.2, seed=1, labels=labels)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(158))
    held = torch.bincount(labels[test], minlength=4).tolist()
    # 0.2 of 158 is 32 rows: exact shares 20.25, 10.13, 1.42 and 0.20; the spare one goes to the third.
    assert held == [20, 10, 2, 0]


def test_split_is_random_within_labels():
    labels = torch.zeros(1000, dtype=torch.long)
    _, test = split(1000, 0.2, seed=0, labels=labels)
    assert len(test) == 200 and abs(test.double().mean() - 499.5) < 4 * 1000 / math.sqrt(12 * 200)


def test_digits_are_split_by_label():
    data = load("digits", condition=["label"])
    train, test = (torch.bincount(one_tensor(part.condition)) for part in (data.train, data.test))
    assert (len(data.train), len(data.test)) == (1438, 359)
    assert bool(((test - 0.2 * (train + test)).abs() < 1).all())


def test_repeats_are_counted_over_all_columns_and_dropped_on_request():
    frame: Any = pd.DataFrame({"a": np.arange(100.0), "b": np.arange(100.0) ** 2, "kind": ["u", "v"] * 50})
    frame = pd.concat([frame, frame[:7], frame[7:9].assign(kind="w"), frame[9:11].assign(kind="w")])
    data = load(frame, condition=["kind"])
    assert (data.schema.duplicates, len(data.train) + len(data.test)) == (7, 111)
    data = load(frame, condition=["kind"], deduplicate=True)
    assert (data.schema.duplicates, len(data.train) + len(data.test)) == (7, 104)
    x = torch.cat([data.train.x, data.test.x]).numpy()
    c = torch.cat([one_tensor(part.condition) for part in (data.train, data.test)]).numpy()
    assert not repeats(x, c).any() and repeats(x).sum() == 4


def test_zero_and_minus_zero_are_the_same_value():
    assert repeats(np.array([0.0, 1.0, -0.0])).tolist() == [False, False, True]


# tables


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def lines(rows: int, separator: str = ",") -> str:
    return "".join(f"{i}.5{separator}{i * i - 7}e-1\n" for i in range(rows))


def whole(data):
    """All points of a data set, sorted by their first column."""
    x = torch.cat([data.train.x, data.test.x])
    return x[x[:, 0].argsort()]


TRUTH = torch.tensor([[i + 0.5, (i * i - 7) / 10] for i in range(40)], dtype=torch.float64)


@pytest.mark.parametrize(
    "name, text, columns",
    [
        ("plain.csv", "a,b\n" + lines(40), ("a", "b")),
        ("bare.csv", lines(40), ("x1", "x2")),
        ("comment.csv", "# where\n\n# when\nlat (deg),long (deg)\n" + lines(40), ("lat (deg)", "long (deg)")),
        ("savetxt.csv", "# lat,long\n" + lines(40), ("x1", "x2")),
        ("windows.csv", "\ufeffa,b\r\n" + lines(40).replace("\n", "\r\n"), ("a", "b")),
        ("blank.csv", "a,b\n" + lines(40).replace("\n", "\n\n"), ("a", "b")),
        ("tab.tsv", "a\tb\n" + lines(40, "\t"), ("a", "b")),
        ("semicolon.csv", "a;b\n" + lines(40, ";"), ("a", "b")),
        ("quoted.csv", '"a, in m","b"\n' + lines(40), ("a, in m", "b")),
        ("spaces.csv", "a , b\n" + lines(40, " , "), ("a", "b")),
    ],
)
def test_text_tables_are_read_whatever_their_dress(tmp_path, name, text, columns):
    data = load(write(tmp_path / name, text))
    assert data.schema.columns == columns and data.schema.kind == "table"
    torch.testing.assert_close(whole(data), TRUTH, rtol=1e-15, atol=0)


def test_condition_columns_leave_the_data(tmp_path):
    text = "a,kind,b,n\n" + "".join(f"{i}.5,{'uv'[i % 2]},{i * i},{i % 3 + 8}\n" for i in range(60))
    path = write(tmp_path / "t.csv", text)
    data = load(path, condition=["kind"])
    assert data.schema.columns == ("a", "b", "n") and data.schema.condition is not None
    assert data.schema.condition.classes == ("u", "v")
    assert torch.equal(one_tensor(data.train.condition), (data.train.x[:, 0] - 0.5).long() % 2)
    frame = pd.read_csv(path).drop(columns="kind")
    data = load(frame, condition="n")
    assert isinstance(data.schema.condition, ConditionSpec)
    assert (data.schema.condition.kind, data.schema.condition.classes) == ("labels", ("8", "9", "10"))
    data = load(frame, condition="n", condition_kind="continuous")
    assert isinstance(data.schema.condition, ConditionSpec)
    assert data.schema.condition.kind == "continuous"
    assert one_tensor(data.train.condition).dtype == torch.float64
    assert (data.schema.condition.low, data.schema.condition.high) == ((8.0,), (10.0,))
    data = load(frame, condition=["n", "b"], condition_kind="continuous")
    assert data.schema.condition is not None and data.schema.condition.network_spec == (2,)
    condition = one_tensor(data.train.condition)
    assert condition.shape == (48, 2)
    torch.testing.assert_close(condition[:, 1], (data.train.x[:, 0] - 0.5).square())


def test_new_rows_are_matched_by_name_in_any_order(tmp_path):
    frame = pd.DataFrame({"a": np.arange(64.0), "kind": ["u", "v"] * 32, "b": np.arange(64.0) ** 2})
    schema = load(frame, condition=["kind"]).schema
    text = "b,spare,a,kind\n4,text,2,v\n9,text,3,u\n"
    rows = read_rows(write(tmp_path / "new.csv", text), schema)
    assert rows.x.tolist() == [[2, 4], [3, 9]] and one_tensor(rows.condition).tolist() == [1, 0]
    without = read_rows(write(tmp_path / "bare.csv", "b,a\n4,2\n"), schema, need_condition=False)
    assert without.x.tolist() == [[2, 4]] and without.condition is None
    by_position = read_rows(np.array([[2.0, 4.0]]), schema, need_condition=False)
    assert by_position.x.tolist() == [[2, 4]]
    paired = read_rows((np.array([[2.0, 4.0]]), ["v"]), schema)
    assert one_tensor(paired.condition).tolist() == [1]


def test_quakes_have_comments_then_a_header():
    data = load(real_file("quakes_all.csv"))
    assert data.schema.columns == ("LATITUDE", "LONGITUDE")
    assert len(data.train) + len(data.test) == 6120 and data.schema.duplicates == 673
    x = torch.cat([data.train.x, data.test.x])
    assert x[:, 0].abs().max() <= 90 < x[:, 1].abs().max() <= 180


def test_fires_have_no_header():
    data = load(real_file("fire.csv"))
    assert data.schema.columns == ("x1", "x2") and len(data.train) + len(data.test) == 12809


def test_digits_of_the_archive_and_cells_by_key():
    data = load(real_file("mnist10k.npz"), condition="labels")
    assert data.schema.event_shape == (1, 28, 28) and data.schema.levels == (0, 255, 1)
    data = load(f"{real_file('cite100.npz')}:day2")
    assert data.schema.event_shape == (100,) and data.train.x.dtype == torch.float32


# round trips


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".npz"])
@pytest.mark.parametrize("condition", [["label"], ["alcohol"], ["alcohol", "hue"], []])
def test_tables_round_trip(tmp_path, suffix, condition):
    data = load("wine", condition=condition)
    path = tmp_path / "inner" / f"wine{suffix}"
    write_rows(path, data.test.x, data.schema, data.test.condition)
    back = read_rows(path, data.schema)
    assert torch.equal(back.x, data.test.x)
    if condition:
        assert torch.equal(one_tensor(back.condition), one_tensor(data.test.condition))
    if suffix in (".csv", ".parquet"):
        frame = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
        assert tuple(frame.columns) == (*data.schema.columns, *condition)
        if condition == ["label"]:
            assert {*frame["label"]} == {"class_0", "class_1", "class_2"}


def test_single_precision_survives_a_text_table(tmp_path):
    x = random.normal((50, 2), random.seeded("test"))
    schema = load(x).schema
    write_rows(tmp_path / "x.csv", x, schema)
    assert torch.equal(read_rows(tmp_path / "x.csv", schema).x.float(), x)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_images_round_trip(tmp_path, suffix):
    data = load("digits", condition=["label"])
    c = data.test.condition if suffix == ".npz" else None
    write_rows(tmp_path / f"d{suffix}", data.test.x, data.schema, c)
    back = read_rows(tmp_path / f"d{suffix}", data.schema, need_condition=c is not None)
    assert torch.equal(back.x, data.test.x)
    assert c is None or torch.equal(one_tensor(back.condition), one_tensor(c))


def test_samples_with_a_dimension_per_condition_are_flattened(tmp_path):
    data = load("wine", condition=["label"])
    x, c = data.test.x[:6].reshape(2, 3, 13), torch.tensor([2, 0, 1])
    write_rows(tmp_path / "s.csv", x, data.schema, c)
    back = read_rows(tmp_path / "s.csv", data.schema)
    assert torch.equal(back.x, data.test.x[:6])
    assert one_tensor(back.condition).tolist() == [2, 0, 1, 2, 0, 1]
    write_rows(tmp_path / "s.csv", x, data.schema, torch.tensor(2))
    assert one_tensor(read_rows(tmp_path / "s.csv", data.schema).condition).tolist() == [2] * 6


def test_pictures_show_the_samples(tmp_path):
    data = load("digits")
    write_rows(tmp_path / "d.png", data.test.x[:5], data.schema)
    sheet = np.asarray(Image.open(tmp_path / "d.png"))
    # Five tiles of 8 x 8 pixels, four times enlarged, three in a line, lines of one pixel between.
    assert sheet.shape == (2 * 33 - 1, 3 * 33 - 1)
    second = sheet[:32, 33:65][::4, ::4]
    assert np.array_equal(second, np.round(data.test.x[1, 0].numpy() * 255 / 16))
    for name, options in {
        "moons": {"rows": 64, "condition": "label"},
        "iris": {"condition": "sepal width (cm)"},
    }.items():
        data = load(name, **options)
        write_rows(tmp_path / f"{name}.png", data.train.x, data.schema, data.train.condition)
        picture = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
        assert (np.ptp(picture, axis=2) > 60).sum() > 500  # coloured points


# arrays and images


@pytest.mark.parametrize(
    "x, kind, event, levels",
    [
        (np.random.default_rng(0).normal(size=50), "table", (1,), None),
        (np.random.default_rng(0).normal(size=(50, 3)), "table", (3,), None),
        (np.random.default_rng(0).integers(0, 256, (50, 5, 6), np.uint8), "image", (1, 5, 6), (0, 255, 1)),
        (np.random.default_rng(0).integers(0, 17, (50, 5, 6)), "image", (1, 5, 6), (0, 16, 1)),
        (np.random.default_rng(0).integers(0, 255, (50, 5, 6, 3), np.uint8), "image", (3, 5, 6), (0, 255, 1)),
        (np.random.default_rng(0).integers(0, 255, (50, 3, 5, 6), np.uint8), "image", (3, 5, 6), (0, 255, 1)),
        (torch.rand(50, 1, 5, 6), "image", (1, 5, 6), None),
        (torch.rand(50, 7, 2), "array", (7, 2), None),
        (np.random.default_rng(0).integers(0, 2, (50, 5, 6)).astype(bool), "image", (1, 5, 6), (0, 1, 1)),
    ],
)
def test_arrays_are_told_by_their_shape_and_type(x, kind, event, levels):
    schema = load(x).schema
    assert (schema.kind, schema.event_shape, schema.levels) == (kind, event, levels)


def test_channels_last_are_turned(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (40, 5, 6, 3), np.uint8)
    data = load(x, holdout=0.0)
    back = {image.numpy().transpose(1, 2, 0).astype(np.uint8).tobytes() for image in data.train.x}
    assert back == {image.tobytes() for image in x}


def test_one_standard_deviation_for_all_elements_of_an_array():
    x = torch.rand(100, 4, 3, dtype=torch.float64) * torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    data = load(x)
    z = data.preprocess.inverse(data.train.x)
    assert abs(z.mean()) < 1e-9 and z.std(correction=0) == pytest.approx(1)
    ratio = z.std((0, 1)) / data.train.x.std((0, 1))
    assert torch.allclose(ratio, ratio[0].expand(3))


def test_whole_pixels_are_dequantised_onto_minus_one_to_one():
    x = torch.arange(256, dtype=torch.uint8).repeat(40).reshape(40, 16, 16)
    data = load(x)
    z, log_det = data.preprocess.inverse_and_log_det(data.train.x, generator=random.seeded("test"))
    # A step of one becomes 2 / 256, so bits per dimension differ by 7 exactly.
    torch.testing.assert_close(log_det / (256 * math.log(2)), torch.full_like(log_det, -7.0))
    start = 2 * data.train.x / 256 - 1
    assert bool(((z >= start) & (z <= start + 2 / 256)).all())
    torch.testing.assert_close(data.preprocess.forward(z), data.train.x)


@pytest.mark.parametrize("kind", ["auto", "standardise", "logit", "none"])
def test_every_preprocessing_of_images_comes_back_to_the_pixels(kind):
    data = load("digits", preprocess=kind)
    z = data.preprocess.inverse(data.train.x.double(), generator=random.seeded("test"))
    assert torch.equal(data.preprocess.forward(z).float(), data.train.x)
    if kind == "standardise":
        # Dequantisation adds a variance of 1/12 of a step to one of 36: 0.1 percent of the deviation.
        assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    if kind == "logit":
        assert z.min() >= math.log(0.05 / 0.95) and z.max() <= math.log(0.95 / 0.05)


def test_image_folders_with_and_without_classes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 5, 6, 3), np.uint8)
    for i, image in enumerate(pixels):
        folder = tmp_path / "colour" / ("class10" if i % 2 else "class9")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
        (tmp_path / "grey").mkdir(exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(tmp_path / "grey" / f"{i}.png")
    data = load(tmp_path / "colour", condition=["label"])
    assert data.schema.event_shape == (3, 5, 6) and data.schema.condition is not None
    assert data.schema.condition.classes == ("class9", "class10")
    number = {image.tobytes(): i for i, image in enumerate(pixels)}
    for image, label in zip(data.train.x.numpy(), one_tensor(data.train.condition)):
        assert number[image.transpose(1, 2, 0).astype(np.uint8).tobytes()] % 2 == label
    assert load(tmp_path / "colour").schema.condition is None
    grey = read_rows(tmp_path / "grey", load(tmp_path / "grey").schema).x
    assert np.array_equal(
        grey[:, 0].numpy(), pixels[:, :, :, 0]
    )  # files in natural order: 2.png before 10.png


def test_npz_takes_its_other_arrays_as_conditions(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.repeat(["u", "v"], 30), age=x[:, 0] * 2, other=np.zeros((3, 3)))
    data = load(tmp_path / "a.npz", condition=["y"])
    assert data.schema.columns == ("x1", "x2") and data.train.x.dtype == torch.float32
    assert data.schema.condition is not None and data.schema.condition.classes == ("u", "v")
    data = load(f"{tmp_path}/a.npz:x", condition=["age"])
    torch.testing.assert_close(data.train.condition, 2 * data.train.x[:, 0].double())


def test_pairs_in_memory():
    x = torch.randn(60, 3, generator=random.seeded("test"), dtype=torch.float64)
    y = (x[:, 0] > 0).long() * 5
    data = load((x, y))
    assert data.schema.condition is not None and data.schema.condition.classes == ("0", "5")
    assert torch.equal(one_tensor(data.train.condition), (data.train.x[:, 0] > 0).long())
    data = load((pd.DataFrame(x.numpy(), columns=["a", "b", "c"]), pd.Series(y.numpy() > 0, name="positive")))
    assert data.schema.condition is not None
    assert data.schema.condition.classes == ("False", "True")
    assert data.schema.condition.columns == ("positive",)
    data = load((x, x[:, :2]))
    torch.testing.assert_close(data.train.condition, data.train.x[:, :2])


def test_frames_with_categories_missing_value_types_and_texts_of_numbers():
    frame = pd.DataFrame(
        {
            "a": pd.array(range(40), dtype="Int64"),
            "b": [f"{i * i}.25" for i in range(40)],
            "kind": pd.Categorical(["low", "high"] * 20, categories=["low", "high"]),
        }
    )
    with pytest.warns(UserWarning, match="'a' looks like an identifier"):
        data = load(frame, condition=["kind"])
    assert data.schema.condition is not None and data.schema.condition.classes == ("high", "low")
    torch.testing.assert_close(data.train.x[:, 1], data.train.x[:, 0].square() + 0.25)


# conditions


def test_labels_are_encoded_and_decoded():
    spec = ConditionSpec(kind="labels", columns=("species",), classes=("setosa", "virginica"))
    assert spec.encode("virginica").shape == () and spec.encode("virginica") == 1
    assert spec.encode(["virginica", " setosa "]).tolist() == [1, 0]
    assert spec.encode(torch.tensor([1, 0])).tolist() == [1, 0]
    assert spec.decode(torch.tensor([1, 0])).tolist() == ["virginica", "setosa"]
    assert spec.network_spec == 2
    spec = ConditionSpec(kind="labels", columns=("n",), classes=("3", "5", "10"))
    assert spec.encode(["5", 10, 3.0, "3.0"]).tolist() == [1, 2, 0, 0]
    decoded = spec.decode(torch.tensor([2, 0]))
    assert decoded.dtype == np.int64 and decoded.tolist() == [10, 3]


def test_numbers_are_encoded_and_decoded():
    one = ConditionSpec(kind="continuous", columns=("age",), low=(0.0,), high=(10.0,))
    assert one.network_spec == () and one.encode("3.5").shape == ()
    assert one.encode([1, "2", 3.5]).tolist() == [1, 2, 3.5]
    two = ConditionSpec(kind="continuous", columns=("age", "size"), low=(0.0, 0.0), high=(10.0, 1.0))
    assert two.network_spec == (2,) and two.encode([3, 0.5]).shape == (2,)
    assert two.encode([[3, 0.5], [4, 0.25]]).tolist() == [[3, 0.5], [4, 0.25]]
    assert two.decode_columns(torch.tensor([[3, 0.5], [4, 0.25]]))["size"].tolist() == [0.5, 0.25]


def test_numbers_outside_the_training_range_warn():
    spec = ConditionSpec(kind="continuous", columns=("age",), low=(0.0,), high=(10.0,))
    with pytest.warns(
        UserWarning, match=r"'age': 2 of 3 values lie outside .* \[0, 10\], the farthest is -50"
    ):
        spec.encode([5, 11, -50])


def test_a_schema_survives_json():
    for name, condition in [("wine", ["alcohol", "hue"]), ("digits", ["label"]), ("iris", [])]:
        schema = load(name, condition=condition).schema
        assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


def test_natural_order():
    assert natural_order(["10", "9", "-1.5"]) == ["-1.5", "9", "10"]
    assert natural_order(["b2", "b10", "a3", "b"]) == ["a3", "b", "b2", "b10"]
