"""What every built-in data set promises, whichever it is: one case for each entry of the registry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from contract import complete
from pushforward.data import Dataset, load
from pushforward.entries import DATASETS
from toy_moments import MOMENTS

ROWS = 20_000
#: How many there are of each digit, as the UCI repository counts them.
DIGITS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@dataclass(frozen=True)
class Case:
    """What a data set is, from elsewhere than the library.

    condition: what it offers as condition.  counts: rows of every label, None where they are drawn evenly.
    mean: of all columns that are named, in a published table, to the digits given.  moments: for a toy its
    mean and second moments, by quadrature.
    """

    shape: tuple[int, ...] = (2,)
    rows: int | None = None
    condition: str = ""
    labels: int = 0
    counts: tuple[int, ...] | None = None
    mean: dict[str, float] = field(default_factory=dict)
    moments: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None


def toy(name: str, labels: int = 0) -> Case:
    return Case(condition="label" if labels else "", labels=labels, moments=MOMENTS[name])


CASES = {
    "moons": toy("moons", 2),
    "8gaussians": toy("eight_gaussians", 8),
    "circles": toy("circles", 2),
    "checkerboard": toy("checkerboard"),
    "pinwheel": toy("pinwheel", 5),
    "spirals": toy("spirals", 2),
    "swissroll": toy("swissroll"),
    "scurve": toy("scurve"),
    "gaussian": toy("gaussian"),
    "digits": Case((1, 8, 8), 1797, "label", 10, tuple(DIGITS), {"": 4.884}),
    "iris": Case(
        (4,),
        150,
        "label",
        3,
        (50, 50, 50),
        {"sepal length (cm)": 5.843, "sepal width (cm)": 3.057, "petal length (cm)": 3.758},
    ),
    "wine": Case((13,), 178, "label", 3, (59, 71, 48), {"alcohol": 13.001, "proline": 746.893}),
    "breast-cancer": Case((30,), 569, "label", 2, (357, 212), {"mean radius": 14.127, "mean area": 654.889}),
    "diabetes": Case((10,), 442, "progression", 0, None, {"age": 48.518, "bmi": 26.376, "bp": 94.647}),
}


def loaded(name: str, seed: int = 0, **options: float) -> Dataset:
    case = CASES[name]
    condition = [case.condition] if case.condition else []
    return load(name, condition=condition, seed=seed, rows=None if case.rows else ROWS, **options)


def everything(data: Dataset) -> torch.Tensor:
    return torch.cat([data.train.x, data.test.x])


def test_every_data_set_has_a_case() -> None:
    complete("data", CASES)
    assert {name for name, case in CASES.items() if case.rows is None} == {
        name for name, entry in DATASETS.items() if entry.drawn
    }


@pytest.mark.parametrize("name", CASES)
def test_rows_and_shapes(name: str) -> None:
    case, data = CASES[name], loaded(name)
    schema = data.schema
    assert schema.event_shape == case.shape and data.train.x.shape[1:] == data.test.x.shape[1:] == case.shape
    assert (len(data.train), len(data.test)) == (schema.rows_train, schema.rows_test)
    if case.rows is None:  # a toy tests on as many rows, drawn afresh
        assert len(data.train) == len(data.test) == ROWS
        assert not {*data.train.x[:, 0].tolist()} & {*data.test.x[:, 0].tolist()}
        assert len(loaded(name, holdout=0.0).test) == 0
    else:
        assert len(data.train) + len(data.test) == case.rows and len(data.test) == round(0.2 * case.rows)
    assert bool(everything(data).isfinite().all()) and (schema.name, schema.source) == (name, name)
    assert data.train.x.dtype == (torch.float64 if schema.kind == "table" else torch.float32)


@pytest.mark.parametrize("name", CASES)
def test_a_seed_gives_the_same_data_and_another_one_other_data(name: str) -> None:
    one, same, other = loaded(name, 3), loaded(name, 3), loaded(name, 4)
    assert torch.equal(one.train.x, same.train.x) and torch.equal(one.test.x, same.test.x)
    if CASES[name].condition:
        assert torch.equal(torch.as_tensor(one.train.condition), torch.as_tensor(same.train.condition))
    assert not torch.equal(one.train.x, other.train.x)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.labels])
def test_labels(name: str) -> None:
    case, data = CASES[name], loaded(name)
    spec = data.schema.condition
    assert spec is not None and len(spec.classes) == case.labels
    parts = [torch.as_tensor(rows.condition) for rows in (data.train, data.test)]
    counts = torch.cat(parts).bincount(minlength=case.labels)
    if case.counts is not None:
        named = dict(zip(spec.classes, counts.tolist()))
        assert sorted(counts.tolist()) == sorted(case.counts), named
        # every label is held out in its share
        share = parts[1].bincount(minlength=case.labels) / counts
        assert bool((share - 0.2).abs().max() < 0.02)
    else:
        even = 2 * ROWS / case.labels
        assert bool(((counts - even).abs() < 5 * math.sqrt(even)).all())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.moments])
def test_toys_have_their_moments(name: str) -> None:
    moments = CASES[name].moments
    assert moments is not None
    x, (mean, second) = everything(loaded(name)).numpy(), moments()
    products = x[:, :, None] * x[:, None, :]
    # standard errors of the sample's own averages: 9 distributions x 6 numbers within 4.5 of them, p = 4e-4
    assert np.all(np.abs(x.mean(0) - mean) < 4.5 * x.std(0) / math.sqrt(len(x)))
    assert np.all(np.abs(products.mean(0) - second) < 4.5 * products.std(0) / math.sqrt(len(x)))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.mean])
def test_measured_data_have_their_published_means(name: str) -> None:
    data = loaded(name)
    x = everything(data)
    for column, mean in CASES[name].mean.items():
        values = x[:, data.schema.columns.index(column)] if column else x
        assert float(values.double().mean()) == pytest.approx(mean, abs=6e-4)
