"""Runs of older versions, which lack the settings that were added since, can be opened and continued."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

import pushforward
from pushforward.config import LATER, ModelConfig
from pushforward.flows import ContinuousFlow
from pushforward.nn import MLP
from pushforward.runs import RunFolder
from pushforward.solvers import DDIM, Dopri5
from pushforward.sources import Normal

#: Settings of a model in the first version of the run folder.
FIRST = {
    *(
        "method",
        "flow",
        "base",
        "network",
        "coupling",
        "plan",
        "reuse",
        "path",
        "gamma",
        "times",
        "weighting",
    ),
    *("prediction", "reflow", "distil", "teacher", "pairs", "solver", "guidance", "drop_condition"),
}


def test_every_setting_is_of_the_first_version_or_known_as_later():
    # a setting that is neither would make every older checkpoint one of another run
    assert {f.name for f in fields(ModelConfig)} == FIRST | set(LATER)


def test_a_checkpoint_of_an_older_version_is_of_the_same_run(tmp_path, monkeypatch):
    # the identity as version 1 wrote it, from settings without the later ones
    monkeypatch.setattr(RunFolder, "data", lambda self: {"fingerprint": {"a": 1}})
    identity = RunFolder(tmp_path).identity(3, ModelConfig(method="vp", network="mlp"), "train")
    assert identity == "bed4908bf60152b41c89f72d"


@pytest.mark.parametrize("name, value", [("around", "normal"), ("kinetic", 0.1), ("gradient", "adjoint")])
def test_a_later_setting_that_is_told_makes_another_run(tmp_path, monkeypatch, name, value):
    monkeypatch.setattr(RunFolder, "data", lambda self: {"fingerprint": {"a": 1}})
    place = RunFolder(tmp_path)
    assert place.identity(0, ModelConfig(), "train") != place.identity(
        0, ModelConfig(**{name: value}), "train"
    )


def test_a_flow_of_an_older_file_has_what_came_later(tmp_path):
    flow = ContinuousFlow(MLP(2, width=8), Dopri5(), Normal(2))
    for part, names in (
        (flow, ("path", "divergence")),
        (flow.solver, ("norm", "min_step", "max_step", "jumps")),
    ):
        for name in names:
            del vars(part)[name]
    pushforward.save(flow, tmp_path / "flow.safetensors")
    loaded = pushforward.load(tmp_path / "flow.safetensors")
    x = torch.zeros(2, 2)
    assert torch.equal(loaded.log_prob(x), loaded.replace(solver=Dopri5()).log_prob(x))
    assert loaded.following(DDIM(steps=2)).sample(3).shape == (3, 2)
    with pytest.raises(ValueError, match="it has no path"):
        loaded.score(0.5, x)
