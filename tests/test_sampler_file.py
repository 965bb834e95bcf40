"""``pushforward tune`` and ``sample --nfe``: a sampler that belongs to a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward
from pushforward.cli.entry import main
from pushforward.inference import draw
from pushforward.recipes import open_run
from pushforward.recipes.samplers import tuned
from pushforward.solvers import Tsit5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quick run with a sampler for five evaluations."""
    out = tmp_path_factory.mktemp("tuned") / "run"
    train = [
        "train",
        "moons",
        "--method",
        "fm",
        "--network",
        "mlp,width=32",
        "--rows",
        "300",
        "--steps",
        "400",
    ]
    assert main([*train, "--source", "normal", "--no-report", "--out", str(out)]) == 0
    assert main(["tune", str(out), "--nfe", "5"]) == 0
    return out


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any, says: str) -> None:
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 2
    told = capsys.readouterr().err
    assert says in " ".join(told.split()) and told.count("\n") == 1, told


def test_samples_of_five_evaluations_are_those_of_the_exact_flow(run: Path, tmp_path: Path) -> None:
    assert main(["sample", str(run), "--nfe", "5", "-n", "200", "-o", str(tmp_path / "few.csv")]) == 0
    few = torch.from_numpy(np.loadtxt(tmp_path / "few.csv", delimiter=",", skiprows=1))
    opened = open_run(run)
    exact = draw(opened, 200, solver=Tsit5())[0]
    # the same starts; the scale of the data is about 1
    assert float((few - exact).square().mean().sqrt()) < 3e-3
    assert torch.allclose(few, draw(opened, 200, solver=tuned(opened, 5))[0].double(), atol=1e-5)


def test_more_budgets_are_kept_beside_each_other(run: Path) -> None:
    before = (run / "sampler.json").read_text()
    assert main(["tune", str(run), "--nfe", "2"]) == 0
    opened, told = open_run(run), json.loads((run / "sampler.json").read_text())
    assert list(told["samplers"]) == ["5", "2"]
    assert told["samplers"]["5"] == json.loads(before)["samplers"]["5"]
    (run / "sampler.json").write_text(before)
    assert tuned(opened, 5).solves is not None


def test_the_report_shows_the_tuned_sampler(run: Path) -> None:
    assert main(["report", str(run), "--samples", "50"]) == 0
    few = json.loads((run / "report.json").read_text())["evaluations"]["few"]
    assert [point["nfe"] for point in few if point["solver"] == "tuned"] == [5.0]
    page = (run / "report.html").read_text()
    assert '<th scope="row">tuned</th>' in page and "5 evaluations" in page


def test_what_has_not_been_tuned_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = ["-o", tmp_path / "a.csv"]
    refused(
        capsys, "sample", run, "--nfe", 7, *out, says="has no sampler of 7 evaluations; run pushforward tune"
    )
    refused(
        capsys,
        "sample",
        run,
        "--nfe",
        5,
        "--solver",
        "euler",
        *out,
        says="leave out --solver and --diffusion",
    )
    refused(capsys, "sample", run, "--nfe", 0, *out, says="--nfe: expected at least 1, got 0")
    refused(capsys, "tune", run, "--nfe", 10**6, says="--nfe: expected at most 1,000")
    assert not (tmp_path / "a.csv").exists()


def test_other_weights_need_another_sampler(run: Path) -> None:
    opened = open_run(run)
    with torch.no_grad():
        next(opened.flow.parameters()).add_(1e-3)
    with pytest.raises(ValueError, match=r"was fitted to other weights of .*; run pushforward tune"):
        tuned(opened, 5)
    with pytest.raises(ValueError, match="was fitted to --guidance 1, got --guidance 2"):
        tuned(open_run(run), 5, 2.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"solver": "my_module:Evil"}, "expected the name of a solver of the library, got 'my_module:Evil'"),
        ({"steps": 10**9}, "steps: expected at most 5, got 1000000000"),
        ({"grid": [0.0, 0.9, 0.5, 1.0]}, "grid: expected increasing fractions from 0 to 1"),
        ({"weights": [1.0]}, "weights: expected 15 numbers for 5 steps, got 1"),
        ({"weights": "x"}, "weights: expected a list"),
        ({"weights": [1e308] * 15}, "weights: expected a finite number between -1e+12 and 1e+12, got 1e+308"),
        ({"steps": -1}, "steps: expected a whole number of at least 0, got -1"),
        ({"other": 1}, "unexpected keyword argument 'other'"),
        ({"solver": "dopri5"}, "unexpected keyword argument"),
    ],
    ids=str,
)
def test_a_damaged_file_is_one_line_and_runs_nothing(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    file = run / "sampler.json"
    before = file.read_text()
    told = json.loads(before)
    told["samplers"]["5"] |= change
    refused_edit = json.dumps(told)
    del told["sum"]
    try:
        file.write_text(refused_edit)
        refused(capsys, "sample", run, "--nfe", 5, "-o", tmp_path / "a.csv", says="sampler.json")
        file.write_text(json.dumps(told))
        refused(capsys, "sample", run, "--nfe", 5, "-o", tmp_path / "a.csv", says=says)
    finally:
        file.write_text(before)


def test_a_flow_without_a_velocity_field_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pushforward.train("moons", tmp_path / "nsf", method="nsf", rows=200, steps=3, show_progress=False)
    says = "samplers of few evaluations follow a velocity field, got a BijectiveFlow"
    refused(capsys, "tune", tmp_path / "nsf", says=f"nsf: {says}")
    out = tmp_path / "x.csv"
    refused(capsys, "sample", tmp_path / "nsf", "--nfe", 4, "-o", out, says=f"--nfe 4: {says}")
