"""The verdict: how near the model comes to held-out rows, beside baselines and beside real rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..metrics import energy_distance, label_accuracy, sliced_wasserstein, two_sample_accuracy, wasserstein
from . import headline as rules
from . import sentences
from .baselines import Baseline, fit_baselines
from .densities import Density, evaluate
from .headline import Cause, Headline
from .history import course
from .lines import Line
from .memory import Memory, memory
from .mending import mending
from .subject import Subject
from .words import Value

#: A measure compares a cloud ``(n, *event)`` with the held-out rows.
Measure = Callable[[Tensor], float]


@dataclass
class Verdict:
    """All numbers of the top of a report.

    names: of the baselines, by key.  best: the key of the one under which held-out rows are likeliest.
    beats: the measures in which the model is better, for every baseline that was drawn from.
    """

    lines: list[Line]
    densities: list[Density]
    density_facts: dict[str, Any]
    memory: Memory
    names: dict[str, str]
    best: str
    missing: list[str]
    headline: Headline
    beats: dict[str, list[str]] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What the headline says."""
        return self.headline.sentence

    def line(self, key: str) -> Line | None:
        """The line of a measure, if it was taken."""
        return next((line for line in self.lines if line.key == key), None)


def judge(subject: Subject) -> Verdict:
    """Take every measure that makes sense for the kind of data, and conclude."""
    baselines, missing = fit_baselines(subject)
    names = {baseline.key: baseline.name for baseline in baselines}
    density = evaluate(subject, baselines)
    table, facts = density.table, density.facts
    clouds = {"model": subject.drawn.x}
    clouds |= {b.key: b.draw(subject) for b in drawn_from(baselines, density.best)}
    beside = [key for key in clouds if key != "model"]
    near = memory(subject, clouds)
    if subject.labelled and subject.look == "image":
        clouds["means"] = class_means(subject)
    lines = _density_lines(table, facts, beside)
    lines += [compare(subject, *entry, clouds) for entry in _measures(subject)]
    lines += _labels(subject, clouds)
    shares = {name: near.share(name) for name in near.distances}
    label = "Nearer to training rows than their 1 % quantile"
    lines.append(Line("memorisation", label, "share", "real", shares))
    beats = {key: [line.key for line in lines if _better(line, key, table)] for key in beside}
    kernels = _kernels(subject, baselines, near)
    headline = conclude(subject, table, facts, density.best.key, names, lines, near, kernels)
    return Verdict(lines, table, facts, near, names, density.best.key, missing, headline, beats)


def drawn_from(baselines: list[Baseline], best: Baseline) -> list[Baseline]:
    """The best baseline, and the Gaussian."""
    return [best] + [b for b in baselines if b.key == "gaussian" and best.key != "gaussian"]


def _kernels(subject: Subject, baselines: list[Baseline], near: Memory) -> tuple[int, int] | None:
    """How near draws of kernel densities come to training rows, where the flow started from such."""
    if "kernels" not in str(subject.run.summary.get("start") or ""):
        return None
    found = [near.near_of(subject, b.draw(subject)) for b in baselines if b.key.startswith("kernel")]
    return max(found, key=lambda counts: counts[0] / counts[1], default=None)


def class_means(subject: Subject) -> Tensor:
    """For every sample the mean training image of the label that was asked for."""
    have, want = subject.labels(subject.train), subject.sampled_condition
    assert have is not None and isinstance(want, Tensor)
    labels = want.unique()
    means = torch.stack([subject.train.x[have == label].double().mean(0) for label in labels])
    return means[torch.searchsorted(labels, want)]


def _density_lines(table: list[Density], facts: dict[str, Any], beside: list[str]) -> list[Line]:
    shown = [density for density in table if density.key in ("model", *beside)]
    if not shown:
        return []
    label = "Held-out log-density" + (", at least" if facts["bound"] else "")
    values = {d.key: Value(d.mean, d.error) for d in shown}
    lines = [Line("log_density", label, "nats per row", "high", values)]
    bits = {d.key: Value(d.bits) for d in shown if d.bits is not None}
    if bits:
        label = "Bits per dimension" + (", at most" if facts["bound"] else "")
        lines.append(Line("bits_per_dim", label, "bits", "low", bits))
    return lines


def _measures(subject: Subject) -> list[tuple[str, str, str, str, Measure, int]]:
    """Key, label, name in a sentence, unit, the measure of scaled rows, and how many draws are taken."""
    held = subject.scaled(subject.reference.x)
    often, seldom = subject.repeats
    unit = subject.distance_unit
    folds = min(5, subject.rows)
    return [
        (
            "two_sample_accuracy",
            "Two-sample accuracy (50 % is by chance)",
            "two-sample accuracy",
            "share",
            lambda x: two_sample_accuracy(x, held, folds=folds, seed=subject.seed),
            seldom,
        ),
        (
            "energy_distance",
            "Energy distance",
            "energy distance",
            unit,
            lambda x: energy_distance(x, held),
            often,
        ),
        ("wasserstein", "Wasserstein distance W2", "W2", unit, lambda x: wasserstein(x, held), seldom),
        (
            "sliced_wasserstein",
            "Sliced W2",
            "sliced W2",
            unit,
            lambda x: sliced_wasserstein(x, held, generator=subject.generator("directions")),
            often,
        ),
    ]


def compare(
    subject: Subject,
    key: str,
    label: str,
    short: str,
    unit: str,
    measure: Measure,
    repeats: int,
    clouds: dict[str, Tensor],
) -> Line:
    """A measure against the held-out rows, of every cloud and of real training rows, mean over draws."""
    n = subject.rows

    def value(draws: list[Tensor]) -> Value:
        found = torch.tensor([measure(subject.scaled(x)) for x in draws], dtype=torch.float64)
        return Value(float(found.mean()), float(found.std()) if len(found) > 1 else None)

    values = {name: value(list(x.split(n))[: min(repeats, len(x) // n)]) for name, x in clouds.items()}
    values["real"] = value([subject.like_reference(i) for i in range(repeats)])
    # accuracies of real rows scatter by chance at least this much, however few draws say otherwise
    least = 0.5 / math.sqrt(2 * n) if unit == "share" else 0.0
    return Line(key, label, unit, "low", values, short, least)


def _labels(subject: Subject, clouds: dict[str, Tensor]) -> list[Line]:
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

    values = {name: read(x, want) for name, x in clouds.items()}
    real = subject.some(subject.test, 2000, "read")
    real_labels = subject.labels(real)
    assert real_labels is not None
    values["real"] = read(real.x, real_labels)
    label = "Read as the label asked for"
    return [Line("label_accuracy", label, "share", "high", values, "labels read right")]


def _better(line: Line, key: str, table: list[Density]) -> bool:
    """Whether the model has the better number than a baseline."""
    if line.better == "real" or key not in line.values:
        return False
    if line.key == "log_density":
        return any(d.key == key and d.gain is not None and d.gain > 0 for d in table)
    mine, other = line.values["model"].value, line.values[key].value
    return mine > other if line.better == "high" else mine < other


def conclude(
    subject: Subject,
    table: list[Density],
    facts: dict[str, Any],
    best: str,
    names: dict[str, str],
    lines: list[Line],
    near: Memory,
    kernels: tuple[int, int] | None = None,
) -> Headline:
    """Apply every rule, and say what follows."""
    summary = subject.run.summary
    # where values repeat, log-densities have no bound, and a comparison of them says nothing
    repeats = rules.repeated(facts.get("atoms", []), subject.schema.duplicates, subject.total)
    sound = [] if repeats else table
    ran = course(subject.run)
    found: list[Cause | None] = [
        rules.few_rows(subject.unseen),
        repeats,
        rules.below(sound, names),
        rules.overfitted(sound, names, bool(summary.get("start"))),
        rules.risen(ran),
        rules.copied(*near.near("model"), *near.near("real"), len(near.train), kernels, near.beside),
        *(rules.beaten(line, names) for line in lines if line.short),
        rules.far(next((line for line in lines if line.key == "two_sample_accuracy"), None)),
    ]
    causes = [cause for cause in found if cause is not None]
    kind = rules.kind_of(causes, ran)
    if kind == "good":
        text = sentences.praise(sound, best, lines, names, subject.rows)
    else:
        text = sentences.sentence_of(kind, causes)
    more = sentences.learnt_beyond(summary)
    text = f"{text} {more}" if more else text
    return Headline(kind, text, causes, mending(kind, subject.run, ran))
