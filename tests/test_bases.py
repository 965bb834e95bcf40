"""Distributions that normalizing flows start from, chosen on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import stats

import pushforward
from pushforward import registry
from pushforward.cli import main
from pushforward.config import DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.flows import BijectiveFlow

QUICK = ["--patience", "0", "--steps", "20", "--batch", "64", "--rows", "300", "--no-report"]
FLOW = "realnvp,layers=2,width=16"


def inner(out: Path) -> BijectiveFlow:
    flow = pushforward.load(out).flow
    assert isinstance(flow, BijectiveFlow)
    return flow


@pytest.mark.parametrize("base", ["normal,scale=2", "student-t,df=3", "mixture,components=3"])
def test_a_base_is_trained_stored_and_loaded(base: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["train", "moons", "--method", "realnvp", "--flow", FLOW, "--base", base, "--out", str(out)]
    assert main([*command, *QUICK]) == 0
    flow = inner(out)
    # another flow of the same kind with the numbers of the file, and nothing else
    weights = load_file(out / "ema.safetensors")
    torch.manual_seed(7)
    other = registry.create("flow", FLOW, (2,), source=registry.create("base", base, (2,)))
    fresh = {name: value.clone() for name, value in other.source.named_parameters()}
    other.load_state_dict({name.removeprefix("flow."): value for name, value in weights.items()})
    x = flow.sample(50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(flow.log_prob(x), other.log_prob(x))
    assert type(flow.source) is type(other.source)
    learnt = dict(other.source.named_parameters())
    assert all(not torch.equal(learnt[name], value) for name, value in fresh.items())
    # optimiser and average of the base are there when a run goes on
    assert main([*command, *QUICK, "--steps", "25"]) == 0


def test_bases_of_images_have_the_shape_that_the_flow_draws_from(tmp_path: Path) -> None:
    options = ["--method", "tarflow", "--flow", "tarflow,blocks=2,layers=1,width=16,heads=2"]
    options += ["--base", "student-t", "--steps", "5", "--batch", "64", "--no-report"]
    assert main(["train", "digits", "--out", str(tmp_path / "run"), *options]) == 0
    flow = inner(tmp_path / "run")
    assert flow.source.event_shape == (4, 4, 4) and flow.sample(2).shape == (2, 1, 8, 8)


def test_double_precision_reaches_a_base_of_parameters_alone(tmp_path: Path) -> None:
    options = ["--method", "realnvp", "--flow", FLOW, "--base", "mixture", "--precision", "64-true"]
    assert main(["train", "moons", "--out", str(tmp_path / "run"), *options, *QUICK]) == 0
    assert pushforward.load(tmp_path / "run").model_dtype == torch.float64


@pytest.mark.thorough
def test_heavy_tails_are_better_fitted_from_student_t(tmp_path: Path) -> None:
    """Two columns of t with 5 degrees of freedom, 2,000 rows to train on; scored on 20,000 others.

    With fewer than 5 the log-density of a normal distribution, a square, has no variance to tell errors from.
    """
    x = stats.t.rvs(5, size=(2000, 2), random_state=0)
    new = stats.t.rvs(5, size=(20_000, 2), random_state=1)
    truth = stats.t.logpdf(new, 5).sum(1)
    scores = {}
    for base in ("normal", "student-t"):
        config = RunConfig(
            target="table",
            data=DataConfig(holdout=0.1),
            model=ModelConfig(method="realnvp", flow=FLOW, base=base),
            optim=OptimConfig(steps=400, batch=256, lr=5e-3),
        )
        run = pushforward.train(config, tmp_path / base, target=x, show_progress=False)
        scores[base] = run.flow.log_prob(torch.from_numpy(new)).numpy()
    gain = scores["student-t"] - scores["normal"]
    # four standard errors of the paired difference
    assert gain.mean() > 4 * gain.std() / len(gain) ** 0.5 > 0
    # and the flow from student-t, which can hold the truth, is at most half as far from it
    assert np.mean(truth - scores["student-t"]) < 0.5 * np.mean(truth - scores["normal"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--method", "ot-cfm", "--base", "student-t"], "--base student-t: is for normalizing flows"),
        (["--method", "vae", "--base", "normal"], "--base normal: is for flows that are bijections, got vae"),
        (["--method", "nsf", "--base", "studnet"], "did you mean 'student-t'"),
        (["--method", "nsf", "--base", "student-t,fd=3"], "unknown option 'fd'"),
        (["--method", "nsf", "--base", "mixture,components=0"], "components: expected an integer"),
    ],
)
def test_bases_that_do_not_fit_are_refused(flags: list[str], says: str, tmp_path: Path, capsys) -> None:
    assert main(["train", "moons", "--out", str(tmp_path / "run"), *flags, *QUICK]) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1 and says in err, err
    assert not (tmp_path / "run").exists()
