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
from .densities import Densities, Density, evaluate, is_exact
from .formatting import Value
from .headline import Cause, Headline
from .lines import Line
from .loaded_run import LoadedRun
from .mass import Mass, measure_mass
from .memorisation import Memory, memory
from .remedy import remedy
from .validation import course


@dataclass
class Verdict:
    """All numbers of the top of a report.

    names: of the baselines, by key.  best: the key of the one under which held-out rows are likeliest.
    beats: the measures in which the model is better, for every baseline that was drawn from.
    memory, mass: None where they could not be measured.
    """

    lines: list[Line]
    densities: list[Density]
    density_facts: dict[str, Any]
    memory: Memory | None
    mass: Mass | None
    names: dict[str, str]
    best: str
    missing: list[str]
    headline: Headline
    beats: dict[str, list[str]] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What the headline says."""
        return self.headline.sentence

    @property
    def sampled(self) -> bool:
        """Whether there are samples."""
        return self.memory is not None or any(line.short for line in self.lines)

    def line(self, key: str) -> Line | None:
        """The line of a measure, if it was taken."""
        return next((line for line in self.lines if line.key == key), None)


def judge(loaded: LoadedRun) -> Verdict:
    """Take every measure that makes sense for the kind of data, and conclude; see :meth:`LeftOut.attempt`."""
    attempt = loaded.left_out.attempt
    baselines, missing = fit_baselines(loaded)
    names = {baseline.key: baseline.name for baseline in baselines}
    density = attempt("exact density" if is_exact(loaded) else "density", None, evaluate, loaded, baselines)
    density = density or Densities([], baselines[0] if baselines else None, {})
    table, facts, best = density.table, density.facts, density.best.key if density.best else ""
    clouds = attempt("samples", {}, lambda: {"model": loaded.drawn.x})
    near = kernels = mass = None
    measures = []
    if clouds:
        for baseline in drawn_from(baselines, density.best):
            clouds |= attempt(f"draws of the {baseline.name}", {}, _drawn, loaded, baseline)
        near = attempt("nearest training rows", None, memory, loaded, clouds)
        if near is not None:
            kernels = attempt("nearness of kernels", None, _kernels, loaded, baselines, near)
        measures = _measures(loaded)
    if table and not facts["bound"]:
        mass = attempt("mass of the density", None, measure_mass, loaded, baselines)
    beside = [key for key in clouds if key != "model"]
    if clouds and loaded.labelled and loaded.look == "image":
        clouds |= attempt("class means", {}, lambda: {"means": class_means(loaded)})
    lines = _density_lines(table, facts, beside)
    for measure in measures:
        line = attempt(measure.label, None, measure.line, loaded, clouds)
        lines += [line] if line is not None else []
    if clouds:
        lines += attempt("labels read from samples", [], _labels, loaded, clouds)
    if near is not None:
        shares = {name: near.share(name) for name in near.distances}
        label = "Nearer to training rows than their 1 % quantile"
        lines.append(Line("memorisation", label, "share", "real", shares))
    beats = {key: [line.key for line in lines if _better(line, key, table)] for key in beside}
    headline = conclude(loaded, table, facts, best, names, lines, near, kernels, mass)
    return Verdict(lines, table, facts, near, mass, names, best, missing, headline, beats)


def _drawn(loaded: LoadedRun, baseline: Baseline) -> dict[str, Tensor]:
    return {baseline.key: baseline.draw(loaded)}


def drawn_from(baselines: list[Baseline], best: Baseline | None) -> list[Baseline]:
    """The best baseline, and the Gaussian."""
    gaussian = [b for b in baselines if b.key == "gaussian" and b is not best]
    return gaussian if best is None else [best, *gaussian]


def _kernels(loaded: LoadedRun, baselines: list[Baseline], near: Memory) -> tuple[int, int] | None:
    """How near draws of kernel densities come to training rows, where the flow started from such."""
    if "kernels" not in str(loaded.run.summary.get("start") or ""):
        return None
    found = [near.near_of(loaded, b.draw(loaded)) for b in baselines if b.key.startswith("kernel")]
    return max(found, key=lambda counts: counts[0] / counts[1], default=None)


def class_means(loaded: LoadedRun) -> Tensor:
    """For every sample the mean training image of the label that was asked for."""
    have, want = loaded.labels(loaded.train), loaded.sampled_condition
    assert have is not None and isinstance(want, Tensor)
    labels = want.unique()
    means = torch.stack([loaded.train.x[have == label].double().mean(0) for label in labels])
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


@dataclass(frozen=True)
class Measure:
    """What compares a cloud ``(n, *event)`` of scaled rows with the held-out rows; lower is better.

    short: its name in a sentence.  repeats: how many draws are taken.
    """

    key: str
    label: str
    short: str
    unit: str
    of: Callable[[Tensor], float]
    repeats: int

    def line(self, loaded: LoadedRun, clouds: dict[str, Tensor]) -> Line:
        """The measure of every cloud and of real training rows, mean over draws."""
        n = loaded.rows

        def value(draws: list[Tensor]) -> Value:
            found = torch.tensor([self.of(loaded.scaled(x)) for x in draws], dtype=torch.float64)
            return Value(float(found.mean()), float(found.std()) if len(found) > 1 else None)

        values = {
            name: value(list(x.split(n))[: min(self.repeats, len(x) // n)]) for name, x in clouds.items()
        }
        values["real"] = value([loaded.like_reference(i) for i in range(self.repeats)])
        # accuracies of real rows scatter by chance at least this much, however few draws say otherwise
        least = 0.5 / math.sqrt(2 * n) if self.unit == "share" else 0.0
        return Line(self.key, self.label, self.unit, "low", values, self.short, least)


def _measures(loaded: LoadedRun) -> list[Measure]:
    """The measures of samples."""
    held = loaded.scaled(loaded.reference.x)
    often, seldom = loaded.repeats
    unit = loaded.distance_unit
    folds = min(5, loaded.rows)
    return [
        Measure(
            "two_sample_accuracy",
            "Two-sample accuracy (50 % is by chance)",
            "two-sample accuracy",
            "share",
            lambda x: two_sample_accuracy(x, held, folds=folds, seed=loaded.seed),
            seldom,
        ),
        Measure(
            "energy_distance",
            "Energy distance",
            "energy distance",
            unit,
            lambda x: energy_distance(x, held),
            often,
        ),
        Measure("wasserstein", "Wasserstein distance W2", "W2", unit, lambda x: wasserstein(x, held), seldom),
        Measure(
            "sliced_wasserstein",
            "Sliced W2",
            "sliced W2",
            unit,
            lambda x: sliced_wasserstein(x, held, generator=loaded.generator("directions")),
            often,
        ),
    ]


def _labels(loaded: LoadedRun, clouds: dict[str, Tensor]) -> list[Line]:
    """How often a classifier gives samples the label that they were drawn under."""
    have, want = loaded.labels(loaded.train), loaded.sampled_condition
    if have is None or not isinstance(want, Tensor) or len(have.unique()) < 2:
        return []
    train = loaded.some(loaded.train, 4000, "reader")
    known = loaded.labels(train)
    assert known is not None

    def read(x: Tensor, labels: Tensor) -> Value:
        share = label_accuracy(train.x, known, x, labels)
        return Value(share, math.sqrt(share * (1 - share) / len(labels)))

    values = {name: read(x, want) for name, x in clouds.items()}
    real = loaded.some(loaded.test, 2000, "read")
    real_labels = loaded.labels(real)
    assert real_labels is not None
    values["real"] = read(real.x, real_labels)
    label = "Classifier accuracy on samples"
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
    loaded: LoadedRun,
    table: list[Density],
    facts: dict[str, Any],
    best: str,
    names: dict[str, str],
    lines: list[Line],
    near: Memory | None,
    kernels: tuple[int, int] | None = None,
    mass: Mass | None = None,
) -> Headline:
    """Apply every rule, and say what follows."""
    summary = loaded.run.summary
    # where values repeat, log-densities have no bound, and a comparison of them says nothing
    repeats = rules.repeated(facts.get("atoms", []), loaded.schema.duplicates, loaded.total)
    wrong = None if mass is None else rules.wrong_mass(mass)
    sound = [] if repeats or wrong else table
    judged = [line for line in lines if line.short]
    ran = course(loaded.run)
    found: list[Cause | None] = [
        wrong,
        rules.few_rows(loaded.unseen),
        rules.unmeasured(bool(judged), loaded.left_out),
        repeats,
        rules.below(sound, names),
        rules.overfitted(sound, names, bool(summary.get("start"))),
        rules.risen(ran),
        near and rules.copied(*near.near("model"), *near.near("real"), len(near.train), kernels, near.beside),
        *(rules.beaten(line, names) for line in judged),
        rules.far(next((line for line in lines if line.key == "two_sample_accuracy"), None)),
    ]
    causes = [cause for cause in found if cause is not None]
    kind = rules.kind_of(causes, ran)
    if kind == "good":
        text = sentences.praise(sound, best, lines, names, loaded.rows)
    else:
        text = sentences.sentence_of(kind, causes)
    more = sentences.learnt_beyond(summary)
    text = f"{text} {more}" if more else text
    return Headline(kind, text, causes, remedy(kind, loaded.run, ran))
