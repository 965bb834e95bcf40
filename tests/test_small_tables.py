"""Small tables: whatever the method, a flow starts at the baselines, and keeps them if it learns nothing."""

from __future__ import annotations

import json
import warnings
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris, load_wine

import pushforward
from narrowing import known, one_tensor
from pushforward.cli import main
from pushforward.config import RunConfig
from pushforward.data.dataset import sharp
from pushforward.entries import METHODS
from pushforward.metrics import fit_blend
from pushforward.recipes import recipe_of, resolve
from pushforward.recipes.base import family
from pushforward.recipes.choice import choose
from pushforward.recipes.info import learnt_in_words
from pushforward.recipes.open import load_dataset
from pushforward.recipes.start import Start, build_start
from pushforward.report.sentences import learnt_beyond
from pushforward.solvers import Tsit5
from pushforward.sources import Blend, Normal

ANYWHERE = sorted(name for name, method in METHODS.items() if method.starts_anywhere)
#: from a normal source the field starts in closed form, but for how far the path ends from the data; the
#: bound of vrf has weights that are nearly 1
NEARLY = {"ve": 0.1, "vp": 0.1, "i-cfm": 0.1, "vrf": 0.02}


def wine(columns: int = 4) -> np.ndarray:
    return np.asarray(load_wine(return_X_y=True)[0])[:, :columns]


def untrained(config, dataset):
    """What a run starts from, and its flow before the first step."""
    recipe = recipe_of(config)
    start = build_start(recipe, dataset.train, dataset.preprocess)
    return start, untrained_flow(recipe, dataset.schema, start)


def untrained_flow(recipe, schema, start) -> Any:
    models = recipe.stages[0].models(schema, start).eval().requires_grad_(False)
    return recipe.stages[0].flow(models, schema, start)


@pytest.mark.parametrize("method", ANYWHERE)
def test_step_zero_is_the_baseline(method):
    """Before training the density is that of a stack of baselines, for every method of the registry."""
    x = wine()
    config = RunConfig.of("wine", method=method, holdout=0.0)
    dataset = load_dataset(config, x)
    config = resolve(config, dataset.schema)
    assert config.data.source == "baseline" and config.optim.folds == 5
    recipe = recipe_of(config)
    start = build_start(recipe, dataset.train, dataset.preprocess)
    flow = untrained_flow(recipe, dataset.schema, start)
    if hasattr(flow, "continuous"):  # the velocity of a flow map
        flow = flow.continuous()
    if hasattr(flow, "solver"):
        flow = flow.replace(solver=Tsit5(rtol=1e-5, atol=1e-5))
    z = dataset.preprocess.inverse(dataset.train.x[:50]).float()
    baseline = known(start.initial if start.known is None else start.known)
    torch.testing.assert_close(
        flow.log_prob(z), baseline.log_prob(z), atol=NEARLY.get(method, 2e-3), rtol=1e-3
    )
    assert "mixture" in start.note or "Gaussian" in start.note
    assert len(start.folds) == 5 and all(fold.note for _, fold in start.folds)


@pytest.mark.parametrize("kind", ["labels", "number"])
@pytest.mark.parametrize("method", ["fm", "ot-cfm", "nsf"])
def test_step_zero_is_the_baseline_under_conditions(method, kind):
    x, target = load_iris(return_X_y=True)
    y = target if kind == "labels" else x[:, 3]
    config = RunConfig.of("iris", method=method, holdout=0.0)
    dataset = load_dataset(config, (x[:, :3], y))
    config = resolve(config, dataset.schema)
    recipe = recipe_of(config)
    start = build_start(recipe, dataset.train, dataset.preprocess)
    flow = untrained_flow(recipe, dataset.schema, start)
    z = dataset.preprocess.inverse(dataset.train.x[:50]).float()
    c = one_tensor(dataset.train.condition)[:50]
    torch.testing.assert_close(flow.log_prob(z, c), known(start.initial).log_prob(z, c), atol=2e-3, rtol=1e-3)


def test_nothing_to_learn_is_said_and_keeps_the_baseline(tmp_path):
    """Of a normal distribution there is nothing to learn beyond a Gaussian."""
    x = np.random.default_rng(1).multivariate_normal([0, 5], [[1, 0.9], [0.9, 1]], 150)
    run = pushforward.train(x, tmp_path / "run", method="fm", steps=100, show_progress=False)
    learnt = run.summary["learnt"]
    assert run.summary["kept_step"] == 0 and learnt["gain"] == 0 and learnt["how"] == "cross-validation"
    distribution = run.flow.flow.source
    assert isinstance(distribution, Blend)
    # fitted in other coordinates the stack is another, but about as good
    found = run.flow.log_prob(run.dataset.test.x).mean()
    alone = fit_blend(run.dataset.train.x).log_prob(run.dataset.test.x).mean()
    assert float(found) == pytest.approx(float(alone), abs=0.05)
    # the number of steps, the folds and the curve are in the folder, and a resumed run does not choose again
    choice = json.loads((tmp_path / "run" / "choice.json").read_text())
    assert choice["steps"] == 0 and len(choice["curve"]) > 3
    assert len(known(run.crossed())) == 120


@pytest.mark.thorough
def test_what_is_learnt_is_learnt_of_rows_not_seen():
    """A gain in cross-validation is a gain on new rows too."""
    g = np.random.default_rng(1)
    gains = []
    for seed in range(2):
        angle = g.uniform(0, 2 * np.pi, (700, 1))
        x = np.hstack([np.cos(angle), np.sin(2 * angle)]) * (3 + 0.1 * g.normal(size=(700, 1)))
        run = pushforward.train(x[:300], holdout=0.0, seed=seed, method="maf", steps=200, show_progress=False)
        new = torch.tensor(x[300:])
        z, volume = run.flow.bijection.inverse_and_log_det(new)
        before = run.flow.flow.source.log_prob(z.float()) + volume
        gains.append((run.flow.log_prob(new) - before).mean())
        assert float(gains[-1]) > run.summary["learnt"]["gain"] - 4 * run.summary["learnt"]["error"] - 0.02
    assert max(gains) > 0


def test_steps_must_be_better_than_none_by_more_than_their_error():
    noise = torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert choose([0, 5], torch.stack([noise * 0, noise]), True).steps == 0
    assert choose([0, 5], torch.stack([noise * 0, noise + 1]), True).steps == 5
    assert choose([0, 5], torch.stack([noise * 0, noise + 0.15]), True).steps == 0
    assert choose([0, 5], torch.stack([noise * 0, noise + torch.nan]), True).steps == 0
    losses = choose([0, 5], torch.stack([noise * 0 - 2, noise * 0 - 1]), False)
    assert losses.steps == 5 and losses.learnt is None and losses.curve[1] == {"step": 5, "val_loss": 1.0}


def test_a_flow_with_learnt_parts_of_its_own_starts_as_it_was():
    run = pushforward.train(wine(), method="nsf", base="student-t", steps=20, show_progress=False)
    assert run.config.data.source == "normal" and run.config.optim.folds == 5
    with pytest.raises(ValueError, match="base student-t and source baseline"):
        pushforward.train(wine(), method="nsf", base="student-t", source="baseline")


@pytest.mark.parametrize("name", ["vp", "fm"])
def test_source_normal_is_what_was_asked_for(name):
    run = pushforward.train(wine(), method=name, source="normal", folds=0, steps=20, show_progress=False)
    assert isinstance(run.flow.flow.source, Normal) and run.summary["start"] == ""


@pytest.mark.parametrize("method", ["vp", "edm"])
def test_what_a_diffusion_loses_of_repeated_values_counts_for_what_it_has_learnt(tmp_path, method):
    """A column of whole numbers is sharper than the noise that is left: such a run is below its baseline.

    What is said is the difference of the flow's own densities, found by its solver, to those of the baseline.
    """
    g = np.random.default_rng(0)
    x = np.stack([g.normal(size=400), g.choice([0.0, 1.0, 5.0], 400)], 1)
    short: dict[str, Any] = {"steps": 1, "holdout": 0.0, "seed": 1, "show_progress": False}
    with pytest.warns(UserWarning, match="column 'x2' is"):
        run = pushforward.train(x, tmp_path / "run", method=method, **short)
        start = build_start(run.recipe, run.dataset.train, run.dataset.preprocess)
    learnt, lost = run.summary["learnt"], []
    for held, fold in start.folds:
        rows = run.dataset.train.take(held)
        z = sharp(fold.preprocess or run.dataset.preprocess).inverse(rows.x).double()
        models = run.recipe.stages[0].models(run.dataset.schema, fold).double().requires_grad_(False)
        flow: Any = run.recipe.stages[0].flow(models, run.dataset.schema, fold)
        flow = flow.replace(solver=Tsit5(rtol=1e-6, atol=1e-6)).double()
        lost.append(flow.log_prob(z) - known(fold.known).double().log_prob(z))
    assert run.summary["kept_step"] == 0 and learnt["gain"] < -0.3
    assert learnt["gain"] == pytest.approx(float(torch.cat(lost).mean()), abs=0.02)
    assert "below the baselines it starts from" in learnt_in_words(learnt)
    told = learnt_beyond({**run.summary, "kept_step": 0})
    assert (
        told.startswith(f"It is {-learnt['gain']:.2f}"[:8]) and "below the baseline it started from" in told
    )


def test_interrupted_in_a_fold_the_folder_loads_and_goes_on(tmp_path, monkeypatch):
    from pushforward.recipes import crossed

    whole = pushforward.train(wine(), tmp_path / "whole", method="maf", steps=40, show_progress=False)
    fold = crossed._fold
    monkeypatch.setattr(
        crossed,
        "_fold",
        lambda job, stage, number, *rest: (
            (None, True, None) if number == 2 else fold(job, stage, number, *rest)
        ),
    )
    run = pushforward.train(wine(), tmp_path / "run", method="maf", steps=40, show_progress=False)
    assert not run.summary["finished"] and run.summary["step"] == 0
    with pytest.warns(UserWarning, match="weights of step 0 of 40"):
        assert bool(pushforward.load(tmp_path / "run").sample(5).isfinite().all())
    monkeypatch.undo()
    again = pushforward.train(wine(), tmp_path / "run", method="maf", steps=40, show_progress=False)
    assert again.summary["kept_step"] == whole.summary["kept_step"]
    for name, value in whole.flow.state_dict().items():
        assert torch.equal(value, again.flow.state_dict()[name]), name


def test_the_command_line_and_the_estimator_give_the_same_figures(tmp_path):
    x = wine(5)
    np.savetxt(tmp_path / "wine.csv", x, delimiter=",", header="a,b,c,d,e", comments="")
    arguments = ["--method", "nsf", "--steps", "60", "--seed", "3", "--no-report"]
    assert main(["train", str(tmp_path / "wine.csv"), "--out", str(tmp_path / "run"), *arguments]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        density = pushforward.FlowDensity("nsf", steps=60, random_state=3).fit(x)
    run = pushforward.recipes.open_run(tmp_path / "run")
    assert density.run_["learnt"] == run.summary["learnt"]
    for name, value in run.flow.flow.state_dict().items():
        assert torch.equal(value.double(), density.flow_.flow.state_dict()[name].double()), name
    # scores of the estimator are float64, the model's own float32
    scores = run.flow.log_prob(run.dataset.test.x)
    np.testing.assert_allclose(density.held_out_scores_, scores, atol=1e-3)


@pytest.mark.parametrize("rows", [400, 4000])
@pytest.mark.parametrize("conditioned", [False, True])
@pytest.mark.parametrize("method", sorted(name for name in METHODS if not family(name).takes_tokens))
def test_no_method_can_only_be_gaussian_on_one_column(method, conditioned, rows):
    """By construction: weights drawn at random give a density, or a velocity, that no Gaussian has."""
    g = np.random.default_rng(0)
    x, y = g.choice([-3.0, 3.0], rows) + 0.2 * g.normal(size=rows), g.integers(0, 2, rows)
    config = RunConfig.of("table", method=method)
    dataset = load_dataset(config, (x, y) if conditioned else x)
    config = resolve(config, dataset.schema)
    stage = recipe_of(config).stages[0]
    if method in ("glow", "tarflow"):
        with pytest.raises(ValueError, match=r"expected images .* tables: nsf"):
            stage.models(dataset.schema, Start(None, None))
        return
    models = stage.models(dataset.schema, Start(None, Normal(1))).double().eval().requires_grad_(False)
    torch.manual_seed(0)
    for parameter in models.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    z = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    c = torch.zeros(9, dtype=torch.long) if conditioned else None
    named = {"flow", "block-1"} & set(models)
    if named:
        log_prob = cast(Any, models[named.pop()]).log_prob(z, c)
        bend = log_prob.diff(n=3)  # 0 of a Gaussian, whose logarithm is a parabola
    elif METHODS[method].recipe == "flow-maps":
        early, late = (torch.tensor(t, dtype=torch.float64) for t in (0.2, 1.0))
        bend = models["field"](early, late, z, c)[:, 0].diff(n=2)
    else:
        bend = models["field"](torch.tensor(0.5, dtype=torch.float64), z, c)[:, 0].diff(n=2)
    assert float(bend.abs().max()) > 1e-3
