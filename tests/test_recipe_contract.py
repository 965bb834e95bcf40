"""What every recipe of the registry keeps; a new family is one class and two lines of the registry."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pushforward
from pushforward import Normal
from pushforward.config import RunConfig
from pushforward.data import Dataset
from pushforward.entries import METHODS, RECIPES, Entry, Method
from pushforward.flows import Flow
from pushforward.objectives import Objective
from pushforward.recipes import Recipe, Stage, recipe_of, resolve
from pushforward.recipes.matching import Matching, MatchingStage
from pushforward.recipes.open import load_dataset
from pushforward.recipes.start import build_start

#: A method, and settings, for every recipe.
CASES = {
    "flow-matching": ("rectified-flow", {"distil": True}),
    "bridge-matching": ("sf2m", {}),
    "scores": ("ddpm", {}),
    "sliced-scores": ("ssm", {}),
    "maximum-likelihood": ("maf", {}),
    "continuous-likelihood": ("ffjord", {"kinetic": 0.1, "jacobian": 0.1, "gradient": "checkpoint"}),
}


def made(name: str) -> tuple[Recipe, Dataset]:
    """A recipe with small networks, and data."""
    method, settings = CASES[name]
    config = RunConfig.of("moons", method=method, rows=60, network="mlp,width=4,depth=1", **settings)
    dataset = load_dataset(config)
    return recipe_of(resolve(config, dataset.schema)), dataset


def test_every_recipe_has_a_case():
    assert set(CASES) == set(RECIPES)
    assert all(METHODS[method].recipe == name for name, (method, _) in CASES.items())
    assert {method.recipe for method in METHODS.values()} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_stages(name):
    recipe, dataset = made(name)
    names = [stage.name for stage in recipe.stages]
    assert len(set(names)) == len(names) and [s.from_data for s in recipe.stages] == [True] + [False] * (
        len(names) - 1
    )
    with pytest.raises(ValueError, match=f"expected one of the stages {names[0]}"):
        recipe.stage("nonsense")
    start = build_start(recipe, dataset.train, dataset.preprocess)
    for stage in recipe.stages:
        assert recipe.stage(stage.name).name == stage.name and isinstance(stage.objective(), Objective)
        models, again = (stage.models(dataset.schema, start) for _ in range(2))
        for (key, value), other in zip(models.state_dict().items(), again.state_dict().values(), strict=True):
            assert torch.equal(value, other), key
        assert all(p.dtype == recipe.dtype for p in models.parameters())
        flow = stage.flow(models, dataset.schema, start)
        assert isinstance(flow, Flow) and flow.sample(3).shape == (3, 2)


@pytest.mark.parametrize("name", RECIPES)
def test_weights_are_those_of_the_seed_whatever_else_was_drawn(name):
    recipe, dataset = made(name)
    start = build_start(recipe, dataset.train, dataset.preprocess)
    first = recipe.stages[0].models(dataset.schema, start).state_dict()
    torch.rand(7)
    state = torch.get_rng_state()
    second = recipe.stages[0].models(dataset.schema, start).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


class Halved(Matching):
    """A family of its own: a flow of half the way."""

    @property
    def first(self) -> Stage:
        return HalvedStage(self)


class HalvedStage(MatchingStage):
    def flow(self, models: nn.ModuleDict, schema, start) -> Flow:
        return self.recipe.ode(models["field"], schema, start, (0.0, 0.5))


def test_a_new_family_is_one_class_and_two_lines_of_the_registry(tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "halved", Entry(f"{__name__}:Halved", "half the way"))
    monkeypatch.setitem(METHODS, "half", Method("half the way", "", {}, recipe="halved"))
    short = {"rows": 80, "steps": 4, "network": "mlp,width=4,depth=1", "source": "normal", "folds": 0}
    run = pushforward.train("moons", tmp_path / "run", method="half", show_progress=False, **short)
    assert isinstance(run.recipe, Halved) and run.flow.flow.interval == (0.0, 0.5)
    opened = pushforward.load(tmp_path / "run")
    x0 = Normal(2).sample(5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(opened.push(x0), run.flow.push(x0)) and opened.flow.interval == (0.0, 0.5)
