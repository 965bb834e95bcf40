"""A network and an objective that are given in Python, as they are, in a run with a folder."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

import pushforward
from pushforward.cli import main
from pushforward.objectives import Batch, FlowMatching, Loss, Objective, Step
from pushforward.recipes import Run, open_run
from pushforward.training import trainer

SETTINGS = {"rows": 200, "steps": 20, "checkpoint_every": 5, "folds": 0, "show_progress": False}
SETTINGS |= {"source": "normal", "times": "uniform"}


class Mine(nn.Module):
    """A field of three lines."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, t: Tensor, x: Tensor, condition: object = None) -> Tensor:
        return self.net(torch.cat([x, t.reshape(-1, 1).expand(len(x), 1)], 1))


class Doubled(Objective):
    """Twice the loss of flow matching."""

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        loss = FlowMatching().loss(models, batch, step)
        return Loss(2 * loss.value, loss.errors, loss.t)


def network(seed: int = 0, width: int = 8) -> Mine:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Mine(width)


def losses(run: Run) -> list[float]:
    return [row["loss"] for row in run.history if "loss" in row]


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    """From the checkpoint: the weights of the network that is given to resume do not count."""

    def train(out, seed):
        given = {"network": network(seed), "objective": Doubled()}
        return pushforward.train("moons", tmp_path / out, log_every=1, **given, **SETTINGS)

    whole = train("whole", 0)
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_stop", lambda self, interrupt: self._place >= 12)
        assert not train("cut", 0).summary["finished"]
    again = train("cut", 7)
    assert again.summary["finished"] and losses(again) == losses(whole)
    for a, b in zip(again.flow.parameters(), whole.flow.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_network_and_the_objective_that_are_given_are_those_that_train(tmp_path):
    """The first loss is that of the network as given, and twice that of flow matching."""
    mine = network()
    before = [p.clone() for p in mine.parameters()]
    runs = [
        pushforward.train("moons", log_every=1, network=mine, objective=objective, **SETTINGS)
        for objective in (Doubled(), None)
    ]
    assert losses(runs[0])[0] == pytest.approx(2 * losses(runs[1])[0], rel=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, mine.parameters(), strict=True))
    assert sum(p.numel() for p in runs[0].flow.parameters()) == sum(p.numel() for p in before)


def test_a_run_folder_names_them_and_is_opened_with_one_like_it(tmp_path, capsys):
    out = tmp_path / "run"
    run = pushforward.train("moons", out, network=network(), objective=Doubled(), **SETTINGS)
    config = json.loads((out / "config.json").read_text())
    assert (config["model"]["network"], config["objective"]) == ("<Mine>", "<Doubled>")
    opened = open_run(out, network=network(5))
    x0 = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(opened.flow.push(x0), run.flow.push(x0))
    assert torch.equal(pushforward.load(out, network=network(5)).push(x0), run.flow.push(x0))
    from pushforward.report import build
    from pushforward.report.remedy import train_command

    assert build(opened, samples=100).exists()
    # no command stands for such a run
    assert train_command(opened, {"steps": "9"}, tmp_path / "other") == "--steps 9"
    for given, says in [
        (
            {},
            r"model.network: <Mine> was given in Python; open the run by load\(RUN, network=...\)",
        ),
        ({"network": nn.Linear(2, 2)}, "network: expected <Mine> as .* says, got <Linear>"),
        ({"network": network(0, 5)}, r"ema.safetensors: .* expected shape \(5,\), got \(8,\)"),
    ]:
        with pytest.raises(ValueError, match=says):
            pushforward.load(out, **given)
    for given, says in [
        ({"network": network()}, "objective was '<Doubled>' and is now None"),
        ({"objective": Doubled()}, "model.network was '<Mine>' and is now"),
    ]:
        with pytest.raises(ValueError, match=says):
            pushforward.train("moons", out, **given, **SETTINGS)
    capsys.readouterr()
    assert main(["sample", str(out), "-n", "3"]) == 2
    assert "<Mine> was given in Python" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"objective": nn.MSELoss()}, "objective: expected an Objective, got a MSELoss"),
        ({"network": network(), "method": "maf"}, "network: method maf trains a flow"),
        ({"network": "<Mine>"}, "network: <Mine> was given in Python"),
        ({"network": network(), "source": "baseline"}, "source baseline: .* a method start_at_zero"),
    ],
)
def test_what_cannot_be_given(given, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        pushforward.train("moons", tmp_path / "run", **{**SETTINGS, **given})
    assert not (tmp_path / "run").exists()
