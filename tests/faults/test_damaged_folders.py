"""Damaged run folders through every command: the same numbers as before, or one line that says what is wrong.

A spread over files, entries and kinds of damage; six times as many with ``FAULTS=all``, and a report of every
eighth of those that can be opened.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import Damage, damaged, damages, spread
from safetensors.torch import load_file

from pushforward.cli import main
from pushforward.training import Trainer

#: Damaged folders of each run.
ALL = os.environ.get("FAULTS") == "all"
COUNT = {"labels": 60, "flow": 20, "distilled": 20, "bridge": 20, "stopped": 40}
if ALL:
    COUNT = {name: 6 * count for name, count in COUNT.items()}
#: What is done with each.
COMMANDS = {
    "labels": ("sample", "score", "info", "compare", "report", "train"),
    "flow": ("sample", "score", "push", "info"),
    "distilled": ("sample", "info"),
    "bridge": ("sample", "score", "info"),
    "stopped": ("sample", "score", "info", "train"),
}
#: Seconds that a command may take, and lines that it may say of a folder that it refuses.
LONGEST, LINES = 120, 2
TINY = ["--steps", "20", "--batch", "32", "--no-report", "--checkpoint-every", "8", "--log-every", "4"]
SMALL = [*TINY, "--network", "mlp,width=8,depth=1", "--source", "normal", "--folds", "0"]


@dataclass
class Base:
    """A run to damage: its folder, rows to score, and what every command makes of it."""

    folder: Path
    data: Path
    train: list[str]
    commands: tuple[str, ...]
    results: dict[str, Outcome] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a command ended, what it said on standard error, and a digest of what it wrote."""

    status: int
    said: str
    numbers: Any


def outcome(command: str, base: Base, run: Path, out: Path) -> Outcome:
    """Run ``command`` on the folder ``run``; results go to ``out``."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    file = str(out / ("page.html" if command == "compare" else "rows.csv"))
    lines = {
        "sample": [str(run), "-n", "5", "-o", file],
        "score": [str(run), str(base.data), "-o", file],
        "push": [str(run), str(base.data), "-o", file, "--back"],
        "info": [str(run)],
        "compare": [str(run), str(base.folder), "-o", file],
        "report": [str(run), "--samples", "50"],
        "train": [*base.train, "--out", str(run)],
    }
    told, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(said), within(LONGEST):
        status = main([command, *lines[command]])
    numbers: Any = None
    if status == 0:
        text = told.getvalue().replace(str(out), "OUT").replace(str(run), "RUN")
        numbers = NUMBERS[command](run, out, text)
    return Outcome(status, said.getvalue(), numbers)


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail where the block takes longer, such as one that waits for a pipe."""

    def fail(*_: Any) -> None:
        raise AssertionError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _table(run: Path, out: Path, told: str) -> Any:
    return (out / "rows.csv").read_text()


def _report(run: Path, out: Path, told: str) -> Any:
    # how many rows its numbers are of depends on how fast the machine is
    return [line["label"] for line in json.loads((run / "report.json").read_text())["verdict"]]


def _weights(run: Path, out: Path, told: str) -> Any:
    return {name: value.tolist() for name, value in load_file(run / "ema.safetensors").items()}


#: What a command has to make of a folder again.
NUMBERS: dict[str, Callable[[Path, Path, str], Any]] = {
    "sample": _table,
    "score": _table,
    "push": _table,
    "info": lambda run, out, told: told,
    "compare": lambda run, out, told: told,
    "report": _report,
    "train": _weights,
}


class Stopped(KeyboardInterrupt):
    """A training that is cut off."""


def cut_off(arguments: list[str], step: int) -> None:
    """Train, but for what comes after ``step``."""
    own = Trainer._step

    def stopping(self: Trainer, index: int) -> None:
        if index == step:
            raise Stopped
        own(self, index)

    Trainer._step = stopping
    try:
        with contextlib.suppress(KeyboardInterrupt):
            main(["train", *arguments])
    finally:
        Trainer._step = own


def made(name: str, place: Path) -> Base:
    """The run of a name, and what commands make of it."""
    draw = np.random.default_rng(0)
    points = draw.normal(size=(200, 2)).cumsum(1).tolist()
    kinds, dose = draw.integers(0, 3, 200), draw.uniform(size=200)
    table, plain = place / "table.csv", place / "plain.csv"
    lines = [f"{a},{b},{'abc'[k]},{c}" for (a, b), k, c in zip(points, kinds, dose.tolist())]
    table.write_text("\n".join(["x,y,kind,dose", *lines]) + "\n")
    plain.write_text("\n".join(["x,y", *(f"{a},{b}" for a, b in points)]) + "\n")
    for path in (table, plain):  # to score
        few = "\n".join(path.read_text().splitlines()[:21]) + "\n"
        path.with_name(f"few-{path.name}").write_text(few)
    arguments = {
        "labels": [str(table), "--condition", "kind", "dose", "--network", "mlp,width=8,depth=1", *TINY],
        "flow": [str(plain), "--method", "nsf", "--flow", "nsf,layers=2,width=8", "--folds", "0", *TINY],
        "distilled": [str(plain), "--method", "rectified-flow", "--distil", "--pairs", "64", *SMALL],
        "bridge": [str(plain), "--method", "sf2m", *SMALL],
        "stopped": [str(table), "--condition", "kind", *SMALL],
    }[name]
    rows = place / f"few-{Path(arguments[0]).name}"
    base = Base(place / name, rows, arguments, COMMANDS[name])
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        if name == "stopped":
            cut_off([*arguments, "--out", str(base.folder)], 17)
        else:
            assert main(["train", *arguments, "--out", str(base.folder)]) == 0, quiet.getvalue()
    if "report" in base.commands:
        base.results["report"] = outcome("report", base, base.folder, place / "out")
        assert base.results["report"].status == 0, base.results["report"].said
    for command in base.commands:
        if command != "report":
            run = shutil.copytree(base.folder, place / "copy")
            base.results[command] = outcome(command, base, run, place / "out")
            shutil.rmtree(run)
    return base


def digest(folder: Path, but: tuple[Path, ...]) -> dict[str, str]:
    """What is in ``folder``, without some folders in it."""
    return {
        str(p): hashlib.blake2b(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.is_symlink() and not any(p.is_relative_to(each) for each in but)
    }


def problems(base: Base, damage: Damage, place: Path, reported: bool) -> list[str]:
    """What is wrong with how commands take a damaged copy of a run.

    reported: also where a report of it takes its time, because it can be opened.
    """
    found = []
    opened = False
    for command in base.commands:
        if command == "report" and opened and not reported:
            continue
        run = damaged(base.folder, damage, place / "run")
        before = digest(place, (run, place / "out"))
        own = digest(run, ())
        try:
            now = outcome(command, base, run, place / "out")
        except BaseException as error:  # also what ends a program
            if isinstance(error, KeyboardInterrupt):
                raise
            found.append(f"{command}: {type(error).__name__} {str(error)[:200]}")
            continue
        finally:
            after, changed = digest(place, (run, place / "out")), digest(run, ()) != own
            shutil.rmtree(run)
        first, opened = base.results[command], opened or now.status == 0
        if now.status not in (0, 2):
            found.append(f"{command}: exit status {now.status}: {now.said[-300:]}")
        lines = LINES + (command == "train")  # what it is going to do comes before
        if now.status == 2 and (now.said.count("\n") > lines or "Traceback" in now.said):
            found.append(f"{command}: said {now.said.count(chr(10))} lines: {now.said[:300]}")
        if now.status == 0 and first.status == 0 and now.numbers != first.numbers:
            if not harmless(damage, command):
                found.append(f"{command}: other numbers, and no word")
        if after != before:
            found.append(f"{command}: changed files outside the folder")
        if changed and command in ("sample", "score", "push", "info", "compare"):
            found.append(f"{command}: changed files of the folder")
    return found


#: What a file says and no reader can know to be wrong, where the damage left it fitting: by the command that
#: then says or does something else.
MEANT = {
    "info": r"(config|run|data)\.json: .*",  # it says what the files say
    "compare": r"report\.json: .*",
    "sample": r"config\.json: (model\.(solver|guidance|distil)|seed|optim\.ema)|"
    r"data\.json: (schema\.(integers|columns|condition|levels)|preprocess|dtype|source)|"
    r"(conditions|source)\.safetensors: .*",
    "train": r"config\.json: .*|state\.safetensors: header: best\..*",
}
MEANT["score"] = MEANT["push"] = MEANT["report"] = MEANT["sample"]


def harmless(damage: Damage, command: str) -> bool:
    """Whether other numbers are what the damaged file says."""
    return damage.fits and re.match(MEANT[command], str(damage)) is not None


#: Folders that are damaged in one test.
TOGETHER = 5


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Base]:
    """Runs by name, each made when it is asked for first."""
    return functools.cache(lambda name: made(name, tmp_path_factory.mktemp(name)))


PARTS = [
    pytest.param(name, part, marks=[pytest.mark.thorough] if part else [])
    for name, count in COUNT.items()
    for part in range(count // TOGETHER)
]


@pytest.mark.slow
@pytest.mark.parametrize("name, part", PARTS)
def test_a_damaged_folder_gives_the_same_numbers_or_one_line(
    name: str, part: int, bases: Callable[[str], Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = bases(name)
    chosen = spread(damages(base.folder), COUNT[name])[part :: COUNT[name] // TOGETHER]
    found = {str(each): problems(base, each, tmp_path, ALL and at % 8 == 0) for at, each in enumerate(chosen)}
    assert not {what: told for what, told in found.items() if told}
