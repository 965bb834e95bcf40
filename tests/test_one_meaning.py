"""A method means one thing: by the command, by a configuration, by keywords."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pushforward
from effort import among
from pushforward.cli import main
from pushforward.config import ModelConfig, OptimConfig, RunConfig
from pushforward.entries import METHODS
from pushforward.recipes import by_method, check, label, recipe_of
from pushforward.recipes.base import family

IMAGES = {"glow": "glow,levels=1,steps=1,width=8", "tarflow": "tarflow,blocks=2,layers=1,width=16,heads=2"}
SMALL = {"steps": 2, "batch": 32, "pairs": 64, "plan": 32, "reuse": 2, "folds": 2}


def settings_of(method: str) -> tuple[str, dict[str, Any]]:
    if method in IMAGES:
        return "digits", {"steps": 2, "batch": 32, "flow": IMAGES[method]}
    if family(method).takes_tokens:
        return "digits", {"steps": 2, "batch": 32, "network": "transformer,width=8,depth=1"}
    # a recipe of stages without folds says so
    folds = 0 if method == "jko-iflow" else SMALL["folds"]
    return "moons", {**SMALL, "rows": 120, "folds": folds}


def flags(settings: dict[str, Any]) -> list[str]:
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


@pytest.mark.parametrize("method", among(METHODS, ["fm", "c2ot", "sf2m", "nsf", "glow"]))
def test_three_forms_give_one_configuration_and_one_flow(method, tmp_path):
    data, settings = settings_of(method)
    assert (
        main(
            ["train", data, "--method", method, *flags(settings), "--out", str(tmp_path / "a"), "--no-report"]
        )
        == 0
    )
    model = {k: v for k, v in settings.items() if k in {f.name for f in dataclasses.fields(ModelConfig)}}
    optim = {k: v for k, v in settings.items() if k in {f.name for f in dataclasses.fields(OptimConfig)}}
    config = RunConfig.of(data, **({"rows": settings["rows"]} if "rows" in settings else {}))
    config = dataclasses.replace(
        config, model=ModelConfig(method=method, **model), optim=OptimConfig(**optim)
    )
    pushforward.train(config, tmp_path / "b", show_progress=False)
    run = pushforward.train(data, tmp_path / "c", method=method, show_progress=False, **settings)
    texts = [(tmp_path / name / "config.json").read_text() for name in "abc"]
    assert texts[0] == texts[1] == texts[2]
    states = [pushforward.load(tmp_path / name).state_dict() for name in "abc"]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]) and torch.equal(value, states[2][name]), name
    # nothing is left open, and the parts are those that the method stands for
    resolved = json.loads(texts[0])
    for name, value in METHODS[method].defaults.items():
        assert str(resolved["model"][name]).startswith(str(value)), name
    assert label(run.config) == method


@pytest.mark.parametrize(("method", "ignored"), [("nsf", "network"), ("cnf", "times late,power=2")])
def test_a_whole_configuration_is_taken_with_what_its_method_ignores(method, ignored):
    run = pushforward.train("moons", method=method, rows=120, steps=2, show_progress=False)
    assert check(run.config).model == run.config.model
    for part, name in [("model", "pairs"), ("model", "reuse"), ("optim", "lr"), ("optim", "patience")]:
        open_one = dataclasses.replace(getattr(run.config, part), **{name: None})
        with pytest.raises(ValueError, match=f"--{ignored}.* does not go with --method {method}"):
            check(dataclasses.replace(run.config, **{part: open_one}))


def test_a_method_from_python_is_not_plain_flow_matching():
    config = by_method(RunConfig(target="moons", model=ModelConfig(method="ot-cfm", network="mlp")))
    assert type(recipe_of(config).coupling).__name__ == "MinibatchOT"
    assert by_method(RunConfig.of("moons", method="vp")).model.prediction == "noise"
    recipe: Any = recipe_of(by_method(RunConfig.of("moons", method="i-cfm")))
    assert recipe.path.gamma.value == 0.1
    assert by_method(RunConfig.of("moons", method="rectified-flow")).model.reflow == 1


def test_what_is_asked_for_is_kept_and_the_name_says_so():
    asked = by_method(RunConfig.of("moons", method="ot-cfm", coupling="independent"))
    assert asked.model.coupling == "independent" and label(asked) == "fm"
    assert label(by_method(RunConfig.of("moons", method="fm", coupling="ot"))) == "ot-cfm"
    assert label(by_method(RunConfig.of("moons", method="vp", coupling="ot"))) == (
        "flow-matching (coupling ot, path vp, prediction noise)"
    )


def test_the_default_method_is_one_everywhere():
    assert RunConfig(target="moons").model.method == pushforward.FlowDensity().method
    assert pushforward.FlowOutlierDetector().method == pushforward.FlowDensity().method


@pytest.mark.parametrize(
    "data",
    [
        np.random.default_rng(0).normal(size=(60, 2)),
        torch.randn(60, 2, generator=torch.Generator().manual_seed(0)),
        (np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 3),
    ],
    ids=["array", "tensor", "pair"],
)
def test_data_in_memory_need_no_folder(data):
    run = pushforward.train(data, method="maf", steps=5, show_progress=False)
    assert run.flow.sample(3, torch.tensor(0) if isinstance(data, tuple) else None).shape == (3, 2)
    assert run.path.exists() and run.summary["finished"]
    again = pushforward.train(data, method="maf", steps=5, show_progress=False)
    assert again.path != run.path


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pushforward.train("moons", methd="fm"), "did you mean 'method'"),
        (lambda: pushforward.train("moons", method="otcfm"), "did you mean 'ot-cfm'"),
        (lambda: pushforward.train(RunConfig(target="moons"), steps=3), "steps: a configuration holds all"),
        (lambda: pushforward.train(np.zeros((9, 2)), target=np.zeros((9, 2))), "target: goes with"),
        (lambda: pushforward.train("moons", folds=3, validation=0.1), "expected one of them"),
        (lambda: pushforward.train("moons", folds=1), "at least 2"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


X, LABELS = np.random.default_rng(0).normal(size=(80, 2)), np.arange(80) % 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        ({"steps": 2.5}, "steps: expected a whole number, got 2.5"),
        ({"seed": "a"}, "seed: expected a whole number, got 'a'"),
        ({"lr": "fast"}, "lr: expected a number in (0, 10], got 'fast'"),
        ({"lr": float("inf")}, "lr: expected a number in (0, 10], got inf"),
        ({"weight_decay": -1}, "weight_decay: expected a number in [0, 1000], got -1"),
        ({"guidance": float("nan")}, "guidance: expected a number in [-1000, 1000], got nan"),
        ({"network": "mlp,widht=3"}, "network 'mlp,widht=3': unknown option 'widht'; did you mean 'width'?"),
        ({"flow": "nsf"}, "flow nsf: goes with the methods"),
        ({"source": "8gaussian"}, "source: no data set '8gaussian'"),
        ({"source": "8gaussians", "method": "vp"}, "source 8gaussians: path vp with prediction noise"),
        ({"target": (X, LABELS[:-1]), "data": None}, "target (x, y): expected equal lengths, got 80 and 79"),
        ({"data": (X, LABELS[:-1])}, "data (x, y): expected equal lengths, got 80 and 79"),
        ({"data": np.where(X > 2, np.nan, X)}, "data (array): "),
        ({"data": None}, "data: expected a name, a path, rows, or a pair of rows and conditions, got None"),
        ({"data": X, "condition": "kind"}, "data (array): condition: no column 'kind'"),
    ],
)
def test_errors_name_the_argument_as_python_has_it(settings, message, tmp_path):
    settings = {"data": "moons", **settings}
    with pytest.raises(ValueError) as caught:
        pushforward.train(out=tmp_path / "run", **settings)
    assert str(caught.value).startswith(message), caught.value
    assert "--" not in str(caught.value) and not (tmp_path / "run").exists()


def test_errors_name_the_flag_on_the_command_line(tmp_path, capsys):
    assert main(["train", "moons", "--weight-decay", "-1", "--out", str(tmp_path / "run")]) == 2
    assert "--weight-decay: expected a number in [0, 1000], got -1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "data",
    [
        (X, LABELS),
        (X.tolist(), LABELS.tolist()),
        (pd.DataFrame(X), pd.Series(LABELS, name="y")),
        (X, {"y": LABELS}),
        (torch.tensor(X), torch.tensor(LABELS)),
    ],
    ids=["arrays", "lists", "pandas", "mapping", "tensors"],
)
def test_rows_with_a_condition_in_every_form_give_one_flow(data, tmp_path):
    settings = {"method": "maf", "steps": 3, "folds": 0, "show_progress": False}
    expected = pushforward.train((X, LABELS), **settings).flow.state_dict()
    found = pushforward.train(target=data, **settings).flow
    assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())
    assert found.sample(2, torch.tensor([0, 1])).dtype == torch.float64
    np.savez(tmp_path / "x.npz", x=X, y=LABELS)
    stored = pushforward.train(tmp_path / "x.npz", condition="y", **settings).flow
    assert all(torch.equal(value, expected[name]) for name, value in stored.state_dict().items())


def test_info_says_what_a_run_is(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(80, 2))
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b", comments="")
    out = str(tmp_path / "run")
    assert (
        main(
            ["train", str(tmp_path / "x.csv"), "--method", "maf", "--steps", "5", "--out", out, "--no-report"]
        )
        == 0
    )
    said = capsys.readouterr().err
    assert "maf for 64 rows of 2 numbers" in said and "5 folds choose the step" in said
    assert main(["info", out]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"method +maf", shown) and "64 rows to train on, 16 held out" in shown
    assert "nothing beyond the baselines it starts from" in shown
