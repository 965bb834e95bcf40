"""Runs of flow maps: any number of steps, the flow of their velocity, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pushforward.cli.entry import main
from pushforward.flows import FlowMapFlow
from pushforward.inference import density_name, draw, score
from pushforward.random import seeded
from pushforward.recipes import Run, open_run
from pushforward.recipes.samplers import few_steps
from pushforward.solvers import Euler, Tsit5

TINY = ["--network", "mlp,width=16,depth=2", "--rows", "200", "--no-report", "--folds", "0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow map of few steps of training, whose steps therefore differ much from its velocity."""
    out = tmp_path_factory.mktemp("map") / "run"
    quick = [*TINY, "--steps", "40", "--source", "normal"]
    assert main(["train", "moons", "--method", "flow-map", *quick, "--out", str(out)]) == 0
    return out


def map_of(run: Run) -> FlowMapFlow:
    core = run.flow.core
    assert isinstance(core, FlowMapFlow)
    return core


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any, says: str) -> None:
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 2
    told = capsys.readouterr().err
    assert says in " ".join(told.split()) and told.count("\n") == 1, told


@pytest.mark.parametrize("nfe", [1, 3])
def test_evaluations_are_steps_of_the_map(run: Path, nfe: int) -> None:
    opened = open_run(run)
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    core = map_of(opened)
    assert isinstance(core.field, nn.Module)
    handle = core.field.register_forward_hook(count)
    few = draw(opened, 20, nfe=nfe)[0]
    handle.remove()
    assert calls == nfe
    by_hand = opened.flow.replace(flow=FlowMapFlow(core.field, core.source, nfe))
    assert torch.equal(few, by_hand.sample(64, None, seeded(0, "sample", 0))[:20])


def test_a_solver_follows_the_velocity_of_the_map(run: Path) -> None:
    opened = open_run(run)
    core = map_of(opened)
    x0 = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    solved = Tsit5(rtol=1e-6, atol=1e-6).solve(lambda t, x: core.field(t, t, x, None), x0, 0.0, 1.0).x
    followed = map_of(opened).following(Tsit5(rtol=1e-6, atol=1e-6))
    torch.testing.assert_close(followed.push(x0), solved)
    assert not torch.allclose(core.push(x0), solved, atol=1e-2)
    assert torch.equal(draw(opened, 20, solver="euler,steps=5")[0], draw(opened, 20, solver=Euler(5))[0])


def test_a_solver_gives_the_density_of_the_velocity(run: Path) -> None:
    opened = open_run(run)
    rows = opened.dataset.test
    name, values = score(opened, rows, solver="dopri5,rtol=1e-6,atol=1e-6")
    flow = map_of(opened).continuous()
    y, log_det = opened.flow.bijection.inverse_and_log_det(rows.x.to(opened.flow.dtype))
    expected = flow.log_prob(y.float()).double() + log_det
    assert name == density_name(opened, solver="dopri5") == "log_prob"
    torch.testing.assert_close(torch.tensor(values).double(), expected.double(), atol=1e-3, rtol=0)


def test_scores_and_noise_are_those_of_the_velocity(run: Path) -> None:
    core = map_of(open_run(run))
    x = torch.randn(5, 2)
    assert torch.equal(core.score(0.4, x), core.continuous().score(0.4, x))
    assert torch.equal(core.data(0.4, x), core.continuous().data(0.4, x))
    assert core.stochastic().sample(3).shape == (3, 2)


def test_what_a_map_cannot_do_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = ["-o", tmp_path / "a.csv"]
    refused(capsys, "sample", run, "--nfe", 0, *out, says="--nfe: expected at least 1, got 0")
    with pytest.raises(ValueError, match="--nfe: expected at least 1, got 0"):
        few_steps(open_run(run), 0)
    refused(capsys, "sample", run, "--nfe", 2, "--solver", "euler", *out, says="leave out --solver")
    refused(capsys, "push", run, "moons", "--back", *out, says="runs one way")
    refused(capsys, "push", run, "moons", "--back", *out, says="train it with two_sided=True (--two-sided)")
    refused(
        capsys,
        "score",
        run,
        "moons",
        *out,
        says="has no density of its own: train a head for its log-determinants (--head)",
    )
    refused(capsys, "score", run, "moons", *out, says="(--solver dopri5)")
    refused(capsys, "score", run, "moons", "--nfe", 2, *out, says="has no density of its own: train a head")
    refused(capsys, "score", run, "moons", "--nfe", 0, *out, says="--nfe: expected at least 1, got 0")
    refused(capsys, "tune", run, says="takes steps of its own; sample --nfe needs nothing else")
    assert not (tmp_path / "a.csv").exists()


def test_a_two_sided_map_runs_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "both"
    quick = [*TINY, "--steps", "5", "--two-sided"]
    assert main(["train", "moons", "--method", "flow-map", *quick, "--out", str(out)]) == 0
    back = ["push", str(out), "moons", "--back", "-o", str(tmp_path / "back.csv")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(back) == 0
    assert len((tmp_path / "back.csv").read_text().splitlines()) > 200


def test_a_map_to_the_data_alone_takes_any_number_of_steps_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "to-data", tmp_path / "again"
    quick = [*TINY, "--steps", "4", "--source", "normal"]
    assert main(["train", "moons", "--method", "consistency", *quick, "--out", str(out)]) == 0
    found = open_run(out)
    assert getattr(few_steps(found, 3).core, "steps") == 3  # noqa: B009
    assert draw(found, 5, nfe=3)[0].shape == (5, 2)
    assert main(["train", "moons", *quick, "--out", str(tmp_path / "fm")]) == 0
    few = ["score", tmp_path / "fm", "moons", "--nfe", 2, "-o", tmp_path / "a.csv"]
    refused(capsys, *few, says="--nfe 2: densities in a few evaluations are those of a flow map with --head")
    distil = ["distil", str(tmp_path / "fm"), "--method", "consistency", "--steps", "2", "--no-report"]
    assert main([*distil, "--out", str(again)]) == 0
    assert draw(open_run(again), 5, nfe=1)[0].shape == (5, 2)
