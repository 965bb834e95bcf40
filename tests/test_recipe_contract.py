"""What every recipe of the registry keeps; a new family is one class and two lines of the registry."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pushforward
from pushforward import Normal, Rows
from pushforward.config import RunConfig
from pushforward.data import Dataset
from pushforward.entries import METHODS, RECIPES, Entry, Method
from pushforward.flows import Flow
from pushforward.objectives import Batch, Objective, Step
from pushforward.random import seeded
from pushforward.recipes import Recipe, Run, Stage, open_run, recipe_of, resolve
from pushforward.recipes.base import family
from pushforward.recipes.defaults import check
from pushforward.recipes.matching import Matching, MatchingStage
from pushforward.recipes.open import load_dataset
from pushforward.recipes.start import build_start
from pushforward.training import trainer

#: A method, and settings, for every recipe.
CASES = {
    "flow-matching": ("rectified-flow", {"distil": True}),
    "bridge-matching": ("sf2m", {}),
    "scores": ("ddpm", {}),
    "sliced-scores": ("ssm", {}),
    "variational": ("vrf", {}),
    "maximum-likelihood": ("maf", {}),
    "continuous-likelihood": ("ffjord", {"kinetic": 0.1, "jacobian": 0.1, "gradient": "checkpoint"}),
    "flow-maps": ("flow-map", {"head": True}),
    "blocks": ("jko-iflow", {"blocks": 3}),
    "discrete": ("dfm", {}),
    "manifolds": ("rfm", {}),
    "points": ("embedding-flow", {}),
}
#: Data of the families that do not take tables of numbers, and how many rows of a batch are looked at.
DATA = {"discrete": "digits", "points": "digits"}


def data_of(name: str) -> dict[str, Any]:
    """The data of a family, as settings."""
    return {"target": DATA[name]} if name in DATA else {"target": "moons", "rows": 60}


def network(method: str) -> dict[str, str]:
    """A small network, for methods that have one."""
    if family(method).takes_tokens:
        return {"network": "transformer,width=4,depth=1,heads=1"}
    return {} if "flow" in family(method).needs else {"network": "mlp,width=4,depth=1"}


def made(name: str) -> tuple[Recipe, Dataset]:
    """A recipe with small networks, and data."""
    method, settings = CASES[name]
    config = RunConfig.of(**data_of(name), method=method, **network(method), **settings)
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
        assert recipe.stage(stage.name).name == stage.name and isinstance(stage.objective(start), Objective)
        models, again = (stage.models(dataset.schema, start) for _ in range(2))
        for (key, value), other in zip(models.state_dict().items(), again.state_dict().values(), strict=True):
            assert torch.equal(value, other), key
        assert all(p.dtype == recipe.dtype for p in models.parameters())
        flow = stage.flow(models, dataset.schema, start)
        assert isinstance(flow, Flow) and flow.sample(3).shape == (3, *dataset.schema.event_shape)


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


#: A value of every setting of a model that a method may use in its first training, other than its default.
OTHERS = {
    "coupling": "ot",
    "path": "trig",
    "gamma": "0.3",
    "times": "u-shaped",
    "weighting": "power,early=1",
    "prediction": "data",
    "network": "mlp,width=5,depth=1",
    "solver": "rk4,steps=3",
    "divergence": "hutchinson,noise=gaussian",
    "train_solver": "midpoint,steps=2",
    "gradient": "adjoint",
    "kinetic": 0.1,
    "jacobian": 0.1,
    "blocks": 2,
    "horizon": 1.5,
    "growth": 2.5,
    "latent": 5,
    "beta": 3.0,
    "encoder": "path",
    "loss": "semigroup",
    "two_sided": True,
    "prior": 3,
    "head": True,
    "flow": "nice",
    "base": "student-t",
    "drop_condition": 0.9,
    "tokens": "uniform",
}


def behaviour(config: RunConfig) -> Tensor:
    """Loss, gradients, draws and densities of the first stage, from equal weights and draws."""
    dataset = load_dataset(config)
    recipe = recipe_of(resolve(config, dataset.schema, check(config)))
    stage, start = recipe.stages[0], build_start(recipe, dataset.train, dataset.preprocess)
    models = stage.models(dataset.schema, start)
    parameters = [p for p in models.parameters() if p.requires_grad]
    with torch.no_grad():
        for number, parameter in enumerate(parameters):
            parameter += 0.1 * torch.randn(parameter.shape, generator=seeded("weights", number))
    if family(config.model.method).takes_tokens:
        x1 = dataset.preprocess.inverse(dataset.train.x[:16])
        x0 = torch.full_like(x1, 17 if config.model.tokens is None else 0)
    else:
        x0, x1 = (torch.randn(16, 2, generator=seeded("rows", k)) for k in range(2))
    if recipe.coupling is not None:
        x0, x1 = recipe.coupling(x0, x1, generator=seeded("pairs"))
    ends = Rows(x0), Rows(x1, torch.arange(16) % 2)
    # vectors that move to the points of tokens draw their noise
    batch = Batch(ends if getattr(recipe, "jumps", True) else ends[1:])
    value = recipe.objective(stage, start).loss(models, batch, Step(generator=seeded("loss"))).value
    slopes = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
    flow: Any = stage.flow(models, dataset.schema, start)
    label = torch.zeros(3, dtype=torch.long)
    with torch.no_grad():
        drawn = flow.sample(3, label[0], generator=seeded("draws"))
        known = flow.density != "none"
        scored = flow.log_prob(x1[:3], label, generator=seeded("noise")) if known else drawn[:0]
    return torch.cat([value.detach()[None], *(g.flatten() for g in (*slopes, drawn, scored))])


@pytest.mark.parametrize("name", RECIPES)
def test_a_setting_is_used_or_refused(name):
    """Nothing is accepted and ignored: it changes a loss, gradient, draw or density, or is refused."""
    short: dict[str, Any] = {**data_of(name), "condition": "label", "source": "normal", "folds": 0}
    method, usual = CASES[name][0], None
    for key, value in OTHERS.items():
        plain = RunConfig.of(method=method, **short)
        usual = behaviour(plain) if usual is None else usual
        try:
            other = behaviour(RunConfig.of(method=method, **short, **{key: value}))
        except ValueError as error:
            assert key.replace("_", "-") in str(error) and "\n" not in str(error)
            continue
        assert other.shape != usual.shape or not torch.equal(other, usual), key


@pytest.mark.parametrize("name", RECIPES)
def test_a_stopped_run_goes_on_as_if_it_had_not_been(name, tmp_path, monkeypatch):
    """Bit for bit, in the last weights, their average and every loss."""
    target, *rest = data_of(name).values()
    short: dict[str, Any] = {
        **({"rows": 60} if rest else {}),
        "steps": 12,
        "folds": 0,
        "log_every": 1,
        "checkpoint_every": 5,
    }
    short |= {"source": "normal", "ema": 0.9, "show_progress": False, **network(CASES[name][0])}

    def train(out: str) -> Run:
        return pushforward.train(target, tmp_path / out, method=CASES[name][0], **short, **CASES[name][1])

    whole = train("whole")
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_stop", lambda self, interrupt: self._place >= 7)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # opening what has not ended says so
            assert not train("cut").summary["finished"]
    again = train("cut")
    for averaged in (True, False):
        one, other = (open_run(run.path, averaged=averaged).flow.state_dict() for run in (whole, again))
        assert all(torch.equal(value, other[key]) for key, value in one.items())
    first, second = ([row.get("loss") for row in run.history] for run in (whole, again))
    assert first == second


# torch hides this warning of inputs with gradients, such as encoded latents, but not where it is an error
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("name", RECIPES)
def test_networks_are_compiled_or_compiling_is_refused(name, monkeypatch):
    """What is compiled is what the training calls, and where it calls something else that is said."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    plain = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: plain(module, backend=backend))
    torch._dynamo.reset()
    target, *rest = data_of(name).values()
    settings: dict[str, Any] = {"steps": 1, "folds": 0, "source": "normal", "compile": True}
    settings |= {"rows": 60} if rest else {}
    if family(CASES[name][0]).compiles:
        pushforward.train(target, method=CASES[name][0], **settings, show_progress=False)
        assert graphs
        return
    with pytest.raises(ValueError, match=r"compile: method .* trains by derivatives"):
        pushforward.train("moons", method=CASES[name][0], **settings, show_progress=False)


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
