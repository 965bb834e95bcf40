"""Every recipe, killed at every file operation, goes on to the weights, metrics and figures of a whole run.

``FAULTS=all`` kills at every operation; otherwise at a few of each recipe, drawn by a seed.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from killing import KILLED, Server, content, differences, states
from PIL import Image

from effort import among
from pushforward.entries import METHODS
from pushforward.recipes.base import family

ALL = os.environ.get("FAULTS") == "all"
#: Operations at which each recipe is killed in a quick run.
FEW = 3
#: Tests among which the kills of a report are shared out.
PARTS = 8 if ALL else 1

STEPS = ["--steps", "4", "--checkpoint-every", "2", "--log-every", "2", "--batch", "16"]
PLAIN = [*STEPS, "--folds", "0", "--validation", "0.2", "--patience", "9", "--validate-every", "2"]
TINY = ["--network", "mlp,width=8,depth=1"]
#: Flows as small as they come, by method; others have a network.
FLOWS = {
    **dict.fromkeys(("nice", "realnvp", "nsf"), "layers=2,width=4"),
    **dict.fromkeys(("maf", "iaf", "nsf-ar"), "layers=1,width=8"),
    "residual": "layers=1",
    "vae": "width=8",
    "glow": "levels=1,steps=1,width=4",
    "tarflow": "layers=2,width=8",
}


def flags(method: str) -> list[str]:
    """A training of a method that takes a fraction of a second."""
    if method in FLOWS:
        return ["--method", method, "--flow", f"{method},{FLOWS[method]}", *PLAIN]
    if family(method).takes_tokens:
        return ["--method", method, "--network", "transformer,width=8,depth=1", *PLAIN]
    several = ["--distil", "--pairs", "64"] if method == "rectified-flow" else []
    return ["--method", method, "--source", "normal", *TINY, *PLAIN, *several]


#: Trainings by name: every method of the registry, and what else makes other files.
CASES = {
    **{method: flags(method) for method in METHODS},
    "folds": ["--method", "fm", *TINY, *STEPS, "--folds", "2"],
    "folds of a flow": ["--method", "nsf", "--flow", "nsf,layers=2,width=4", *STEPS, "--folds", "2"],
    "a condition": [*flags("c2ot"), "--condition", "label"],
    "distilled alone": ["--source", "normal", *TINY, *PLAIN, "--distil", "--pairs", "64"],
    "two rounds": [*flags("rectified-flow"), "--reflow", "2"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder of images for flows of images."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def points(everyone: Sequence[int], name: str, few: int) -> list[int]:
    """Which operations of ``everyone`` to be killed at."""
    return [*everyone] if ALL else sorted(random.Random(name).sample(everyone, min(few, len(everyone))))


def killed(
    server: Server,
    command: list[str],
    out: Path,
    copies: Path,
    name: str,
    few: int,
    part: slice = slice(None),
) -> tuple[dict[str, object], Iterator[int]]:
    """What ``command`` makes of ``out``, and then ``out`` as each kill leaves it, by operation.

    part: which of these kills, where a test takes long.
    """
    whole = server.run(command, out, copies=copies)
    assert whole.status == 0, whole.error
    expected, left = content(out), states(copies)
    assert expected and not [file for file in expected if "partial" in file]

    def each() -> Iterator[int]:
        for at in points([*left], name, few)[part]:
            shutil.rmtree(out)
            shutil.copytree(left[at], out)
            yield at

    return expected, each()


@pytest.mark.parametrize("name", among(CASES, ["fm", "rectified-flow", "sf2m", "maf"]))
def test_a_killed_training_goes_on_to_the_same_weights(name, server, pictures, tmp_path):
    tokens = name in METHODS and family(name).takes_tokens
    data = [str(pictures)] if tokens or name in ("glow", "tarflow") else ["moons", "--rows", "64"]
    out = tmp_path / "run"
    command = ["train", *data, *CASES[name], "--no-report", "--out", str(out)]
    expected, kills = killed(server, command, out, tmp_path / "copies", name, FEW)
    for at in kills:
        again = server.run(command, out)
        finished = again.status == 2 and "trained; `pushforward report" in again.error
        assert (again.status == 0 or finished) and "Traceback" not in again.error, (at, again)
        assert not differences(expected, content(out)), (at, differences(expected, content(out)))


def test_a_kill_leaves_what_was_there_at_that_operation(server, tmp_path):
    """A process that dies at an operation and the copy made at it hold the same files."""
    out, copies = tmp_path / "run", tmp_path / "copies"
    command = ["train", "moons", "--rows", "64", *flags("fm"), "--no-report", "--out", str(out)]
    server.run(command, out, copies=copies)
    left = states(copies)
    for at in random.Random(0).sample([*left], 3):
        shutil.rmtree(out)
        assert server.run(command, out, kill_at=at).status == KILLED
        assert not differences(content(left[at]), content(out)), at


def test_an_extended_run_that_was_killed_goes_on(server, tmp_path):
    """It does not pass for finished, and what is sampled meanwhile is said to be of a checkpoint."""
    out, samples = tmp_path / "run", tmp_path / "x.csv"
    short = ["train", "moons", "--rows", "64", *flags("fm"), "--no-report", "--out", str(out)]
    long = [*short, "--steps", "8"]
    assert server.run(short, out).status == 0
    expected, kills = killed(server, long, out, tmp_path / "copies", "extended", 6)
    for at in kills:
        drawn = server.run(["sample", str(out), "-n", "3", "-o", str(samples)], out)
        assert drawn.status == 0, drawn.error
        again = server.run(long, out)
        if again.status == 2:
            assert "trained; `pushforward report" in again.error and not drawn.error
        else:
            assert again.status == 0, again.error
            extended = "continuing to 8 steps" in again.error
            assert extended or "not finished: these are the weights of step" in drawn.error, (at, drawn)
        assert not differences(expected, content(out)), at


def test_a_replaced_run_that_was_killed_is_the_old_or_the_new(server, tmp_path):
    """--overwrite, killed anywhere: the next command finds a run, or begins anew, and never a mixture."""
    out = tmp_path / "run"
    old = ["train", "moons", "--rows", "64", *flags("fm"), "--no-report", "--out", str(out)]
    new = [*old, "--seed", "1", "--overwrite"]
    assert server.run(old, out).status == 0
    expected, kills = killed(server, new, out, tmp_path / "copies", "replaced", 6)
    for at in kills:
        again = server.run(new, out)
        assert again.status == 0, again.error
        assert not differences(expected, content(out)), at


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.thorough
def test_a_report_that_was_killed_is_made_again(part, server, tmp_path):
    """The run says that it is trained, and the report made again has the same figures and numbers."""
    out = tmp_path / "run"
    train = ["train", "moons", "--rows", "64", *flags("fm"), "--no-report", "--out", str(out)]
    report = ["report", str(out), "--samples", "40"]
    assert server.run(train, out).status == 0
    expected, kills = killed(server, report, out, tmp_path / "copies", "report", 2, slice(part, None, PARTS))
    assert any(name.endswith(".png") for name in expected)
    for at in kills:
        told = server.run(train, out)
        there = (out / "report.html").exists()
        assert told.status == 2 and ("finished run is there" if there else "makes its report") in told.error
        assert server.run(report, out).status == 0
        assert not differences(expected, content(out)), (at, differences(expected, content(out)))
