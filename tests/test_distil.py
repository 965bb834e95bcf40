"""``pushforward distil``: flow maps that learn from any run with a velocity."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pushforward import ContinuousFlow, GaussianMixture, GaussianMixtureOracle, Interpolant, Normal
from pushforward.cli.entry import main
from pushforward.flows import BijectiveFlow
from pushforward.paths import Trigonometric, VarianceExploding, VariancePreserving
from pushforward.recipes import distil, open_run
from pushforward.recipes.teachers import teach

DOUBLE = torch.float64
TINY = ["--network", "mlp,width=16,depth=2", "--steps", "6", "--folds", "0", "--no-report"]
MOONS = ["moons", "--rows", "200", "--source", "normal", *TINY]
#: Of a teacher's run, in a distillation of few steps.
QUICK = ["--steps", "3", "--no-report"]


def run(*arguments: Any) -> None:
    assert main(list(map(str, arguments))) == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any, says: str) -> None:
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 2
    told = capsys.readouterr().err
    assert says in " ".join(told.split()) and told.count("\n") == 1, told


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A velocity field that has hardly been trained, with a share of rows held out that is no default."""
    out = tmp_path_factory.mktemp("teacher") / "fm"
    run("train", *MOONS, "--holdout", "0.3", "--coupling", "ot", "--seed", "3", "--out", out)
    return out


# -- what a teacher teaches --------------------------------------------------------------------------------


MIXTURE = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 1.0]], dtype=DOUBLE), 0.5)


@pytest.mark.parametrize(
    "schedule",
    [VariancePreserving(), VarianceExploding(sigma_max=10.0), Trigonometric()],
    ids=lambda schedule: type(schedule).__name__,
)
def test_the_velocity_of_another_path_becomes_that_of_the_path_of_the_map(schedule: Any) -> None:
    path = Interpolant(schedule)
    oracle = GaussianMixtureOracle(MIXTURE, path)
    wide = Normal(2).double()
    taught = teach(ContinuousFlow(oracle, source=wide, path=path), Interpolant())
    x, exact = 2 * torch.randn(40, 2, dtype=DOUBLE), GaussianMixtureOracle(MIXTURE, Interpolant())
    for t in (0.15, 0.5, 0.9):  # where all these paths have known the ratio of signal and noise
        time = torch.tensor(t, dtype=DOUBLE)
        torch.testing.assert_close(taught.velocity(time, x), exact(time, x), atol=1e-8, rtol=0)
    assert isinstance(taught.source, Normal) and taught.source.sample(1).dtype == DOUBLE


def test_a_teacher_along_the_same_path_is_as_it_is() -> None:
    flow = ContinuousFlow(lambda t, x: x, source=Normal(2), path=Interpolant())
    assert teach(flow, Interpolant()).velocity is not None
    assert teach(flow, Interpolant()).source is flow.source
    apart = flow.replace(interval=(0.01, 0.9))
    x = torch.ones(1, 2)
    timed = ContinuousFlow(lambda t, x: t * x, source=Normal(2), interval=(0.01, 0.9))
    found = [float(teach(timed, Interpolant()).velocity(torch.tensor(t), x)[0, 0]) for t in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([0.01, 0.5, 0.9]) and teach(apart, Interpolant()).source is apart.source


def test_guidance_is_part_of_what_is_taught() -> None:
    def field(t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
        shift = 0.0 if condition is None else condition.clamp(min=0).to(x)[:, None]
        return x + shift

    flow = ContinuousFlow(field, source=Normal(2), path=Interpolant(), condition_shape=())
    flow = flow.replace(knows_absent=True)
    x, label = torch.randn(3, 2), torch.tensor([0, 1, 2])
    taught = teach(flow, Interpolant(), 3.0).velocity(torch.tensor(0.5), x, label)
    torch.testing.assert_close(taught, 3 * field(torch.tensor(0.5), x, label) - 2 * x)
    with pytest.raises(ValueError, match="--drop-condition"):
        teach(flow.replace(knows_absent=False), Interpolant(), 3.0)


# -- the command -------------------------------------------------------------------------------------------


def test_a_map_begins_with_the_data_the_settings_and_the_weights_of_its_teacher(
    teacher: Path, tmp_path: Path
) -> None:
    out = tmp_path / "map"
    run("distil", teacher, "--steps", "1", "--lr", "1e-30", "--ema", "0", "--no-report", "--out", out)
    theirs, mine = open_run(teacher), open_run(out)
    assert mine.config.model.method == "flow-map" and mine.config.model.teacher == str(teacher)
    for name in ("coupling", "path", "network"):
        assert getattr(mine.config.model, name) == getattr(theirs.config.model, name)
    assert mine.config.data.holdout == 0.3 and mine.config.seed == 3
    assert torch.equal(mine.dataset.test.x, theirs.dataset.test.x)
    t, x = torch.rand(9), torch.randn(9, 2)
    # averages of moving weights begin with the first weights, and a rate of nothing keeps these
    torch.testing.assert_close(
        mine.flow.core.velocity(t, x), theirs.flow.core.velocity(t, x), atol=1e-5, rtol=0
    )
    assert "teacher_digest" in json.loads((out / "data.json").read_text())


def test_flags_that_are_given_count_also_where_they_are_defaults_of_train(
    teacher: Path, tmp_path: Path
) -> None:
    flags = ["--method", "meanflow", "--holdout", "0.2", "--coupling", "independent", "--seed", "4"]
    run("distil", teacher, *QUICK, *flags, "--out", tmp_path / "map")
    config = open_run(tmp_path / "map").config
    assert (config.data.holdout, config.seed) == (0.2, 4)
    assert (config.model.coupling, config.model.loss) == ("independent", "mean-flow")


def test_the_same_command_goes_on_and_another_teacher_is_refused(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, out = tmp_path / "fm", tmp_path / "map"
    shutil.copytree(teacher, copy)
    command = ["distil", copy, *QUICK, "--out", out]
    run(*command)
    more = ["distil", copy, "--steps", "5", "--no-report", "--out", out]
    run(*more)
    assert open_run(out).summary["step"] == 5
    run(
        "train",
        *MOONS,
        "--holdout",
        "0.3",
        "--coupling",
        "ot",
        "--seed",
        "3",
        "--overwrite",
        "--lr",
        1,
        "--out",
        copy,
    )
    refused(
        capsys, "distil", copy, "--steps", "7", "--no-report", "--out", out, says="the teacher is another one"
    )


def test_a_diffusion_teaches_a_map_along_the_linear_path(tmp_path: Path) -> None:
    run("train", *MOONS, "--method", "edm", "--out", tmp_path / "edm")
    run("distil", tmp_path / "edm", *QUICK, "--out", tmp_path / "map")
    found = open_run(tmp_path / "map")
    assert found.config.model.path == "linear" and isinstance(found.flow.source, Normal)
    again = tmp_path / "again"
    run("distil", tmp_path / "map", *QUICK, "--method", "alpha-flow", "--out", again)
    assert open_run(again).flow.sample(3).shape == (3, 2)


def test_teachers_that_teach_nothing_are_refused(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--no-report", "--out", tmp_path / "map"]
    normalizing = ["--method", "nice", "--flow", "nice,layers=2,width=8"]
    run(
        "train",
        "moons",
        "--rows",
        "200",
        *normalizing,
        "--steps",
        "2",
        "--folds",
        "0",
        "--no-report",
        "--out",
        tmp_path / "nf",
    )
    assert isinstance(open_run(tmp_path / "nf").flow.core, BijectiveFlow)
    refused(
        capsys,
        "distil",
        tmp_path / "nf",
        *out,
        says="a BijectiveFlow has no velocity field, which a teacher needs",
    )
    refused(
        capsys,
        "train",
        *MOONS,
        "--method",
        "flow-map",
        "--teacher",
        tmp_path / "nf",
        "--out",
        tmp_path / "map",
        says="has no velocity field",
    )
    refused(capsys, "distil", teacher, "--method", "nsf", *out, says="--method nsf: learns from no teacher")
    refused(capsys, "distil", teacher, "--exclude", "x2", *out, says="with rows of shape (2,); expected (1,)")
    refused(capsys, "distil", teacher, "--condition", "x2", *out, says="rows of shape (2,)")
    refused(capsys, "distil", teacher, "--guidance", "2", *out, says="guidance needs a condition")
    refused(capsys, "distil", tmp_path / "none", *out, says="none")
    assert not (tmp_path / "map").exists()


def test_a_teacher_that_is_damaged_or_has_not_ended_is_refused(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--no-report", "--out", tmp_path / "map"]
    copy = tmp_path / "fm"
    shutil.copytree(teacher, copy)
    told = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**told, "ended": None}))
    refused(capsys, "distil", copy, *out, says="is not finished; the same command continues it")
    (copy / "run.json").write_text(json.dumps(told))
    weights = copy / "ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    refused(capsys, "distil", copy, *out, says="ema.safetensors")
    assert not (tmp_path / "map").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_map_does_not_take_the_place_of_its_teacher(tmp_path: Path, overwrite: bool) -> None:
    with pytest.raises(ValueError, match=r"--out .*: is the folder of the teacher; take another one"):
        distil(tmp_path, tmp_path / ".", overwrite=overwrite)
