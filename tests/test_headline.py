"""The headline of the report: its rules on plain numbers, the validation loss, the command that improves."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from narrowing import known
from pushforward import random
from pushforward.config import DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.couplings import Rows
from pushforward.data import Schema
from pushforward.report import headline, rules
from pushforward.report.densities import Density, Lead
from pushforward.report.figures.curves import training
from pushforward.report.formatting import Value
from pushforward.report.loaded_run import LoadedRun
from pushforward.report.measures import Judged, Line, Measure
from pushforward.report.remedy import remedy
from pushforward.report.sentences import learnt_beyond
from pushforward.report.validation import ValidationLoss, validation_loss
from pushforward.report.verdict import judge
from pushforward.sources import GaussianMixture, Normal
from report_cases import make_run, table_run

NAMES = {"gaussian": "Gaussian", "mixture": "Gaussian mixture", "kernel_gaussian": "Gaussian kernel density"}


def ring() -> GaussianMixture:
    angle = torch.arange(4, dtype=torch.float64) * math.pi / 2
    return GaussianMixture(3 * torch.stack([angle.cos(), angle.sin()], 1), 0.3)


def verdict_of(run):
    return judge(LoadedRun(run))


# -- the rules on numbers ------------------------------------------------------------------------------------


def density(key="gaussian", gain=0.0, error=0.1, gap=0.0, excess=0.0, mean=-2.0, **more) -> Density:
    lead = Lead(Value(gain, error), Value(excess, 0.1))
    return Density(key, key, Value(mean, 0.1), Value(gap, 0.1), lead=lead, **more)


def model(gap: float) -> Density:
    return replace(density("model", gap=gap), lead=None)


def test_below_takes_more_than_a_standard_error():
    def below(*found):
        return rules.below([model(0.0), *found], NAMES)

    assert below(density(gain=-0.1, error=0.12)) is None
    cause = below(density(gain=-0.2, error=0.1))
    assert cause is not None and not cause.clear
    assert (
        cause.text
        == "the mean log-density of held-out rows is 0.20 ± 0.10 nats lower than under the Gaussian"
    )
    cause = below(density(gain=-0.4, error=0.1), density("mixture", gain=-0.5, error=0.1, mean=-1.5))
    assert cause is not None and cause.clear and "under the Gaussian mixture" in cause.text
    # Small differences must be beyond doubt, and rounding is none.
    assert below(density(gain=-0.03, error=0.02)) is None
    assert below(density(gain=-0.03, error=0.005)) is not None
    assert below(density(gain=-1e-6, error=1e-9)) is None


def test_gap_must_exceed_noise_that_of_the_baseline_and_the_gain():
    def gap(wide, *found, started=False):
        return rules.overfitted([model(wide), *found], NAMES, started)

    accused = gap(1.0, density(gain=-0.5, gap=0.1, excess=0.9))
    assert accused is not None and "is 1.00 ± 0.10 nats higher" in accused.text
    assert "(0.10 under the Gaussian)" in accused.text
    assert gap(0.15, density(excess=0.9)) is None, "within two standard errors"
    assert gap(1.0, density(gap=0.9, excess=0.1)) is None, "fitting a Gaussian to so few rows does as much"
    assert gap(1.0, density(gain=1.5, gap=0.1, excess=0.9)) is None, "most of the advantage is real"
    # Kernels have a wide gap by construction, which excuses nothing unless the flow started from them.
    kernels = density("kernel_gaussian", gap=3.0, excess=-2.0, mean=-1.0)
    assert gap(1.0, density(gain=-0.5, gap=0.1, excess=0.9), kernels) is not None
    assert gap(1.0, density(gain=-0.5, gap=0.1, excess=0.9), kernels, started=True) is None
    behind = density("kernel_gaussian", gain=-1.0, gap=3.0, excess=-2.0, mean=-1.0)
    assert gap(1.0, density(gain=-0.5, gap=0.1, excess=0.9), behind, started=True) is not None


def test_copies_are_told_from_chance():
    assert rules.copied(40, 2000, 0, 100, 400) is None
    assert rules.copied(400, 2000, 0, 28, 114) is not None, "a fifth of the samples"
    assert rules.copied(300, 2000, 10, 100, 400) is None, "as many of the held-out rows"
    assert rules.copied(200, 2000, 0, 20, 80) is None, "20 held-out rows cannot exclude a tenth"
    found = rules.copied(1990, 2000, 1, 100, 400)
    assert found is not None and found.clear
    # A flow that started from kernels may be as near as they are, unless it does nothing but copy.
    assert rules.copied(400, 2000, 0, 28, 114, (380, 2000)) is None
    assert rules.copied(400, 2000, 0, 28, 114, (200, 2000)) is not None
    assert rules.copied(400, 2000, 0, 28, 114, None, (60, 100)) is None, "as near to rows never seen"
    assert rules.copied(400, 2000, 0, 28, 114, None, (10, 100)) is not None
    assert rules.copied(1990, 2000, 1, 100, 400, (2000, 2000)) is not None


def line(model: float, baseline: float, real: float, spread: float, key="energy_distance") -> Line:
    values = {"model": Value(model, spread), "mixture": Value(baseline, spread), "real": Value(real, spread)}
    measure = Measure(key, key, "share" if "accuracy" in key else "deviations", "low")
    return Line(measure, values, Judged(key), 0.02)


def test_beaten_takes_three_deviations_over_draws():
    assert rules.beaten(line(0.5, 0.45, 0.4, 0.05), NAMES) is None
    cause = rules.beaten(line(0.7, 0.45, 0.4, 0.05), NAMES)
    assert cause is not None and not cause.clear
    assert (
        cause.text
        == "the energy_distance is 0.700 for the samples, and 0.450 for draws of the Gaussian mixture"
    )
    assert rules.beaten(line(0.9, 0.45, 0.4, 0.05), NAMES) == replace(
        cause,
        clear=True,
        text="the energy_distance is 0.900 for the samples, and 0.450 for draws of the Gaussian mixture",
    )
    # Spreads that happen to be tiny prove nothing: chance is at least as wide, and 5 % do not matter.
    assert rules.beaten(line(0.55, 0.50, 0.5, 0.0, "two_sample_accuracy"), NAMES) is None
    assert rules.beaten(line(45_147.2, 45_147.0, 1.0, 0.0), NAMES) is None
    # Labels are held against real rows too.
    values = {"model": Value(0.7, 0.01), "mixture": Value(0.7, 0.01), "real": Value(0.9, 0.01)}
    judged = Judged("classifier accuracy", by_error=True, like_real=True)
    labels = Line(Measure("label_accuracy", "", "share", "high"), values, judged)
    cause = rules.beaten(labels, NAMES)
    assert (
        cause is not None
        and cause.text == "the classifier accuracy is 70 % for the samples, and 90 % for real rows"
    )


def test_samples_that_are_easily_told_are_not_good():
    assert rules.far(line(0.74, 0.7, 0.5, 0.01, "two_sample_accuracy")) is None
    cause = rules.far(line(0.9, 0.95, 0.5, 0.01, "two_sample_accuracy"))
    assert cause is not None and headline.kind_of([cause]) == "beaten"


def test_kind_follows_the_evidence():
    below, clear = headline.Cause("below", "", False), headline.Cause("below", "")
    gap, rise, copies = (headline.Cause(key, "") for key in ("gap", "rise", "copies"))
    some, beaten = headline.Cause("copies", "", False), headline.Cause("beaten", "", False)
    assert headline.kind_of([]) == "good"
    assert headline.kind_of([headline.Cause("rows", ""), gap]) == "undecided"
    assert headline.kind_of([headline.Cause("repeats", "")]) == "undecided"
    assert headline.kind_of([headline.Cause("repeats", ""), some]) == "copies"
    assert headline.kind_of([clear, gap, some]) == headline.kind_of([rise]) == "overfits"
    assert headline.kind_of([clear, gap, copies]) == headline.kind_of([some]) == "copies"
    assert headline.kind_of([clear]) == headline.kind_of([below, headline.Cause("beaten", "")]) == "underfits"
    assert headline.kind_of([below]) == "below-baseline"
    assert headline.kind_of([beaten]) == "beaten"
    # A run that stopped by itself would not learn more in more steps.
    assert headline.kind_of([clear], ValidationLoss(50, 50, 100, stopped=True)) == "below-baseline"


def test_what_was_learnt_beyond_the_start():
    start = {"start": "a stack of baselines: 51% mixture", "kept_step": 300}
    learnt = {"gain": 0.21, "error": 0.05, "rows": 114, "how": "cross-validation"}
    text = learnt_beyond({**start, "learnt": learnt})
    assert text == (
        "It has learnt 0.210 ± 0.050 nats per row beyond the baseline it started from (a stack of baselines: "
        "51% mixture), by cross-validation of 114 rows."
    )
    nothing = "It has learnt nothing beyond the baseline it started from (a stack of baselines: 51% mixture)."
    assert learnt_beyond({**start, "learnt": {**learnt, "gain": 0.04}}) == nothing
    assert learnt_beyond({**start, "kept_step": 0}) == nothing
    assert learnt_beyond({}) == learnt_beyond({"learnt": None, "kept_step": 5}) == ""


# -- the validation loss -----------------------------------------------------------------------------------


def history(*losses: float) -> list[dict[str, Any]]:
    return [{"step": 10 * i, "loss": 1.0, "val_loss": loss} for i, loss in enumerate(losses, 1)]


def test_course_of_the_validation_loss(tmp_path):
    x = Normal(2).double().sample(60, None, random.seeded("course"))

    def ran(losses, patience=0, steps=50, **summary) -> tuple[ValidationLoss | None, Any]:
        config = RunConfig(target="x.csv", optim=OptimConfig(steps=steps, patience=patience))
        run = table_run(
            tmp_path,
            Normal(2).double(),
            x[20:],
            x[:20],
            history=history(*losses),
            config=config,
            summary=summary,
        )
        return validation_loss(run), run

    rising, run = ran([3.0, 1.0, 1.5, 2.0, 2.5])
    assert rising == ValidationLoss(20, 50, 50, 2.0, 1.5) and known(rising).risen
    (axes,) = training(LoadedRun(run))[0].figure.axes
    assert [np.asarray(mark.get_xdata())[0] for mark in axes.lines if mark.get_linestyle() == "--"] == [50]
    kept, _ = ran([3.0, 1.0, 1.5, 2.0, 2.5], patience=10)
    assert kept is not None and kept.kept == 20 and not kept.risen
    stated, _ = ran([3.0, 1.0, 1.5, 2.0, 2.5], kept_step=0)
    assert stated is not None and stated.kept == 0 and not stated.risen
    falling, _ = ran([3.0, 2.0, 1.0, 0.5, 0.4])
    assert falling is not None and not falling.risen and not falling.settled
    stopped, _ = ran([3.0, 1.0, 1.5, 2.0, 2.5], patience=3, steps=100)
    assert stopped is not None and stopped.settled
    assert ran([])[0] is None
    # The negative log-density has a panel of its own where it was measured.
    run.history = [{**row, "val_nll": 2 * row["val_loss"]} for row in run.history]
    upper, lower = training(LoadedRun(run))[0].figure.axes
    assert lower.get_ylabel() == "nats per row" and len(upper.lines) == 4 and len(lower.lines) == 2


def test_course_of_cross_validation(tmp_path):
    x = Normal(2).double().sample(60, None, random.seeded("course"))
    curve = [{"step": 10 * i, "val_nll": nll} for i, nll in enumerate([3.0, 2.5, 2.7, 2.9])]
    losses = [{"step": 5 * i, "loss": 1.0} for i in (1, 2)]

    def ran(kept, steps=30, history=None):
        config = RunConfig(target="x.csv", optim=OptimConfig(steps=steps, patience=10, folds=5))
        run = table_run(tmp_path, Normal(2).double(), x[20:], x[:20], config=config)
        run.history = [*curve, *losses] if history is None else history
        run.summary = {"kept_step": kept, "finished": True, "start": "100% Gaussian"}
        return validation_loss(run), training(LoadedRun(run))

    def marks(axes):
        return [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]

    found, (picture,) = ran(10)
    assert found is not None and (found.best, found.kept, found.last) == (10, 10, 30)
    assert found.settled and not found.risen, "more steps than were chosen would not help"
    upper, lower = picture.figure.axes
    assert marks(upper) == marks(lower) == [10]
    assert lower.get_legend_handles_labels()[1] == ["rows left out of 5 folds", "kept, step 10"]
    # no step was taken, so that there is no loss; one fold went out of range
    found, (picture,) = ran(0, history=[*curve[:3], {"step": 30}])
    assert found is not None and found.kept == 0 and not found.risen
    (axes,) = picture.figure.axes
    assert marks(axes) == [0] and axes.get_ylabel() == "nats per row"
    assert "the flow is what it started from" in picture.caption and "flow matching" not in picture.caption
    # where the last number of steps was best, more of them may help
    found, _ = ran(30, history=[{"step": row["step"], "val_nll": -row["step"] / 10} for row in curve])
    assert found is not None and not found.settled
    # trifles are no rise of log-densities, though nothing had fallen before
    assert not ValidationLoss(0, 100, 100, 0.0, 0.03, matters=0.05).risen
    assert ValidationLoss(0, 100, 100, 0.0, 0.3, matters=0.05).risen


# -- the command that improves -----------------------------------------------------------------------------


def test_command_that_improves(tmp_path):
    x = Normal(2).double().sample(60, None, random.seeded("command"))
    command = "pushforward train 'my wine.csv' --method nsf --steps 100 --out runs/a --overwrite"

    def ask(kind, command=command, ran=None, duplicates=0, x=x, **options):
        config = RunConfig(target="my wine.csv", **options)
        schema = Schema(name="t", kind="table", event_shape=(2,), duplicates=duplicates)
        run = table_run(
            tmp_path / "a", Normal(2).double(), x[20:], x[:20], command=command, config=config, schema=schema
        )
        return remedy(kind, run, ran).replace(str(tmp_path), "runs")

    start = "pushforward train 'my wine.csv' --method nsf"
    long = OptimConfig(steps=100, patience=10)
    assert ask("good") == ""
    # More steps go on with the same run; anything else is another run.
    assert ask("underfits", optim=long) == f"{start} --steps 400 --out runs/a"
    stopped = ValidationLoss(50, 50, 80, stopped=True)
    beside = f"{start} --steps 100 --source baseline --out runs/a-source"
    assert ask("underfits", optim=long, ran=stopped) == beside
    assert ask("below-baseline") == ask("beaten") == beside
    assert ask("overfits", optim=long) == f"{start} --steps 100 --weight-decay 0.1 --out runs/a-weight-decay"
    assert ask("overfits", ran=ValidationLoss(10, 100, 100)).endswith("--patience 10 --out runs/a-patience")
    assert ask("copies").endswith("--noise 0.05 --out runs/a-noise")
    assert ask("copies", duplicates=3).endswith("--deduplicate --out runs/a-deduplicate")
    # counts repeat by chance, and those that do belong to their distribution
    assert ask("copies", duplicates=3, x=x.round()).endswith("--noise 0.05 --out runs/a-noise")
    # What is asked for already is not asked for again, and what cannot be is not either.
    begun = DataConfig(source="baseline")
    settled = OptimConfig(steps=100, patience=10, folds=5, weight_decay=0.01)
    assert ask("below-baseline", data=begun, optim=settled, ran=stopped) == ""
    decay = "--weight-decay 0.1 --out runs/a-weight-decay"
    assert ask("overfits", data=begun, optim=settled).endswith(decay)
    assert ask("overfits", optim=settled).endswith("--source baseline --out runs/a-source")
    own_base = ModelConfig(method="nsf", base="student-t")
    assert ask("overfits", optim=settled, model=own_base).endswith(decay)
    assert ask("copies", data=DataConfig(noise="0.05")).endswith("--jitter 0.1 --out runs/a-jitter")
    # The steps of a run that was cross-validated cannot change.
    assert ask("underfits", optim=settled).endswith("--steps 400 --out runs/a-steps")
    # Without a command the configuration makes one, unless the data were in memory.
    assert ask("copies", command="") == "--noise 0.05"
    config = RunConfig(target="moons", data=DataConfig(rows=500), optim=OptimConfig(steps=7))
    run = make_run(tmp_path / "b", None, None, Rows(x), Rows(x), config=config, command="")
    run.schema = SimpleNamespace(duplicates=0, kind="table", condition=None)
    found = remedy("copies", run)
    assert found == (
        f"pushforward train moons --method fm --rows 500 --steps 7 --noise 0.05 --out {tmp_path / 'b-noise'}"
    )
