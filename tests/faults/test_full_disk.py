"""No room for a file: at any write of any command it is one line, and nothing half-written is left."""

import json
import subprocess
import sys

import pytest

import pushforward
from effort import among
from pushforward.cli import main
from pushforward.recipes import open_run
from pushforward.report import build

#: Bytes that a file may have, from none to enough for some of the outputs.
LIMITS = (0, 1 << 10, 10 << 10, 100 << 10, 1 << 20)

#: Runs commands in one process, each with a limit of bytes that a file may have, and says how each ended.
#: Python ignores the signal, so that the write itself fails, as on a full disk.
DRIVER = """
import contextlib, io, json, os, resource, sys, tempfile, traceback
from pathlib import Path
from pushforward.cli import main
from pushforward.recipes import open_run
from pushforward.report import build

def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}

jobs = json.load(sys.stdin)
tempfile.gettempdir()  # found once, by writing a file
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit, folder, arguments in jobs:
    before, err = tree(folder), io.StringIO()
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            status = main(arguments)
    except BaseException:
        status, _ = "traceback", err.write(traceback.format_exc())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    after = tree(folder)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    print(json.dumps([status, err.getvalue(), changed]), flush=True)
"""


def under_limits(jobs):
    """Status, standard error and changed files of every job: a limit, a folder, and a command."""
    process = subprocess.run(
        [sys.executable, "-c", DRIVER], input=json.dumps(jobs), capture_output=True, text=True, timeout=600
    )
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with a report, and tables to score."""
    folder = tmp_path_factory.mktemp("full")
    options = {"method": "nsf", "steps": 1, "rows": 200, "show_progress": False}
    pushforward.train("moons", folder / "run", **options)
    pushforward.train("moons", folder / "labels", condition=["label"], **options)
    pushforward.train("digits", folder / "images", method="vae", steps=1, show_progress=False)
    build(open_run(folder / "run"), samples=50)
    for suffix in ("csv", "parquet"):
        assert main(["sample", str(folder / "run"), "-n", "3000", "-o", str(folder / f"in.{suffix}")]) == 0
    return folder


def commands(folder, limit):
    """Every command that writes, each to files of its own."""
    run, out = str(folder / "run"), folder / f"out{limit}"
    for suffix in ("csv", "tsv", "parquet", "npy", "npz", "png"):
        yield ["sample", run, "-n", "3000", "-o", str(out / "new" / f"x.{suffix}")]
    yield ["sample", str(folder / "labels"), "-n", "3000", "-o", str(out / "labels.npz")]
    yield ["sample", str(folder / "images"), "-n", "100", "-o", str(out / "images.png")]
    for source in ("csv", "parquet"):
        for suffix in ("csv", "parquet"):
            score = ["score", run, str(folder / f"in.{source}")]
            yield [*score, "-o", str(out / f"{source}.{suffix}")]
            yield [*score, "--keep", "-o", str(out / f"{source}-kept.{suffix}")]
    yield ["push", run, str(folder / "in.csv"), "-o", str(out / "moved.csv")]
    yield ["info", run]
    yield ["compare", run, run, "-o", str(out / "pages.html")]
    yield ["train", "moons", "--method", "nsf", "--steps", "2", "--no-report", "--out", str(out / "run")]


@pytest.mark.parametrize("limit", among(LIMITS, [10 << 10]))
def test_where_there_is_no_room_it_is_one_line_and_nothing_is_left(folder, limit):
    failed, tried = 0, list(commands(folder, limit))
    jobs = [[limit, str(folder), command] for command in tried]
    for command, (status, err, changed) in zip(tried, under_limits(jobs), strict=True):
        says = f"{' '.join(command)}: {status} {changed} {err}"
        assert status in (0, 2) and len(err.splitlines()) <= 3, says
        assert not [name for name in changed if "partial" in name or "tmp" in name], says
        if status == 2:
            failed += 1
            assert ": cannot be written (" in err and "File too large" in err, says
            assert command[0] == "train" or not changed, says
    assert (failed > 10) if limit <= 10 << 10 else (failed < 16)


@pytest.mark.thorough
def test_a_report_that_finds_no_room_leaves_the_old_one(folder):
    job = [5000, str(folder / "run"), ["report", str(folder / "run"), "--samples", "50"]]
    [(status, err, changed)] = under_limits([job])
    assert status == 2 and "cannot be written (File too large)" in err.splitlines()[-1], err
    assert not [name for name in changed if "partial" in name or name.endswith(("json", "html"))], changed
