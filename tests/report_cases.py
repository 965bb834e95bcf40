"""Runs whose truth is known, for tests of the report."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from pushforward import random
from pushforward.bijections import Affine, Chain, Dequantise
from pushforward.config import RunConfig
from pushforward.couplings import Rows
from pushforward.data import ConditionSpec, Schema
from pushforward.flows import BijectiveFlow, ContinuousFlow, Transformed
from pushforward.oracles import GaussianMixtureOracle
from pushforward.paths import Interpolant
from pushforward.recipes.parts import Given
from pushforward.solvers import Dopri5, Heun
from pushforward.sources import GaussianMixture, Normal, Source

HISTORY = [
    *({"step": i, "loss": 1 + math.exp(-i / 20), "lr": 1e-3, "grad_norm": 1.0} for i in range(1, 101)),
    *(
        {"step": i, "val_loss": 1.05 + math.exp(-i / 20), "val_loss_by_time": [1.0] * 9 + [100.0 / i]}
        for i in (20, 60, 100)
    ),
]


def make_run(path: Path, flow, schema: Schema | None, train: Rows, test: Rows, **changes) -> Any:
    values = {
        "path": path,
        "config": RunConfig(target="demo.csv", seed=3),
        "command": "pushforward train demo.csv --name '<b>&'",
        "schema": schema,
        "dataset": SimpleNamespace(train=train, test=test, stretches=None),
        "flow": flow,
        "history": HISTORY,
        "summary": {"step": 100, "seconds": 1.5, "parameters": 7, "versions": {"torch": "2"}},
        "trust": (),
        "recipe": SimpleNamespace(parts=SimpleNamespace(given=Given()), per=""),
    }
    path.mkdir(parents=True, exist_ok=True)
    return SimpleNamespace(**(values | changes))


def plane_mixture() -> GaussianMixture:
    angle = torch.arange(4, dtype=torch.float64) * math.pi / 2
    return GaussianMixture(torch.stack([angle.cos(), angle.sin()], 1), 0.25)


def plane_run(path: Path, rows: int = 400, solver=None, along: Interpolant | None = None, **changes) -> Any:
    """A flow with the exact field of the distribution that its data are drawn from, in units of its own.

    along: its path, that of flow matching if none is given.
    """
    mixture, units = plane_mixture(), Affine(*torch.tensor([[10.0, -3.0], [2.0, 1.0]]).double().unbind(0))
    start = Normal(2, 1.0 if along is None else along.ends()[0].source_scale).double()
    oracle = GaussianMixtureOracle(mixture, along or Interpolant())
    inner = ContinuousFlow(oracle, solver or Dopri5(rtol=1e-4, atol=1e-4), start)
    x = units.forward(mixture.sample(4 * rows, None, random.seeded("rows")))
    schema = Schema(name="four", kind="table", event_shape=(2,), columns=("east, km", "north, km"))
    flow = Transformed(inner, units, torch.float64)
    return make_run(path, flow, schema, Rows(x[rows:]), Rows(x[:rows]), **changes)


def labelled_plane(path, **changes) -> Any:
    mixture = plane_mixture()
    labels = torch.arange(240) % 4
    x = mixture.sample(240, labels, random.seeded("labelled"))
    flow = ContinuousFlow(GaussianMixtureOracle(mixture), Heun(steps=8), Normal(2).double())
    schema = Schema(
        name="labelled",
        kind="table",
        event_shape=(2,),
        columns=("lat", "lon"),
        condition=ConditionSpec(kind="labels", columns=("corner",), classes=("e", "n", "w", "s")),
        duplicates=1,
    )
    order = torch.randperm(240, generator=random.seeded("order"))
    rows = Rows(x, labels).take(order)
    return make_run(
        path, flow, schema, rows.take(torch.arange(160)), rows.take(torch.arange(160, 240)), **changes
    )


def image_run(path: Path, labelled: bool = True) -> Any:
    """Images of 4 x 4 in whole levels 0 to 4: a bright half whose side is the label, plus noise."""
    means = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    means[0, :, :, :2] = means[1, :, :, 2:] = 1.0
    mixture = GaussianMixture((means - 0.5) * 0.8, 0.3)
    preprocess = Chain(Affine(torch.tensor(2.5), torch.tensor(2.5)), Dequantise(0.0, 4.0, 1.0))
    inner = ContinuousFlow(GaussianMixtureOracle(mixture), Heun(steps=8), Normal((1, 4, 4)).double())
    labels = torch.arange(200) % 2
    x = preprocess.forward(mixture.sample(200, labels, random.seeded("images")))
    spec = ConditionSpec(kind="labels", columns=("side",), classes=("left", "right")) if labelled else None
    schema = Schema(
        name="halves", kind="image", event_shape=(1, 4, 4), condition=spec, levels=(0.0, 4.0, 1.0)
    )
    rows = Rows(x.float(), labels if labelled else None)
    flow = Transformed(inner, preprocess, torch.float64)
    return make_run(
        path, flow, schema, rows.take(torch.arange(120)), rows.take(torch.arange(120, 200)), history=[]
    )


def table_run(path: Path, model: Source, train: torch.Tensor, test: torch.Tensor, **changes) -> Any:
    """A flow that is nothing but its source, in float64."""
    d = train.shape[1]
    flow = BijectiveFlow(Affine(torch.zeros(d).double(), torch.ones(d).double()), model)
    schema = Schema(name="table", kind="table", event_shape=(d,), columns=tuple(f"c{i}" for i in range(d)))
    changes = {"history": [], "summary": {}, **changes}
    return make_run(path, flow, changes.pop("schema", schema), Rows(train), Rows(test), **changes)
