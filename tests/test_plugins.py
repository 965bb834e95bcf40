"""Parts of the user's own: registered in Python, and by --plugin on the command line."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import forks
import pushforward
from pushforward import GaussianMixture, GaussianMixtureOracle, register
from pushforward.cli import main
from pushforward.entries import KINDS, METHODS
from pushforward.fields import BestLinear
from pushforward.paths import MapPath, Schedule
from pushforward.solvers import Euler

PARTS = """
import math
import torch
from torch import Tensor
from pushforward import register
from pushforward.entries import Method
from pushforward.paths import End, Path, PathPoint, Schedule
from pushforward.recipes.matching import Matching


class Slow(Schedule):
    def __init__(self, power: float = 2.0):
        self.power = power

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        alpha, slope = t**self.power, self.power * t ** (self.power - 1)
        return alpha, 1 - alpha, slope, -slope


class Own(Matching):
    pass


class Arc(Path):
    def __init__(self, height: float = 0.5):
        super().__init__()
        self.height = height

    def sample(self, t: Tensor, *points: Tensor, generator=None) -> PathPoint:
        x0, x1 = points
        s = t.reshape(-1, *([1] * (x1.ndim - 1)))
        side = torch.zeros_like(x1)
        side[..., 0] = self.height
        x = (1 - s) * x0 + s * x1 + (math.pi * s).sin() * side
        return PathPoint(t, x, points, x1 - x0 + math.pi * (math.pi * s).cos() * side)

    def ends(self) -> tuple[End, End]:
        return End(1, 0, 0), End(0, 1, 0)


register("path", "slow", Slow, "leaves the source slowly")
register("path", "arc", Arc, "bends to one side")
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


def test_a_path_that_is_no_interpolant_trains_and_refuses_what_it_does_not_have(tmp_path: Path) -> None:
    """By --path from a plugin, on a small table, whose start is a baseline where the path allows one."""
    (tmp_path / "my_parts.py").write_text(PARTS)
    table = "\n".join(["x,y", *(f"{math.sin(k)},{math.cos(3 * k)}" for k in range(60))])
    (tmp_path / "table.csv").write_text(table)
    train = ["train", "table.csv", *TRAIN[4:], "--plugin", "my_parts.py", "--path", "arc,height=0.3"]
    done = run(tmp_path, *train, "--folds", "0", "--out", "run")
    assert done.returncode == 0 and "flow-matching (path arc,height=0.3) for" in done.stderr, done.stderr
    assert "starts from" in done.stderr
    done = run(tmp_path, "sample", "run", "-n", "5", "-o", "rows.csv", "--plugin", "my_parts.py")
    assert done.returncode == 0 and len((tmp_path / "rows.csv").read_text().splitlines()) == 6, done.stderr
    for flags, says in [
        (["--prediction", "noise"], "--prediction noise: --path arc,height=0.3 is not affine"),
        (["--gamma", "0.1"], "--gamma 0.1: is added along schedules; --path arc,height=0.3 is a path"),
        (["--method", "sf2m"], "--gamma brownian,sigma=0.5: is added along schedules"),
    ]:
        done = run(tmp_path, *train, *flags, "--out", "other")
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert says in done.stderr and not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("None", "expected real numbers"),
        ("[[1.0, float('nan')]] * 50", "50 of 100 values are not finite"),
        ("", "SyntaxError"),
    ],
)
def test_data_of_your_own_that_cannot_be_used_are_one_line(tmp_path: Path, returned: str, says: str) -> None:
    text = f"import pushforward\n\ndef mine():\n    return ({returned or '1 +'})\n\n"
    (tmp_path / "my_data.py").write_text(text + 'pushforward.register("data", "mine", mine)\n')
    done = run(tmp_path, "train", "mine", "--out", "run", "--plugin", "my_data.py")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert says in done.stderr and ("mine" in done.stderr or not returned), done.stderr
    assert not (tmp_path / "run").exists()


def test_a_general_path_in_python() -> None:
    """Registered as a function that makes it; its flow is that of an interpolant with the same curve."""

    def straight() -> MapPath:
        return MapPath(lambda t, x0, x1: (1 - t) * x0 + t * x1)

    register("path", "straight", straight)
    settings = {"rows": 80, "steps": 5, "network": "mlp,width=4,depth=1", "source": "normal", "folds": 0}
    paths = ("straight", "linear")
    runs = [pushforward.train("moons", path=path, show_progress=False, **settings) for path in paths]
    x0 = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(runs[0].flow.push(x0), runs[1].flow.push(x0), rtol=1e-4, atol=1e-4)
    for make in (GaussianMixtureOracle, lambda mixture, path: BestLinear(path)):
        with pytest.raises(ValueError, match=r"path: expected an affine one such as .*, got a MapPath"):
            make(GaussianMixture(torch.zeros(1, 2), 1.0), straight())


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
        (("path", "fine", Euler), "expected a subclass of pushforward.paths.Schedule or "),
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
