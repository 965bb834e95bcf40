"""The verdict: how near the model comes to held-out rows, beside a Gaussian and beside real rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..metrics import (
    energy_distance,
    label_accuracy,
    memorisation_threshold,
    nearest,
    sliced_wasserstein,
    two_sample_accuracy,
    wasserstein,
)
from ..sources import Source
from . import densities
from .densities import Density
from .subject import Subject
from .words import Value, number, pair

#: A measure compares a cloud ``(n, *event)`` with the held-out rows.
Measure = Callable[[Tensor], float]
Better = Literal["low", "high", "real"]


@dataclass(frozen=True)
class Line:
    """One measure, for the model and what stands beside it: ``gaussian``, ``means`` and ``real``."""

    key: str
    label: str
    unit: str
    better: Better
    values: dict[str, Value]
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        values = {name: value.to_json() for name, value in self.values.items()}
        return {"key": self.key, "label": self.label, "unit": self.unit, "better": self.better, **values}


@dataclass(frozen=True)
class Memory:
    """How near samples, the Gaussian's draws and held-out rows come to training rows.

    threshold: the 1 % quantile of the training rows' own leave-one-out nearest distances.
    index: for every sample its nearest row of ``train``.
    """

    threshold: float
    distances: dict[str, Tensor]
    index: Tensor
    train: Tensor

    def share(self, name: str) -> Value:
        """Share of a cloud nearer than the threshold, and its standard error."""
        near = (self.distances[name] < self.threshold).double()
        share = float(near.mean())
        return Value(share, math.sqrt(share * (1 - share) / len(near)))

    def line(self) -> Line:
        """The shares as a line of the verdict."""
        label = "Nearer to training rows than their 1 % quantile"
        shares = {name: self.share(name) for name in self.distances}
        return Line("memorisation", label, "share", "real", shares)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "threshold": self.threshold,
            "train_rows": len(self.train),
            "share": {name: self.share(name).value for name in self.distances},
            "median": {name: float(distance.median()) for name, distance in self.distances.items()},
        }


@dataclass
class Verdict:
    """All numbers of the top of a report."""

    lines: list[Line]
    densities: list[Density]
    density_facts: dict[str, Any]
    memory: Memory
    sentence: str = ""
    beats: list[str] = field(default_factory=list)

    def line(self, key: str) -> Line | None:
        """The line of a measure, if it was taken."""
        return next((line for line in self.lines if line.key == key), None)


def judge(subject: Subject) -> tuple[Verdict, Source]:
    """Take every measure that makes sense for the kind of data; also the Gaussian it compares with."""
    gaussian = densities.gaussian_of(subject)
    rivals = {"gaussian": rival(subject, gaussian)}
    if subject.labelled and subject.look == "image":
        rivals["means"] = class_means(subject)
    model = subject.drawn.x
    lines = [compare(subject, *entry, model, rivals) for entry in _measures(subject)]
    ratio = _ratio(lines)
    lines += [ratio] if ratio else []
    lines += _labels(subject, model, rivals)
    near = memory(subject, model, rivals["gaussian"])
    lines.append(near.line())
    table, facts = densities.evaluate(subject, gaussian)
    if table:
        values = {d.key: Value(d.mean, d.error) for d in table[:2]}
        label = "Held-out log-density" + (", at least" if facts["bound"] else "")
        lines.insert(0, Line("log_density", label, "nats per row", "high", values))
    if table and table[0].bits is not None:
        values = {d.key: Value(d.bits) for d in table[:2] if d.bits is not None}
        label = "Bits per dimension" + (", at most" if facts["bound"] else "")
        lines.insert(1, Line("bits_per_dim", label, "bits", "low", values))
    verdict = Verdict(lines, table, facts, near)
    verdict.sentence, verdict.beats = say(subject, verdict)
    return verdict, gaussian


def rival(subject: Subject, gaussian: Source) -> Tensor:
    """As many draws of the Gaussian as of the model, under the same conditions, and in whole levels."""
    drawn = gaussian.sample(subject.samples, subject.sampled_condition, subject.generator("gaussian"))
    levels = subject.schema.levels
    if levels is not None and subject.dequantised:
        low, high, step = levels
        drawn = (low + step * ((drawn - low) / step).floor()).clamp(low, high)
    return drawn


def class_means(subject: Subject) -> Tensor:
    """For every sample the mean training image of the label that was asked for."""
    have, want = subject.labels(subject.train), subject.sampled_condition
    assert have is not None and isinstance(want, Tensor)
    labels = want.unique()
    means = torch.stack([subject.train.x[have == label].double().mean(0) for label in labels])
    return means[torch.searchsorted(labels, want)]


def _measures(subject: Subject) -> list[tuple[str, str, str, Measure, int]]:
    """Key, label, unit, the measure, and on how many draws the floor is taken."""
    held = subject.reference.x.double()
    often, seldom = subject.repeats
    unit = subject.unit
    measures: list[tuple[str, str, str, Measure, int]] = []
    if subject.deviation is not None:
        text = "Energy distance, columns in their deviations"
        measures.append(
            ("energy_distance_scaled", text, "deviations", lambda x: subject.energy(x, held), often)
        )
    measures += [
        ("energy_distance", "Energy distance", unit, lambda x: energy_distance(x, held), often),
        (
            "two_sample_accuracy",
            "Two-sample accuracy (0.5 is by chance)",
            "share",
            lambda x: two_sample_accuracy(x, held, folds=min(5, subject.rows), seed=subject.seed),
            seldom,
        ),
        ("wasserstein", "Wasserstein distance W2", unit, lambda x: wasserstein(x, held), seldom),
        (
            "sliced_wasserstein",
            "Sliced W2",
            unit,
            lambda x: sliced_wasserstein(x, held, generator=subject.generator("directions")),
            often,
        ),
    ]
    return measures


def compare(
    subject: Subject,
    key: str,
    label: str,
    unit: str,
    measure: Measure,
    repeats: int,
    model: Tensor,
    rivals: dict[str, Tensor],
) -> Line:
    """A measure against the held-out rows: of the model, of its rivals, and of real training rows."""
    n = subject.rows
    draws = [measure(subject.like_reference(i).double()) for i in range(repeats)]
    floor = torch.tensor(draws, dtype=torch.float64)
    values = {"model": Value(measure(model[:n].double()))}
    values |= {name: Value(measure(x[:n].double())) for name, x in rivals.items()}
    values["real"] = Value(float(floor.mean()), float(floor.std()))
    return Line(key, label, unit, "low", values)


def _ratio(lines: list[Line]) -> Line | None:
    """W2 as a multiple of what real training rows reach."""
    line = next((line for line in lines if line.key == "wasserstein"), None)
    if line is None or line.values["real"].value == 0:
        return None
    base = line.values["real"].value
    values = {name: Value(value.value / base) for name, value in line.values.items()}
    return Line("wasserstein_ratio", "W2 relative to real rows", "ratio", "low", values)


def _labels(subject: Subject, model: Tensor, rivals: dict[str, Tensor]) -> list[Line]:
    """How often samples are read as the label that was asked for."""
    have, want = subject.labels(subject.train), subject.sampled_condition
    if have is None or not isinstance(want, Tensor) or len(have.unique()) < 2:
        return []
    train = subject.some(subject.train, 4000, "reader")
    known = subject.labels(train)
    assert known is not None

    def read(x: Tensor, labels: Tensor) -> Value:
        share = label_accuracy(train.x, known, x, labels)
        return Value(share, math.sqrt(share * (1 - share) / len(labels)))

    values = {"model": read(model, want)}
    values |= {name: read(x, want) for name, x in rivals.items()}
    real = subject.some(subject.test, 2000, "read")
    real_labels = subject.labels(real)
    assert real_labels is not None
    values["real"] = read(real.x, real_labels)
    return [Line("label_accuracy", "Read as the label asked for", "share", "high", values)]


def memory(subject: Subject, model: Tensor, gaussian: Tensor) -> Memory:
    """Distances to the nearest training row, of samples and of held-out rows."""
    # All pairs of many large rows would take minutes; a tree has no such trouble in few dimensions.
    most = 20_000 if subject.size <= 16 else max(500, int(math.sqrt(1.5e9 / subject.size)))
    train = subject.some(subject.train, most, "memory").x
    clouds = {"model": model, "gaussian": gaussian, "real": subject.reference.x}
    found = {name: nearest(x.double(), train.double()) for name, x in clouds.items()}
    distances = {name: distance for name, (distance, _) in found.items()}
    return Memory(memorisation_threshold(train), distances, found["model"][1], train)


def say(subject: Subject, verdict: Verdict) -> tuple[str, list[str]]:
    """One or two plain sentences: does the model beat the Gaussian, how far is it from real rows."""
    judged = [
        line
        for line in verdict.lines
        if line.key in ("log_density", "energy_distance", "energy_distance_scaled", "two_sample_accuracy")
        or line.key in ("wasserstein", "sliced_wasserstein", "label_accuracy")
    ]
    beats = [line.key for line in judged if _better(line, verdict)]
    count = f"{len(beats)} of {len(judged)} measures" if len(beats) < len(judged) else "every measure"
    if not beats:
        first = f"The model beats the Gaussian baseline on none of {len(judged)} measures."
    else:
        first = f"The model beats the Gaussian baseline on {count}."
    main = verdict.line("energy_distance_scaled") or verdict.line("energy_distance")
    assert main is not None
    mine, rival_, floor = (main.values[name] for name in ("model", "gaussian", "real"))
    spread = floor.spread or 0.0
    figures = (
        f"its energy distance to {'held-out' if subject.held_out else 'training'} rows is "
        f"{number(mine.value)}, the Gaussian's {number(rival_.value)}, and as many real rows reach "
        f"{pair(floor)}"
    )
    room = rival_.value - floor.value
    if mine.value <= floor.value + 2 * spread:
        end = f"At {subject.rows:,} rows it is as near to real data as other real data are: {figures}."
    elif room <= 2 * spread:
        end = f"Here a Gaussian is already as good as real rows: {figures}."
    elif mine.value >= rival_.value:
        end = f"It is farther from real data than the Gaussian: {figures}."
    else:
        way = min(0.99, (rival_.value - mine.value) / room)
        end = f"It has gone {100 * way:.0f} % of the way from the Gaussian to real data: {figures}."
    return f"{first} {end}", beats


def _better(line: Line, verdict: Verdict) -> bool:
    mine, other = line.values["model"].value, line.values["gaussian"].value
    if line.key == "log_density":
        rival_ = verdict.densities[1]
        return rival_.gain is not None and rival_.gain > 0
    return mine > other if line.better == "high" else mine < other
