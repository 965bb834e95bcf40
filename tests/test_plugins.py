"""Parts of the user's own: registered in Python, and by --plugin on the command line."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest

import forks
from pushforward import register
from pushforward.cli import main
from pushforward.entries import KINDS, METHODS
from pushforward.paths import Schedule
from pushforward.solvers import Euler

PARTS = """
from torch import Tensor
from pushforward import register
from pushforward.entries import Method
from pushforward.paths import Schedule
from pushforward.recipes.matching import Matching


class Slow(Schedule):
    def __init__(self, power: float = 2.0):
        self.power = power

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        alpha, slope = t**self.power, self.power * t ** (self.power - 1)
        return alpha, 1 - alpha, slope, -slope


class Own(Matching):
    pass


register("path", "slow", Slow, "leaves the source slowly")
register("recipe", "own-matching", Own)
register("method", "slow-fm", Method("flow matching, slowly", "", {"path": "slow,power=3"}, "own-matching"))
"""
TRAIN = ["train", "moons", "--rows", "80", "--steps", "3", "--network", "mlp,width=4,depth=1", "--no-report"]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forks.run(*arguments, cwd=folder)


def test_a_plugin_trains_and_samples_and_is_not_run_because_a_folder_names_it(tmp_path: Path) -> None:
    (tmp_path / "my_parts.py").write_text(PARTS)
    flags = ["--method", "slow-fm", "--source", "normal", "--folds", "0", "--out", "run"]
    done = run(tmp_path, *TRAIN, *flags, "--plugin", "my_parts.py")
    assert done.returncode == 0 and "slow-fm for" in done.stderr, done.stderr
    done = run(tmp_path, "--plugin=my_parts.py", "sample", "run", "-n", "5", "-o", "rows.csv")
    assert done.returncode == 0 and len((tmp_path / "rows.csv").read_text().splitlines()) == 6, done.stderr
    (tmp_path / "my_parts.py").write_text("open('ran', 'w').close()\n" + PARTS)
    done = run(tmp_path, "sample", "run", "-n", "5", "-o", "rows.csv")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "unknown method 'slow-fm'" in done.stderr and "needs its --plugin FILE" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "expected a file of Python"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("syntax error", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from pushforward import register\nregister('path', 'mine', int)", "expected a subclass of"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_one_line(
    tmp_path: Path, capsys, text: str | None, says: str
) -> None:
    file = tmp_path / "bad_parts.py"
    if text is not None:
        file.write_text(text)
    assert main(["methods", "--plugin", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pushforward: --plugin") and says in error and len(error.splitlines()) == 1
    assert "bad_parts" not in sys.modules


def test_what_cannot_be_registered() -> None:
    class Fine(Schedule):
        def __call__(self, t):
            return t, 1 - t, t * 0 + 1, t * 0 - 1

    before = {name: dict(kind.entries) for name, kind in KINDS.items()}
    for arguments, says in [
        (("paths", "fine", Fine), "unknown kind 'paths'; did you mean 'path'"),
        (("path", "Not Fine", Fine), "name: expected small letters"),
        (("path", "linear", Fine), "path 'linear': is registered already"),
        (("path", "fine", Euler), "expected a subclass of pushforward.paths.Schedule"),
        (("path", "fine", 3), "component: expected a class or a function, got 3"),
        (
            ("path", "fine", functools.partial(Fine)),
            "component: expected a class or a function, got functools",
        ),
        (("method", "fine", Fine), "component: expected a Method"),
    ]:
        with pytest.raises(ValueError, match=says):
            register(*arguments)
    assert {name: dict(kind.entries) for name, kind in KINDS.items()} == before


def test_a_flow_is_a_method_too() -> None:
    from pushforward.flows import maf

    register("flow", "my-maf", maf, "as it is")
    assert METHODS["my-maf"].recipe == "maximum-likelihood"
