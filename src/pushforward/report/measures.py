"""Every measure of a report: its key, name and unit, which values are better, and how it is taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..entries import METRICS
from ..metrics import DISTANCE, Better, Metric, label_accuracy
from ..registry import create
from .evidence import Evidence
from .formatting import Value, number, percent
from .left_out import LeftOut
from .loaded_run import LoadedRun
from .text_samples import Pairs

#: A function that measures the model, baselines and real rows: values by key.
Values = Callable[[LoadedRun, Evidence], dict[str, Value]]
#: Whether a measure applies.
When = Callable[[LoadedRun, Evidence], bool]
#: How a table says which values are better.
WAYS: Mapping[Better | Literal[""], str] = {
    "": "",
    "high": "higher is better",
    "low": "lower is better",
    "real": "best where real rows are",
}


@dataclass(frozen=True)
class Measure:
    """What a number of a report is.

    key: in ``report.json``.  label: in a table.  better: which values are, nothing where none is.
    explanation: for the small print.
    """

    key: str
    label: str
    unit: str = ""
    better: Better | Literal[""] = ""
    explanation: str = ""

    def text(self, value: float) -> str:
        """A value for reading."""
        return percent(value) if self.unit == "share" else number(value)


# -- numbers of the model alone: their key in each section of report.json ----------------------------------

SQUARED = "model units squared"
SECTIONS: dict[str, tuple[Measure, ...]] = {
    "density": (
        Measure("gain", "Log-density beyond the best baseline", "nats per row", "high"),
        Measure("gap", "Log-density of training rows beyond held-out rows", "nats per row", "low"),
    ),
    "motion": (
        Measure(
            "straightness", "Straightness S", SQUARED, "low", "∫ E|dx/dt − (x1 − x0)|² dt; 0 is straight"
        ),
        Measure("relative_straightness", "S relative to transport cost", "ratio", "low", "0 is straight"),
        Measure("cost", "Transport cost", SQUARED, "low", "E|x1 − x0|²"),
        Measure("least", "Least transport cost", SQUARED, "", "W2² of the same starts and ends"),
        Measure("cost_over_least", "Transport cost over the least", "ratio", "low", "1 is optimal"),
        Measure(
            *("normalised_path_energy", "Normalised path energy", "ratio", "low"),
            "|∫ E|dx/dt|² dt − W2²| / W2²; 0 is optimal",
        ),
        Measure("nfe", "Field evaluations per trajectory", "", "low", "mean, by the solver of the run"),
    ),
    "round_trip": (
        Measure(
            "largest",
            "Round trip, largest error",
            "deviations",
            "low",
            "|push(pull(x)) − x| of held-out rows",
        ),
        Measure(
            "median", "Round trip, median error", "deviations", "low", "|push(pull(x)) − x| of held-out rows"
        ),
    ),
    "rounding": (
        Measure(
            *("distance", "Vectors to the point that they are rounded to", "ratio", "low"),
            "over half the least distance of two points; beyond 1 another may be nearer",
        ),
        Measure(
            *("undecided", "Tokens that are rounded to another than the likeliest", "share", "low"),
            "by the posterior at the last time",
        ),
    ),
    "sampler": (Measure("nfe", "Field evaluations per sample", "", "low"),),
    "summary": (Measure("parameters", "Parameters"), Measure("seconds", "Training time", "s")),
}


# -- measures of the model, of baselines and of real rows ---------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """How the headline judges by a measure.

    name: of the measure in a sentence.  by_error: whether spreads are standard errors, and not deviations
    over draws.  like_real: whether real rows are a baseline, too.
    """

    name: str
    by_error: bool = False
    like_real: bool = False


@dataclass(frozen=True)
class Line:
    """A measure of ``model``, of baselines' draws by their keys, of class ``means`` and of ``real`` rows.

    judged: None where the headline does not judge by it.  least_spread: below this a spread is chance.
    """

    measure: Measure
    values: dict[str, Value]
    judged: Judged | None = None
    least_spread: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        measure, values = self.measure, {name: value.to_json() for name, value in self.values.items()}
        told = {"key": measure.key, "label": measure.label, "unit": measure.unit, "better": measure.better}
        return {**told, **values}


@dataclass(frozen=True)
class Comparison:
    """A measure that has a line in the verdict: ``of`` gives its values by key, ``when`` it applies."""

    measure: Measure
    of: Values
    when: When
    judged: Judged | None = None

    def line(self, loaded: LoadedRun, evidence: Evidence) -> Line:
        """The line of a run."""
        measure = replace(self.measure, label=self.measure.label.replace("dimension", loaded.element))
        if measure.unit == DISTANCE:
            measure = replace(measure, unit=loaded.distance_unit)
        # accuracies of real rows scatter by chance at least this much, however few draws say otherwise
        least = 0.5 / math.sqrt(2 * loaded.rows) if measure.unit == "share" else 0.0
        return Line(measure, self.of(loaded, evidence), self.judged, least)


def comparisons(left_out: LeftOut) -> list[Comparison]:
    """All of them, in the order of the table; every metric of the registry that can be made is one."""
    log_density = Measure("log_density", "Held-out log-density", "nats per row", "high")
    bits = Measure("bits_per_dim", "Bits per dimension", "bits", "low")
    labels = Measure("label_accuracy", "Classifier accuracy on samples", "share", "high")
    near = Measure("memorisation", "Near-copies of training rows", "share", "real")
    metrics = [left_out.attempt(f"metric {name}", None, _by_metric, name) for name in METRICS]
    read = Judged("classifier accuracy", by_error=True, like_real=True)
    return [
        *_by_density(log_density, _log_densities, "at least"),
        *_by_density(bits, _bits, "at most"),
        *(metric for metric in metrics if metric is not None),
        _compared("pairs", Pairs(), _texts_drawn),
        Comparison(labels, _labels, _several_labels, read),
        Comparison(near, _near, lambda loaded, evidence: evidence.memorisation is not None),
    ]


def _by_density(measure: Measure, of: Values, bound: str) -> list[Comparison]:
    """The comparison of exact densities, and that of bounds, whose label says so."""
    bounded = replace(measure, label=f"{measure.label}, {bound}")
    return [
        Comparison(measure, of, lambda run, found: bool(of(run, found)) and not found.densities.bound),
        Comparison(bounded, of, lambda run, found: bool(of(run, found)) and found.densities.bound),
    ]


def _by_metric(name: str) -> Comparison:
    """The comparison by a metric of the registry."""
    return _compared(name.replace("-", "_"), create("metric", name), _rows_drawn)


def _rows_drawn(loaded: LoadedRun, evidence: Evidence) -> bool:
    return bool(evidence.clouds) and loaded.look != "text"


def _texts_drawn(loaded: LoadedRun, evidence: Evidence) -> bool:
    return bool(evidence.clouds) and loaded.look == "text"


def _compared(key: str, metric: Metric, when: When) -> Comparison:
    """The comparison by a metric."""
    measure = Measure(key, metric.label, metric.unit, metric.better)
    judged = Judged(metric.short) if metric.short and metric.better != "real" else None

    def of(loaded: LoadedRun, evidence: Evidence) -> dict[str, Value]:
        """Of every cloud and of training rows, means over draws."""
        held, n = loaded.scale(loaded.reference.x), loaded.rows
        repeats = loaded.repeats[metric.costly]

        def value(draws: Sequence[Tensor]) -> Value:
            numbers = [metric.measure(loaded.scale(x), held, loaded.seed) for x in draws]
            found = torch.tensor(numbers, dtype=torch.float64)
            return Value(float(found.mean()), float(found.std()) if len(found) > 1 else None)

        values = {key: value(x.split(n)[: min(repeats, len(x) // n)]) for key, x in evidence.clouds.items()}
        return {**values, "real": value([loaded.like_reference(i) for i in range(repeats)])}

    return Comparison(measure, of, when, judged)


def _log_densities(loaded: LoadedRun, evidence: Evidence) -> dict[str, Value]:
    """Of the model and of the baselines that were drawn from."""
    return {d.key: d.mean for d in evidence.densities.table if d.key in ("model", *evidence.clouds)}


def _bits(loaded: LoadedRun, evidence: Evidence) -> dict[str, Value]:
    shown = [d for d in evidence.densities.table if d.key in ("model", *evidence.clouds)]
    return {d.key: Value(d.bits) for d in shown if d.bits is not None}


def _several_labels(loaded: LoadedRun, evidence: Evidence) -> bool:
    labels = loaded.labels(loaded.train)
    return bool(evidence.clouds) and labels is not None and len(labels.unique()) > 1


def _labels(loaded: LoadedRun, evidence: Evidence) -> dict[str, Value]:
    """How often a classifier gives samples the label that they were drawn under."""
    train = loaded.subset(loaded.train, 4000, "reader")
    known, want = loaded.labels(train), loaded.sampled_labels
    real = loaded.subset(loaded.test, 2000, "read")
    asked = loaded.labels(real)
    assert known is not None and want is not None and asked is not None

    def read(x: Tensor, labels: Tensor) -> Value:
        share = label_accuracy(train.x, known, x, labels)
        return Value(share, math.sqrt(share * (1 - share) / len(labels)))

    return {**{name: read(x, want) for name, x in evidence.clouds.items()}, "real": read(real.x, asked)}


def _near(loaded: LoadedRun, evidence: Evidence) -> dict[str, Value]:
    near = evidence.memorisation
    return {} if near is None else {name: near.share(name) for name in near.distances}
