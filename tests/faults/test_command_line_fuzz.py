"""Random command lines: done or refused, in few lines, in time, never by a signal or a traceback.

All of them, with other seeds, where the environment has FAULTS=all.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_lines import Outcome, line, outcome

ALL = os.environ.get("FAULTS") == "all"
#: Seeds, and lines of each; those of the second number in processes of their own.
SEEDS, LINES, PROCESSES = (range(3), 500, 60) if ALL else (range(1), 150, 5)
#: What is told after files were written: nothing about the command line was wrong.
LATE = ("not finite", "solver failed")


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> tuple[list[str], list[str]]:
    """Files and folders to name, and run folders, one of them with a report."""
    folder = tmp_path_factory.mktemp("places")
    small = [
        "--steps",
        "2",
        "--batch",
        "16",
        "--network",
        "mlp,width=4,depth=1",
        "--rows",
        "64",
        "--folds",
        "0",
    ]
    for name, flags in (("plain", []), ("labels", ["--condition", "label"])):
        out = ["--out", str(folder / name), "--source", "normal", "--no-report"]
        assert outcome(["train", "moons", *out, *small, *flags], folder).status == 0
    rows = np.random.default_rng(0).normal(size=(50, 2))
    np.savetxt(folder / "rows.csv", rows, delimiter=",", header="x1,x2", comments="")
    files = ["rows.csv", "nowhere.csv", "", "out/x.csv", "x.parquet"]
    runs = [str(folder / name) for name in ("plain", "labels", "plain", "nowhere")]
    return [*(str(folder / name) for name in files), "/dev/null", "run"], runs


def judge(arguments: list[str], done: Outcome) -> None:
    told = (arguments, done.status, done.error[-2000:], done.left)
    assert done.status in (0, 2), told
    assert len(done.lines) <= 12 and "Traceback" not in done.error, told
    if done.status == 2:
        assert done.lines and done.lines[-1].startswith("pushforward: ") and len(done.lines[-1]) < 1100, told
        assert not done.left or any(words in done.error for words in LATE), told


@pytest.mark.parametrize("seed", SEEDS)
def test_random_lines_are_done_or_refused(tmp_path: Path, places, seed: int) -> None:
    draw = random.Random(seed)
    statuses = []
    for number in range(LINES):
        arguments = line(draw, *places)
        if arguments[0] == "report" and not ALL:  # a report takes seconds
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        done = outcome(arguments, folder, seconds=120)
        judge(arguments, done)
        statuses.append(done.status)
    assert min(statuses.count(0), statuses.count(2)) > 0.15 * len(statuses), "lines of one kind alone"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.thorough
def test_random_lines_in_processes_of_their_own(tmp_path: Path, places, seed: int) -> None:
    draw = random.Random(1000 + seed)
    for number in range(PROCESSES):
        arguments = line(draw, *places)
        if arguments[0] == "train" and draw.random() < 0.3:
            arguments += draw.choice([["--devices", "2"], ["--nodes", "2"], ["--devices", "3"]])
        if any("\0" in argument for argument in arguments):
            continue  # no process can be given one
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-m", "pushforward", *(os.fsencode(argument) for argument in arguments)]
        process = subprocess.run(
            command,
            capture_output=True,
            timeout=300,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        judge(arguments, Outcome(process.returncode, process.stderr.decode(), os.listdir(folder)))
