"""Sizes are looked at before memory is taken: one line, exit 2, nothing written, whatever a file claims."""

from __future__ import annotations

import logging
import os
import socket
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from memory import little_memory
from PIL import Image

from pushforward.cli import main
from pushforward.data import load, read_rows
from pushforward.data.limits import check_size, checked_max_size
from pushforward.data.schema import Schema

TABLE = Schema(name="t", kind="table", event_shape=(2,), columns=("x1", "x2"))


def header(shape: object, dtype: object = "<f8", fortran: bool = False) -> bytes:
    """The header of an npy file, true or not."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


def npy(*args: Any, body: bytes = bytes(1024)) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(header(*args) + body)

    return write


def text(*parts: tuple[str, int]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("w") as file:
            for part, count in parts:
                file.write(part * count)

    return write


def unfolding(path: Path) -> None:
    """A member x.npy of 3 GB in 3 MB, as a compressor writes it that is flushed now and then."""
    head, packer, zeros = header((187_500_000, 2)), zlib.compressobj(9, zlib.DEFLATED, -15), bytes(10**7)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = first + 300 * block + zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    sizes = struct.pack("<III", 0, len(packed), len(head) + 3 * 10**9)
    local = b"PK\3\4" + struct.pack("<HHHHH", 20, 0, 8, 0, 0) + sizes + struct.pack("<HH", 5, 0) + b"x.npy"
    entry = b"PK\1\2" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 0) + sizes
    entry += struct.pack("<HHHHHII", 5, 0, 0, 0, 0, 0, 0) + b"x.npy"
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local) + len(packed), 0)
    path.write_bytes(local + packed + entry + end)


def member(
    shape: tuple[int, ...], body: int, method: int = zipfile.ZIP_DEFLATED, says: int | None = None
) -> Callable[[Path], None]:
    """An npz file of ``body`` zeros, whose directory ``says`` another number of bytes."""

    def write(path: Path) -> None:
        head = header(shape)
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("x.npy", head + bytes(body))
        if says is not None:
            true, false = (struct.pack("<I", len(head) + size) for size in (body, says))
            content = path.read_bytes()
            assert content.count(true) == 2
            path.write_bytes(content.replace(true, false))

    return write


def members(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(60_000):
            archive.writestr(f"a{i:020}.npy", b"")


def encrypted(path: Path) -> None:
    member((64, 2), 1024)(path)
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)


def long_header(path: Path) -> None:
    path.write_bytes(b"\x93NUMPY\2\0" + struct.pack("<I", 2**30) + b" " * 1000)


def sparse(head: bytes, size: int) -> Callable[[Path], None]:
    """A file of zeros that take no disk."""

    def write(path: Path) -> None:
        path.write_bytes(head)
        os.truncate(path, size)

    return write


def repeated_texts(path: Path) -> None:
    """20,000 rows of one text of a million letters, which Parquet stores once."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array(["x" * 10**6]))
    pq.write_table(pa.table({"x1": np.arange(20_000) ** 0.5, "x2": texts}), path)


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def bound(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)
    os.chdir(here)


ROWS = ("1,2\n", 50)
#: What is refused: the name of the file, how it is made, and what is said.
CASES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "npz that unfolds": (
        "x.npz",
        unfolding,
        "3 GB of numbers, more than 2 GB; raise the limit with --max-size 4",
    ),
    "npz whose directory says less": ("x.npz", member((64, 2), 10**8, says=1024), "not a readable .npz file"),
    "npz whose directory says more": (
        "x.npz",
        member((10**8, 2), 1024, says=16 * 10**8),
        "1,600,000,128 bytes in",
    ),
    "npz whose header says more": ("x.npz", member((10**8, 2), 1024), "1,600,000,000 bytes of numbers"),
    "npz in bzip2": ("x.npz", member((64, 2), 10**7, zipfile.ZIP_BZIP2), "compressed in an unknown way"),
    "npz in lzma": ("x.npz", member((64, 2), 10**7, zipfile.ZIP_LZMA), "compressed in an unknown way"),
    "npz of many arrays": ("x.npz", members, "too many arrays"),
    "npz encrypted": ("x.npz", encrypted, "encrypted"),
    "npz of shape 2^62": ("x.npz", member((2**62, 2), 16), "damaged (its header says"),
    "npy of a false shape": ("x.npy", npy((10**8, 2)), "1,600,000,000 bytes of numbers, there are 1,024"),
    "npy of shape 2^62": ("x.npy", npy((2**62, 2)), "damaged (its header says"),
    "npy of a negative shape": ("x.npy", npy((-1, 2)), "shape (-1, 2)"),
    "npy of no columns": ("x.npy", npy((2**40, 0)), "expected an array (rows, ...)"),
    "npy of no rows": ("x.npy", npy((0, 2**40)), "the array has no rows"),
    "npy of empty texts": ("x.npy", npy((2**40,), "<U0"), "damaged"),
    "npy of a long header": ("x.npy", long_header, "a header of 1,073,741,824 bytes"),
    "npy of a deep header": ("x.npy", npy("(" * 3000), "not a readable .npy file"),
    "npy of a text as shape": ("x.npy", npy("('a', 2)"), "not a readable .npy file"),
    "npy of many dimensions": ("x.npy", npy((1,) * 200), "200 dimensions"),
    "npy of records": ("x.npy", npy((64,), [("a", "<f8"), ("b", "<f8")]), "records"),
    "npy of objects": ("x.npy", npy((64,), "|O"), "Python objects"),
    "npy of 8 GB": ("x.npy", sparse(header((10**9,)), 8 * 10**9 + 128), "8 GB of numbers, more than 2 GB"),
    "npy of many columns": ("x.npy", sparse(header((2, 10**7)), 16 * 10**7 + 128), "10,000,000 columns"),
    "csv of a long cell": (
        "x.csv",
        text(("x1,x2\n", 1), ROWS, ('"', 1), ("x", 10**8), ('",1\n', 1)),
        "line 52",
    ),
    "csv of a long line": (
        "x.csv",
        text(("x1,x2\n", 1), ROWS, ("1,", 5 * 10**7), ("1\n", 1)),
        "line 52 is longer",
    ),
    "csv of many cells": (
        "x.csv",
        text(("x1,x2\n", 1), ROWS, ("1,", 10**6), ("1\n", 1)),
        "has 1000001 cells",
    ),
    "csv of many names": ("x.csv", text(("a,", 5 * 10**7), ("b\n", 1), ROWS), "line 1 is longer than 8 MB"),
    "csv of many columns": ("x.csv", text(("1,", 10**6), ("1\n", 1)), "1,000,001 columns, more than 100,000"),
    "csv of a long name": ("x.csv", text(("x", 10**6), (",b\n", 1), ROWS), "a name of 1,000,000 characters"),
    "csv without an end": (
        "x.csv",
        text(("x1,x2\n", 1), ROWS, ("1", 3 * 10**7)),
        "line 52 is longer than 8 MB",
    ),
    "csv of an open quote": (
        "x.csv",
        text(("x1,x2\n", 1), ROWS, ('"', 1), ("1,2\n", 5 * 10**6)),
        "does not end",
    ),
    "csv of a long text": ("x.csv", text(("x1,x2\n", 1), ROWS, ("x", 10**6), (",2\n", 1)), "line 52"),
    "csv of spaces": ("x.csv", text((" ", 10**8)), "line 1 is longer than 8 MB"),
    "csv of blank lines": ("x.csv", text(("\n", 10**7)), "no table in the first 1,000,000 lines"),
    "csv of 20 GB of nothing": ("x.csv", sparse(b"x1,x2\n1,2\n", 20 * 10**9), "line 3 is longer than 8 MB"),
    "Parquet of a text again and again": ("x.parquet", repeated_texts, "'xxxxx"),
    "a pipe": ("x.csv", os.mkfifo, "expected a file, found a pipe"),
    "a device": ("x.csv", link("/dev/zero"), "expected a file, found a device"),
    "a device as npz": ("x.npz", link("/dev/zero"), "expected a file, found a device"),
    "a socket": ("x.npy", bound, "expected a file, found a socket"),
    "a folder called csv": ("x.csv", Path.mkdir, "no images in the folder"),
    "a compressed csv": ("x.csv.gz", text(*[ROWS]), "cannot read .gz"),
}


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message and len(message) < 600
    return message


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory):
    """What reading imports is imported before memory is measured."""
    folder = tmp_path_factory.mktemp("warm")
    x = np.random.default_rng(0).normal(size=(40, 2))
    pq.write_table(pa.table({"a": x[:, 0], "b": pa.array(["u", "v"] * 20)}), folder / "x.parquet")
    (folder / "x.csv").write_text("a,b\n" + "\n".join(f"{a},{b}" for a, b in x))
    load(folder / "x.csv")
    load(folder / "x.parquet", condition=["b"])
    refused(lambda: load(folder / "none.csv"))


@pytest.mark.parametrize("case", CASES)
def test_what_would_take_too_much_is_refused_in_one_line(case, tmp_path):
    name, make, said = CASES[case]
    make(tmp_path / name)
    with little_memory():
        message = refused(lambda: load(tmp_path / name))
    assert said in message and name in message
    with little_memory():
        # as new rows of a table; what is read in pieces may be as long as it likes
        if case != "npy of 8 GB":
            assert name in refused(lambda: read_rows(tmp_path / name, TABLE))


def test_parquet_is_measured_by_what_it_unfolds_to(tmp_path):
    pq.write_table(pa.table({"x1": np.zeros(10**7, np.int8)}), tmp_path / "zeros.parquet")
    ends = pa.array([0] + [10**7] * 50, pa.int32())
    lists = pa.ListArray.from_arrays(ends, pa.array(np.zeros(10**7, np.int8)))
    pq.write_table(pa.table({"x1": np.arange(50.0), "x2": lists}), tmp_path / "lists.parquet")
    for name, said in (("zeros", "0.08 GB of numbers"), ("lists", "0.08 GB of values in one group of rows")):
        path = tmp_path / f"{name}.parquet"
        assert path.stat().st_size < 100_000
        with little_memory(20e6):
            assert said in refused(lambda path=path: load(path, max_size=0.05))
    with little_memory(20e6):
        assert said in refused(lambda: read_rows(path, TABLE, max_size=0.05))


@pytest.mark.parametrize("case", ["npz that unfolds", "npy of a false shape", "csv of a long cell", "a pipe"])
@pytest.mark.parametrize("command", ["train", "score", "push"])
def test_commands_refuse_and_write_nothing(case, command, tmp_path, capsys, run):
    name, make, said = CASES[case]
    make(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    data = str(tmp_path / name)
    line = [command, data] if command == "train" else [command, str(run), data]
    with little_memory():
        assert main([*line, "--out", str(tmp_path / ("out" if command == "train" else "out.csv"))]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and said in told.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    flags = ["--rows", "100", "--steps", "5", "--network", "mlp,width=8,depth=1", "--no-report"]
    assert main(["train", "moons", *flags, "--out", str(out)]) == 0
    return out


def pictures(folder: Path, count: int, size: tuple[int, int], mode: str = "L", suffix: str = "png") -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        image = Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).convert(mode)
        image.save(folder / f"{i}.{suffix}")
    return folder


def test_an_image_is_measured_before_it_is_decoded(tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    Image.new("L", (11_000, 11_000)).save(folder / "a.png", compress_level=1)
    with little_memory(), warnings.catch_warnings():
        warnings.simplefilter("error")
        message = refused(lambda: load(folder))
    assert "3.87 GB of memory for an image of 11,000 x 11,000 pixels" in message
    assert message.endswith("--max-size 4")
    content = bytearray((folder / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (folder / "a.png").write_bytes(content)
    with little_memory():
        assert "60,000 x 60,000 pixels" in refused(lambda: load(folder))


def test_images_within_the_limit_are_read_and_pillow_is_silent(tmp_path, monkeypatch):
    folder = pictures(tmp_path / "images", 40, (100, 90))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # twice as much is an error of Pillow's
    assert "memory for an image of 100 x 90 pixels" in refused(lambda: load(folder, max_size=2e-4))
    assert "0.0018 GB of images" in refused(lambda: load(folder, max_size=0.001))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(folder).train.x.shape == (32, 1, 90, 100)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_all_images_together_are_counted(tmp_path):
    folder = pictures(tmp_path / "colour", 40, (50, 50), "RGB")
    size = 40 * 50 * 50 * 3 * 5 / 1e9
    assert "of images, more than" in refused(lambda: load(folder, max_size=size * 0.99))
    assert len(load(folder, max_size=size * 1.01).train.x) == 32


def test_images_are_scaled_within_the_limit(tmp_path):
    folder = pictures(tmp_path / "images", 40, (20, 20))
    with little_memory():
        assert "--resize 100000: 320 GB of an image" in refused(lambda: load(folder, resize=100_000))
    assert load(folder, resize=8).train.x.shape == (32, 1, 8, 8)


def test_an_animation_is_its_first_frame(tmp_path):
    folder = tmp_path / "moving"
    folder.mkdir()
    for i in range(40):
        frames = [Image.new("L", (64, 64), (7 * i + j) % 256) for j in range(100)]
        frames[0].save(folder / f"{i}.tiff", save_all=True, append_images=frames[1:])
    with little_memory():
        assert load(folder).train.x.shape == (32, 1, 64, 64)


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"P6 8 8 255\n" + bytes(192),
    ],
)
def test_what_is_called_an_image_and_is_none(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert "a.png: not a readable image" in refused(lambda: load(tmp_path))


@pytest.mark.parametrize(
    "suffix", ["csv", "npy", "npz", "parquet", "png", "jpg", "gif", "bmp", "tiff", "webp"]
)
def test_damaged_bytes_are_one_line_or_nothing(tmp_path, suffix, capfd):
    g = np.random.default_rng(0)
    x, pixels = g.normal(size=(40, 2)), g.integers(0, 255, (12, 12, 3), dtype=np.uint8)
    path = tmp_path / f"x.{suffix}"
    makers = {
        "csv": lambda: np.savetxt(path, x, delimiter=",", header="x1,x2", comments=""),
        "npy": lambda: np.save(path, x),
        "npz": lambda: np.savez_compressed(path, x=x, kind=np.array(["u", "v"] * 20)),
        "parquet": lambda: pd.DataFrame({"x1": x[:, 0], "x2": x[:, 1], "k": ["u", "v"] * 20}).to_parquet(
            path
        ),
    }
    makers.get(suffix, lambda: Image.fromarray(pixels).save(path))()
    good, damaged = path.read_bytes(), 0
    source = path if suffix in makers else tmp_path
    capfd.readouterr()
    for _ in range(60):
        content, place = bytearray(good), int(g.integers(len(good)))
        way = int(g.integers(4))
        content[place : place + (4, 1, len(good), 0)[way]] = (
            b"\xff\xff\xff\x7f",
            bytes(1),
            b"",
            content[:50],
        )[way]
        path.write_bytes(content)
        with warnings.catch_warnings(), little_memory():
            warnings.simplefilter("ignore")
            try:
                load(source)
            except ValueError as error:
                damaged += 1
                assert str(error).startswith(str(tmp_path)) and "\n" not in str(error)
                assert len(str(error)) < 600
    assert damaged > 5
    assert capfd.readouterr() == ("", "")


def test_libraries_are_not_heard(tmp_path, capfd, monkeypatch):
    """A wrong description in Parquet is no JSON, a wrong count of channels is what Pillow logs."""
    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.table({"x1": np.arange(40.0)}).replace_schema_metadata({b"pandas": b'{"columns": '}), path
    )
    assert f"{path}: not a readable Parquet file" in refused(lambda: load(path))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as it is without pytest
    Image.new("RGB", (8, 8)).save(tmp_path / "a.tiff")
    content = (tmp_path / "a.tiff").read_bytes()
    entry = struct.pack("<HHIH", 277, 3, 1, 3)
    assert entry in content
    (tmp_path / "a.tiff").write_bytes(content.replace(entry, struct.pack("<HHIH", 277, 3, 1, 2048)))
    assert "a.tiff: not a readable image" in refused(lambda: load(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_the_limit_can_be_raised_and_lowered(tmp_path):
    x = np.random.default_rng(0).normal(size=(10_000, 3))
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x, y=x[:, 0])
    np.savetxt(tmp_path / "x.csv", x, delimiter=",")
    pq.write_table(pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2]}), tmp_path / "x.parquet")
    for name in ("x.npy", "x.npz", "x.csv", "x.parquet"):
        assert "more than 0.0001 GB" in refused(lambda name=name: load(tmp_path / name, max_size=1e-4))
        assert len(load(tmp_path / name, max_size=0.001).train.x) == 8000
    # texts count too
    (tmp_path / "t.csv").write_text(
        "a,b\n" + "".join(f"{a},{'x' * 200}{i % 2}\n" for i, a in enumerate(x[:, 0]))
    )
    assert "GB of numbers" in refused(lambda: load(tmp_path / "t.csv", condition=["b"], max_size=0.002))
    assert len(load(tmp_path / "t.csv", condition=["b"], max_size=0.004).train.x) == 8000


def test_the_flag(tmp_path, capsys, run):
    x = np.random.default_rng(0).normal(size=(1000, 2))
    np.savez(tmp_path / "x.npz", x=x)
    out = tmp_path / "scores.csv"
    score = ["score", str(run), str(tmp_path / "x.npz"), "-o", str(out)]
    assert main([*score, "--max-size", "1e-5"]) == 2 and not out.exists()
    assert "raise the limit with --max-size 0.01" in capsys.readouterr().err
    assert main([*score, "--max-size", "0.01"]) == 0 and out.exists()
    train = ["train", str(tmp_path / "x.npz"), "--steps", "5", "--no-report", "--out", str(tmp_path / "run")]
    assert main([*train, "--max-size", "1e-5"]) == 2 and not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "many"])
@pytest.mark.parametrize("command", ["train", "score", "push"])
def test_no_limit_is_no_limit(value, command, tmp_path, capsys, run):
    line = [command, "moons"] if command == "train" else [command, str(run), "moons"]
    assert main([*line, "--max-size", value, "--out", str(tmp_path / "out.csv")]) == 2
    told = capsys.readouterr()
    assert "max-size" in told.err and told.err.count("\n") == 1 and not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "2", None, True])
def test_a_limit_in_python(value):
    assert "max-size" in refused(lambda: checked_max_size(value))
    assert "max-size" in refused(lambda: load("moons", max_size=value))
    assert checked_max_size(3) == 3.0


def test_a_size_that_no_machine_has_is_not_advised():
    assert "raise" not in refused(lambda: check_size("x", 1e300, 2.0))
    check_size("x", 2e9, 2.0)
