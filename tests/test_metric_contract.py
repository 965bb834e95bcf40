"""What every metric of the registry keeps; a metric of your own is one class and one line of the registry."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import ot
import pytest
import scipy.stats
import torch
from torch import Tensor

from pushforward import random, register
from pushforward.entries import METRICS, Entry
from pushforward.metrics import DISTANCE, Metric
from pushforward.registry import create
from pushforward.report import build, compare_text
from pushforward.report.loaded_run import LoadedRun
from pushforward.report.verdict import judge
from pushforward.sources import Normal
from report_cases import table_run


def sample(n: int, *event: int, shift: float = 0.0) -> Tensor:
    generator = random.seeded("metric contract", n, str(shift))
    return shift + random.normal((n, *event), generator, torch.float64)


@dataclass(frozen=True)
class Case:
    """The true value for a sample and rows of one column, and for a sample and the same sample again."""

    truth: Callable[[Tensor, Tensor], float]
    same: float
    tolerance: float = 1e-9


def distance_on_the_line(x: Tensor, y: Tensor) -> float:
    power: Any = ot.wasserstein_1d(x[:, 0].numpy(), y[:, 0].numpy(), p=2)
    return float(power) ** 0.5


def best_accuracy(x: Tensor, y: Tensor) -> float:
    """Two normal distributions at distance 3 are told apart with probability Phi(3 / 2)."""
    return float(scipy.stats.norm.cdf(1.5))


CASES = {
    # 400 judgements of probability 0.933 have a standard error of 0.0125; the machine is not quite the best.
    "two-sample-accuracy": Case(best_accuracy, 0.0, 0.04),
    "energy-distance": Case(
        lambda x, y: scipy.stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2, 0.0
    ),
    "wasserstein": Case(distance_on_the_line, 0.0),
    "sliced-wasserstein": Case(distance_on_the_line, 0.0),
}


def test_every_metric_has_a_case():
    assert set(CASES) == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_value_is_the_true_one(name):
    case, metric = CASES[name], create("metric", name)
    x, y = sample(200, 1, shift=3.0), sample(200, 1)
    assert metric.measure(x, y) == pytest.approx(case.truth(x, y), rel=case.tolerance, abs=case.tolerance)
    # a row that is in both samples cannot be told apart, and is at no distance from itself
    assert metric.measure(y, y) == pytest.approx(case.same, abs=0.5 if metric.unit == "share" else 1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_description_is_complete(name):
    metric = create("metric", name)
    assert isinstance(metric, Metric) and metric.label and metric.unit
    assert metric.better in ("low", "high", "real") and METRICS[name].paper


@pytest.mark.parametrize("event", [(), (1,), (3,), (1, 4, 4)])
@pytest.mark.parametrize("name", METRICS)
def test_function_of_its_arguments_alone(name, event):
    metric = create("metric", name)
    x, y = sample(40, *event, shift=0.5), sample(30, *event)
    before = x.clone(), y.clone()
    metric.measure(x, y)  # what libraries draw while they are imported is not the metric's
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    first = metric.measure(x, y, 7)
    torch.rand(3)
    torch.set_rng_state(torch_state)
    assert metric.measure(x, y, 7) == first and math.isfinite(first)
    assert torch.equal(x, before[0]) and torch.equal(y, before[1])
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], numpy_state)


@pytest.mark.parametrize("name", METRICS)
def test_a_sample_that_is_far_away_is_worse(name):
    metric = create("metric", name)
    near, far, rows = sample(60, 2), sample(61, 2, shift=5.0)[:60], sample(62, 2)[:60]
    sign = {"low": 1, "high": -1}[metric.better]
    assert sign * (metric.measure(far, rows) - metric.measure(near, rows)) > 0


@pytest.mark.parametrize("name", METRICS)
def test_distances_follow_the_unit_and_the_shift(name):
    metric = create("metric", name)
    x, y = sample(50, 2, shift=1.0), sample(40, 2)
    value = metric.measure(x, y)
    assert metric.measure(x + 8, y + 8) == pytest.approx(value, rel=1e-9)
    if metric.unit == DISTANCE:
        assert metric.measure(4 * x, 4 * y) == pytest.approx(4 * value, rel=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_what_cannot_be_compared(name):
    metric = create("metric", name)
    for x, y in ((sample(20, 2)[:0], sample(20, 2)), (sample(20, 2), sample(20, 3))):
        with pytest.raises(ValueError, match="expected"):
            metric.measure(x, y)


class LargestGap(Metric):
    """The largest distance between the distribution functions of the first column (Kolmogorov 1933)."""

    label, short, better = "Kolmogorov distance", "Kolmogorov distance", "low"
    unit = "share"

    def measure(self, x: Tensor, y: Tensor, seed: int = 0) -> float:
        a, b = x.reshape(len(x), -1)[:, 0], y.reshape(len(y), -1)[:, 0]
        places = torch.cat([a, b]).sort().values
        first, second = (torch.searchsorted(z.sort().values, places, right=True) / len(z) for z in (a, b))
        return float((first - second).abs().max())


def test_the_metric_of_our_own_is_right():
    x, y = sample(50, 2, shift=1.0), sample(40, 2)
    truth: Any = scipy.stats.ks_2samp(x[:, 0].numpy(), y[:, 0].numpy())
    assert LargestGap().measure(x, y) == pytest.approx(truth.statistic)


def test_a_metric_of_your_own_has_a_line_in_the_report(tmp_path, monkeypatch):
    entry = Entry(f"{__name__}:LargestGap", "distance of distribution functions")
    monkeypatch.setitem(METRICS, "largest-gap", entry)  # and takes it away again
    register("metric", "largest-gap", LargestGap, entry.summary)
    x = Normal(2).double().sample(120, None, random.seeded("own metric"))
    run = table_run(tmp_path / "run", Normal(2).double(), x[40:], x[:40])
    page = build(run, samples=80).read_text()
    numbers = json.loads((run.path / "report.json").read_text())
    (line,) = [line for line in numbers["verdict"] if line["key"] == "largest_gap"]
    assert numbers["left_out"] == {} and "Kolmogorov distance" in page
    assert line["unit"] == "share" and line["better"] == "low" and 0 < line["real"]["value"] < 0.5
    assert "Kolmogorov distance, share" in compare_text(run.path, run.path)


class Broken(LargestGap):
    def __init__(self):
        raise RuntimeError("no such file")


def test_a_metric_that_cannot_be_made_is_left_out_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "broken", Entry(f"{__name__}:Broken", ""))
    x = Normal(2).double().sample(60, None, random.seeded("broken metric"))
    verdict = judge(about := LoadedRun(table_run(tmp_path, Normal(2).double(), x[20:], x[:20]), samples=40))
    assert about.left_out == {"metric broken": "metric 'broken': no such file"}
    assert verdict.line("energy_distance") is not None
