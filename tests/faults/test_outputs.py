"""What commands write is there whole or not at all, under the name that was asked for, and in its form."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pushforward
from effort import first
from pushforward.cli import main
from pushforward.data import ConditionSpec, Schema
from pushforward.data.beside import write_beside, write_columns
from pushforward.data.streams import escaped
from pushforward.data.write import write_pieces
from pushforward.files import replacing

SUFFIXES = (".csv", ".tsv", ".parquet", ".npy", ".npz", ".png")
TABLE = Schema(name="t", kind="table", event_shape=(2,), columns=("a", "b"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    pushforward.train("moons", folder, method="nsf", steps=1, rows=200, show_progress=False)
    return str(folder)


def refused(capsys, *arguments, says=""):
    """The command ends with status 2, one line on standard error and none on standard output."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and says in err, err


# -- whole or not at all -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [ValueError("no more"), OSError(5, "lost"), KeyboardInterrupt()])
def test_what_fails_on_the_way_leaves_the_old_file_alone(suffix, error, tmp_path):
    def pieces():
        yield torch.rand(100, 2), None
        raise error

    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"old")
    # the error is that of the rows, and none of the file
    with pytest.raises(type(error)) as caught:
        write_pieces(path, pieces(), TABLE)
    assert caught.value is error
    assert [file.name for file in tmp_path.iterdir()] == [path.name] and path.read_bytes() == b"old"
    with pytest.raises(type(error)):
        write_pieces(tmp_path / "new" / "folder" / path.name, pieces(), TABLE)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    write_pieces(path, [(torch.rand(100, 2), None)], TABLE)
    assert [file.name for file in tmp_path.iterdir()] == [path.name] and path.read_bytes() != b"old"


@pytest.mark.parametrize("suffix", SUFFIXES[:3])
def test_scores_that_fail_on_the_way_leave_the_old_file_alone(suffix, tmp_path):
    def pieces():
        yield {"p": np.zeros(2)}
        raise ValueError("no more")

    path, table = tmp_path / f"x{suffix}", tmp_path / "in.csv"
    table.write_text("a,b\n1,2\n3,4\n5,6\n")
    path.write_bytes(b"old")
    for write in (
        lambda: write_columns(path, ["p"], pieces()),
        lambda: write_beside(path, str(table), ["p"], pieces()),
        lambda: write_beside(path, str(table), ["p"], [{"p": np.zeros(2)}]),  # too few
        lambda: write_beside(path, str(table), ["p"], [{"p": np.zeros(4)}]),  # too many
    ):
        with pytest.raises(ValueError, match=r"no more|has other rows"):
            write()
        assert sorted(file.name for file in tmp_path.iterdir()) == ["in.csv", path.name]
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_of_long_work(number, run, tmp_path):
    command = [sys.executable, "-m", "pushforward", "sample", run, "-n", "100000000", "-o", "x.csv"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 100
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [file.name.startswith(".x.") for file in tmp_path.iterdir()] == [True]
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    lines = [line for line in err.splitlines() if ": row " not in line]
    assert process.returncode not in (0, None) and out == "" and len(lines) <= 1, err
    assert not any(tmp_path.iterdir())


def test_the_page_of_a_comparison_is_refused_before_anything_is_printed(run, tmp_path, capsys):
    (tmp_path / "a.html").mkdir()
    refused(capsys, "compare", run, run, "-o", tmp_path / "a.html", says="folder")
    refused(capsys, "compare", run, run, "-o", tmp_path / "a.pdf", says="cannot write '.pdf'")


# -- places ------------------------------------------------------------------------------------------


def test_places_that_cannot_be_written_are_refused_at_once(run, tmp_path, capsys):
    table = tmp_path / "in.csv"
    table.write_text("x1,x2\n0.5,0.25\n")
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    places = {
        tmp_path / "folder.csv": "folder",
        tmp_path / "pipe.csv": "expected a file to write",
        table / "x.csv": "in.csv",
        table / "deeper" / "x.csv": "in.csv",
        tmp_path / f"{'x' * 300}.csv": "255",
        tmp_path / "x": "without a suffix",
        tmp_path / "x.csv.gz": "cannot write '.gz'",
    }
    if os.geteuid():  # to the superuser everything is open
        (tmp_path / "closed").mkdir(mode=0o500)
        places[tmp_path / "closed" / "x.csv"] = "permission denied"
    before = sorted(tmp_path.rglob("*"))
    for place, says in places.items():
        refused(capsys, "sample", run, "-n", 3, "-o", place, says=says)
        refused(capsys, "push", run, table, "-o", place, says=says)
        refused(capsys, "score", run, table, "-o", place, says=says)
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_are_made_and_names_may_be_as_long_as_they_can(run, tmp_path):
    path = tmp_path / "new" / "folder" / f"{'ä' * 125}.csv"
    assert main(["sample", run, "-n", "3", "-o", str(path)]) == 0
    assert len(pd.read_csv(path)) == 3 and [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_link_is_replaced_and_what_it_leads_to_is_not(run, tmp_path):
    other = tmp_path / "precious.csv"
    other.write_text("mine")
    for target in (other, tmp_path / "nowhere"):
        link = tmp_path / "x.csv"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert main(["sample", run, "-n", "3", "-o", str(link)]) == 0
        assert not link.is_symlink() and len(pd.read_csv(link)) == 3
    assert other.read_text() == "mine" and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_may_be_scored_in_its_place(run, tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    assert main(["sample", run, "-n", "70", "-o", str(path)]) == 0
    assert main(["score", run, str(path), "--keep", "-o", str(path)]) == 0
    table = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    assert list(table.columns) == ["x1", "x2", "log_prob"] and len(table) == 70
    assert main(["push", run, str(path), "-o", str(path)]) == 0


def test_a_file_of_ours_has_the_rights_of_a_new_file(run, tmp_path):
    (tmp_path / "plain").write_text("")
    for suffix in SUFFIXES:
        assert main(["sample", run, "-n", "3", "-o", str(tmp_path / f"x{suffix}")]) == 0
        assert (tmp_path / f"x{suffix}").stat().st_mode == (tmp_path / "plain").stat().st_mode


# -- forms -------------------------------------------------------------------------------------------


def test_scores_have_the_form_that_the_suffix_names(run, tmp_path):
    table = tmp_path / "in.csv"
    table.write_text("x1,x2\n0.5,0.25\n0.5,0.75\n")
    for flags, columns in (([], 1), (["--keep"], 3)):
        for suffix in (".CSV", ".tsv", ".parquet"):
            assert main(["score", run, str(table), *flags, "-o", str(tmp_path / f"s{suffix}")]) == 0
        comma, tab = (tmp_path / "s.CSV").read_text(), (tmp_path / "s.tsv").read_text()
        assert tab == comma.replace(",", "\t") and tab.count("\t") == 3 * (columns - 1)
        assert (tmp_path / "s.parquet").read_bytes()[:4] == b"PAR1"
        assert pd.read_parquet(tmp_path / "s.parquet").shape == (2, columns)


def test_whole_pixels_and_integers_have_types_that_hold_all_rows(tmp_path):
    image = Schema(name="i", kind="image", event_shape=(1, 2, 2), levels=(0.0, 255.0, 1.0))
    whole, other = torch.full((3, 1, 2, 2), 7.0), torch.full((3, 1, 2, 2), 7.5)
    for pieces, dtype in (([whole, whole], np.uint8), ([whole, other], np.float32)):
        write_pieces(tmp_path / "x.npy", [(x, None) for x in pieces], image)
        write_pieces(tmp_path / "x.npz", [(x, None) for x in pieces], image)
        for x in (np.load(tmp_path / "x.npy"), np.load(tmp_path / "x.npz")["x"]):
            assert x.dtype == dtype and np.array_equal(x, torch.cat(pieces).numpy())
    age = ConditionSpec(kind="continuous", columns=("age",))
    schema = Schema(
        name="t", kind="table", event_shape=(1,), columns=("n",), integers=("n", "age"), condition=age
    )
    x = torch.tensor([[1.4], [2.6]], dtype=torch.float64)
    for ages, dtype in (((40.0, 41.0), np.int64), ((40.0, 41.5), np.float64)):
        pieces = [(x, torch.full((2,), age, dtype=torch.float64)) for age in ages]
        for suffix, read in ((".parquet", pd.read_parquet), (".csv", pd.read_csv)):
            write_pieces(tmp_path / f"x{suffix}", pieces, schema)
            table = read(tmp_path / f"x{suffix}")
            assert table["n"].tolist() == [1, 3, 1, 3] and table["n"].dtype == np.int64
            assert table["age"].tolist() == [ages[0]] * 2 + [ages[1]] * 2 and table["age"].dtype == dtype


def test_equal_draws_make_equal_files(run, tmp_path):
    for suffix in SUFFIXES[:-1]:
        for name in ("a", "b"):
            assert main(["sample", run, "-n", "100", "-o", str(tmp_path / f"{name}{suffix}")]) == 0
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_pictures_hold_a_stated_number(tmp_path):
    image = Schema(name="i", kind="image", event_shape=(1, 8, 8), levels=(0.0, 16.0, 1.0))
    with pytest.raises(ValueError, match=r"sheet of .* pixels, more than 50,000,000; take fewer"):
        write_pieces(tmp_path / "x.png", [(torch.zeros(46_000, 1, 8, 8), None)], image)
    with pytest.raises(ValueError, match="at most 1,000,000 rows"):
        write_pieces(tmp_path / "x.png", [(torch.zeros(600_000, 2), None)] * 2, TABLE)
    assert not any(tmp_path.iterdir())


# -- what stands beside scores -----------------------------------------------------------------------


def test_text_beside_a_parquet_file_keeps_numbers_and_blanks(tmp_path):
    frame = pd.DataFrame(
        {
            "a": [1.5, np.nan, 0.1],
            "n": pd.array([1, None, 3], dtype="Int64"),
            "f": np.array([0.1, 1e-8, 3], dtype=np.float32),
            "s": ["x", None, "="],
            "c": pd.Categorical(["u", "v", "u"]),
        }
    )
    frame.to_parquet(tmp_path / "in.parquet")
    write_beside(tmp_path / "out.csv", str(tmp_path / "in.parquet"), ["p"], [{"p": np.arange(3.0)}])
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        "a,n,f,s,c,p",
        "1.5,1,0.1,x,u,0.000000",
        ",,1e-08,,v,1.000000",
        "0.1,3,3.0,=,u,2.000000",
    ]
    write_beside(tmp_path / "out.parquet", str(tmp_path / "in.parquet"), ["p"], [{"p": np.arange(3.0)}])
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet").drop(columns="p"), frame)
    frame.set_index("s").to_parquet(tmp_path / "in.parquet")
    write_beside(tmp_path / "out.parquet", str(tmp_path / "in.parquet"), ["p"], [{"p": np.arange(3.0)}])
    assert list(pd.read_parquet(tmp_path / "out.parquet").columns) == ["a", "n", "f", "c", "p"]


def test_a_text_table_becomes_a_parquet_file_of_one_type_a_column(tmp_path):
    rows = 70_000  # more than are held at once
    lines = [f"{i},{i},t{i % 3}" for i in range(rows - 1)] + ["0.5,7,"]
    (tmp_path / "in.csv").write_text("\n".join(["a,n,s", *lines]))
    pieces = ({"p": np.arange(start, min(start + 1000, rows))} for start in range(0, rows, 1000))
    write_beside(tmp_path / "out.parquet", str(tmp_path / "in.csv"), ["p"], pieces)
    table: Any = pd.read_parquet(tmp_path / "out.parquet")
    assert [table[c].dtype.kind for c in ("a", "n", "p")] == ["f", "i", "i"]
    assert table["n"].tolist() == [*range(rows - 1), 7] and table["p"].tolist() == [*range(rows)]
    assert table["s"][4] == "t1" and table["s"].isna().sum() == 1


# -- formulas ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["=1+1", "+x", "-x", "@a", "\tx", "\rx", "\n=x", "＝1", "=cmd|' /C calc'!A0"]
)
def test_texts_that_look_like_formulas_are_escaped(text):
    assert escaped(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1.5", "+1e5", "-inf", "nan", "", "x=1", "a-b", "0", "setosa"])
def test_numbers_and_other_texts_are_not(text):
    assert escaped(text) == text


def test_samples_and_kept_columns_are_escaped_where_it_is_asked_for(tmp_path):
    labels = ("=cmd|' /C calc'!A0", "+a", "@b", "plain")
    g = np.random.default_rng(0)
    frame = pd.DataFrame({"-x": g.normal(size=80), "y": g.normal(size=80), "@kind": labels * 20})
    frame.to_csv(tmp_path / "t.csv", index=False)
    run = str(tmp_path / "run")
    pushforward.train(
        str(tmp_path / "t.csv"), run, method="nsf", condition=["@kind"], steps=1, folds=0, show_progress=False
    )
    out = tmp_path / "s.csv"
    assert main(["sample", run, "-n", "40", "-o", str(out)]) == 0
    plain = pd.read_csv(out)
    assert list(plain.columns) == ["-x", "y", "@kind"] and {*plain["@kind"]} <= {*labels}
    assert main(["score", run, str(out), "--keep", "-o", str(tmp_path / "k.csv")]) == 0  # reads back as it is
    assert main(["sample", run, "-n", "40", "--escape", "-o", str(tmp_path / "e.tsv")]) == 0
    safe: Any = pd.read_csv(tmp_path / "e.tsv", sep="\t")
    assert list(safe.columns) == ["'-x", "y", "'@kind"]
    assert safe["'@kind"].tolist() == [label if label == "plain" else f"'{label}" for label in plain["@kind"]]
    assert np.array_equal(safe["'-x"], plain["-x"]) and (safe["'-x"] < 0).any()
    for command in (["score", run, str(out), "--keep"], ["push", run, str(out)]):
        assert main([*command, "--escape", "-o", str(tmp_path / "k.csv")]) == 0
        kept = pd.read_csv(tmp_path / "k.csv")
        assert list(kept.columns)[:3] == ["'-x", "y", "'@kind"]
        assert kept["'@kind"].tolist() == safe["'@kind"].tolist()


# -- standard output ---------------------------------------------------------------------------------


@pytest.mark.parametrize("redirection", first(["| head -0", "> /dev/full", ">&-", "2> /dev/full", "2>&-"], 2))
def test_a_lost_stream_is_no_traceback(redirection, run, tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    script = f"{sys.executable} -m pushforward sample {run} -n 3 -o x.csv {redirection}"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert len(done.stderr.splitlines()) <= 1 and "Traceback" not in done.stdout, done.stderr
    assert done.returncode == (2 if redirection == "> /dev/full" else 0)
    assert len(pd.read_csv(tmp_path / "x.csv")) == 3


def test_a_file_on_its_way_is_new_and_beside(tmp_path):
    with replacing(tmp_path / "x.csv") as scratch:
        assert scratch.parent == tmp_path and scratch.suffix == ".csv" and scratch.stat().st_size == 0
    assert (tmp_path / "x.csv").exists() and not scratch.exists()
