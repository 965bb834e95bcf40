"""Links in a run folder lead nothing of ours out of it: what they lead to is neither written nor deleted."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from effort import among, first
from pushforward.cli import main
from pushforward.runs import CONTENTS
from pushforward.training.lock import LOCK

SMALL = "--rows 100 --batch 32 --log-every 1 --validate-every 2 --checkpoint-every 2 --no-report".split()
MODEL = "--condition label --network mlp,width=8 --solver heun,steps=2 --source normal --folds 0".split()
TRAIN = ["train", "moons", *MODEL, *SMALL, "--out", "run", "--steps"]
ENTRIES = (*CONTENTS, LOCK, "report.json", "report.html", "figures", "figures/narrow", "figures/samples.png")
WRITES = {
    "go on": [*TRAIN, "6"],
    "overwrite": [*TRAIN, "2", "--overwrite"],
    "sample": ["sample", "run", "-n", "3", "-o", "run/samples.csv"],
    "score": ["score", "run", "moons", "-o", "run/scores.csv"],
    "report": ["report", "run", "--samples", "20"],
}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A finished run with a report."""
    folder = tmp_path_factory.mktemp("links")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*TRAIN, "4"]) == 0
        assert main(["report", "run", "--samples", "20"]) == 0
    return folder / "run"


@pytest.fixture
def place(pristine, tmp_path, monkeypatch):
    """A working folder with a copy of the run and a folder of somebody else's."""
    monkeypatch.chdir(tmp_path)
    fresh(pristine, tmp_path)
    return tmp_path


def fresh(pristine: Path, place: Path) -> None:
    for name in ("run", "theirs"):
        shutil.rmtree(place / name, ignore_errors=True)
    shutil.copytree(pristine, place / "run")
    for name in (
        "mine.txt",
        "samples.png",
        "narrow/times.png",
        ".a.0a1b2c3d.partial.png",
        "train/model.safetensors",
    ):
        file = place / "theirs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("of somebody else")


def tree(folder: Path) -> dict[str, str]:
    """Everything below a folder, links as what they are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = f"link to {os.readlink(path)}"
        else:
            found[str(path)] = "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def taken_out(place: Path, name: str) -> Path:
    """Move an entry of the run, where there is one, to where somebody else has it."""
    entry, there = place / "run" / name, place / "theirs" / name
    there.parent.mkdir(parents=True, exist_ok=True)
    if there.is_dir():
        shutil.rmtree(there)
    if entry.exists():
        shutil.move(entry, there)
    elif Path(name).suffix:
        there.write_text("of somebody else")
    else:
        shutil.copytree(place / "theirs" / "narrow", there)
    entry.parent.mkdir(parents=True, exist_ok=True)
    return there


#: Entries that are links at once, by command; the others open the run as `sample` does.
ALONE = tuple((name,) for name in ENTRIES)
TOGETHER = (("figures",), ("figures/narrow",), ("report.json", "report.html", "figures/samples.png"))


@pytest.mark.parametrize("command", among(WRITES, ["sample", "score"]))
def test_what_entries_of_a_run_lead_to_stays_as_it_is(pristine, place, command):
    """Entries are links to themselves outside the run, which read well, and to nothing, which do not."""
    seen = set()
    for names in ALONE if command in ("go on", "overwrite") else TOGETHER:
        for there in ("theirs", "nowhere"):
            fresh(pristine, place)
            for name in names:
                to = taken_out(place, name)
                to = to if there == "theirs" else place / "theirs" / "nowhere"
                (place / "run" / name).symlink_to(to)
            before = tree(place / "theirs")
            status = main(WRITES[command])
            assert status in (0, 2), (names, there)
            assert tree(place / "theirs") == before, (names, there)
            assert {path.name for path in place.iterdir()} == {"run", "theirs"}
            seen.add(status)
    assert 0 in seen


@pytest.mark.parametrize("command", first(["go on", "overwrite", "report"]))
@pytest.mark.parametrize("theirs", [True, False])
def test_hard_links_are_no_way_out_either(pristine, place, command, theirs):
    """A second name of a file of somebody else's is cut off, and not written to."""
    for names in TOGETHER[2:] if command == "report" else ALONE:
        fresh(pristine, place)
        names = [name for name in names if Path(name).suffix]
        for name in names:
            to = taken_out(place, name)
            os.link(to if theirs else place / "theirs" / "mine.txt", place / "run" / name)
        before = tree(place / "theirs")
        assert main(WRITES[command]) in (0, 2)
        assert tree(place / "theirs") == before, names


def test_a_report_deletes_what_it_has_made_and_nothing_else(place):
    figures = place / "run" / "figures"
    for name in ("holiday.png", "narrow/holiday.png", "samples.jpg", "old.png"):
        (figures / name).write_bytes(b"mine")
    for folder in (place / "run", figures):  # named as files on their way, but nothing that we have made
        (folder / ".report.0a1b2c3d.partial.json").mkdir()
        (folder / ".report.0a1b2c3d.partial.json" / "mine.txt").write_text("mine")
        (folder / ".report.1a1b2c3d.partial.html").symlink_to(place / "theirs")
    report = place / "run" / "report.json"
    told = report.read_text()
    assert '"samples.png"' in told
    hostile = [
        "../../theirs/mine.txt",
        "/etc/passwd",
        "..",
        "narrow/../../config.json",
        "old.png\n",
        "a" * 9999,
    ]
    hostile += [
        "../config.json",
        "samples.jpg",
        "narrow",
        "",
        None,
        5,
        ["old.png"],
        "narrow/narrow/a.png",
        "HOLIDAY.png",
    ]
    text = json.loads(told)
    text["figures"] = [*text["figures"], *hostile, "gone.png", "old.png"]
    report.write_text(json.dumps(text))
    before = tree(place)
    assert main(WRITES["report"]) == 0
    after = tree(place)
    assert {*before} - {*after} == {str(figures / "old.png")}
    made = {str(place / "run" / name) for name in ("report.json", "report.html")}
    changed = {path for path in before if path in after and before[path] != after[path]} - made
    assert all(Path(path).is_relative_to(figures) for path in changed)
    assert not any("holiday" in path or path.endswith(".jpg") for path in changed)
    assert "old.png" not in report.read_text()


@pytest.mark.parametrize("name", ["figures", "figures/narrow"])
def test_a_linked_folder_of_figures_is_refused_by_name(place, name, capsys):
    to = taken_out(place, name)
    (place / "run" / name).symlink_to(to)
    before = tree(place)
    capsys.readouterr()
    assert main(WRITES["report"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert f"run/{name}: expected a folder of the run, found a symbolic link" in error[-1]
    assert tree(place) == before
