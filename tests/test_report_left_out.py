"""What fails is left out of a report by name, and the mass of densities is measured."""

import importlib
import json
import math
import time

import pytest
import torch
from torch import nn

from pushforward import random
from pushforward.bijections import Affine
from pushforward.couplings import Rows
from pushforward.data import Schema
from pushforward.flows import BijectiveFlow, ContinuousFlow
from pushforward.metrics import fit_gaussian
from pushforward.report import build, conclusion
from pushforward.report.budget import Budget
from pushforward.report.densities import log_prob
from pushforward.report.figures import style
from pushforward.report.headline import kind_of
from pushforward.report.left_out import LeftOut
from pushforward.report.loaded_run import LoadedRun
from pushforward.report.mass import Mass
from pushforward.report.notes import verdict_notes
from pushforward.report.rules import wrong_mass
from pushforward.report.verdict import judge
from pushforward.solvers import Heun
from pushforward.sources import GaussianMixture, Normal, Source
from report_cases import labelled_plane, make_run, table_run


def normal_rows(count: int, d: int, *seed: int) -> torch.Tensor:
    return random.normal((count, d), random.seeded("left out", *seed), torch.float64)


def normal_run(path, d: int = 2, **changes):
    x = normal_rows(64, d)
    return table_run(path, Normal(d).double(), x[24:], x[:24], **changes)


def field_run(path, field, d: int = 2):
    """A continuous flow of ``field`` for rows that are its source."""
    x = normal_rows(120, d)
    flow = ContinuousFlow(field, Heun(steps=2), Normal(d).double())
    schema = Schema(name="normal", kind="table", event_shape=(d,), columns=tuple(f"c{i}" for i in range(d)))
    return make_run(path, flow, schema, Rows(x[40:]), Rows(x[:40]), history=[], summary={})


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Images take most of a small report's time, and nothing here looks at them."""
    monkeypatch.setattr(style, "to_png", lambda figure: b"png")


def report_of(run, **options):
    page = build(run, **{"samples": 50, **options}).read_text()
    return page, json.loads((run.path / "report.json").read_text())


class Still(nn.Module):
    """A field that does not move, by a function that has ``slope`` for its derivative."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, t, x, condition=None):
        return self.function.apply(x)


class OldStyle(torch.autograd.Function):
    """A derivative written the way that neither forward mode nor ``torch.func`` can use."""

    @staticmethod
    def forward(ctx, x):
        return 0.5 * x

    @staticmethod
    def backward(ctx, *slopes):
        return 0.5 * slopes[0]


class NoSlope(torch.autograd.Function):
    """No derivative at all."""

    @staticmethod
    def forward(ctx, x):
        return 0 * x

    @staticmethod
    def backward(ctx, *slopes):
        raise NotImplementedError("this layer has no derivative\nand a second line says more")


# -- left out by name ----------------------------------------------------------------------------------------


def test_field_without_derivative_leaves_the_density_out(tmp_path):
    page, found = report_of(field_run(tmp_path / "run", Still(NoSlope)))
    # the exact divergence may be refused before the derivative is asked for
    assert set(found["left_out"]) == {"exact density", "figure of the density"}
    assert "second line" not in found["left_out"]["exact density"]
    assert "Exact density: left out, " in page and "\n" not in found["left_out"]["exact density"]
    # all else stands
    assert found["density"] == [] and found["mass"] is None
    assert {line["key"] for line in found["verdict"]} >= {
        "energy_distance",
        "two_sample_accuracy",
        "wasserstein",
    }
    assert found["motion"] is not None and found["round_trip"]["largest"] == 0
    assert (tmp_path / "run" / "figures" / "samples.png").exists()
    assert any(line.startswith("exact density: left out, ") for line in conclusion(tmp_path / "run"))


def test_estimated_density_takes_any_derivative(tmp_path):
    d = 20
    about = LoadedRun(field_run(tmp_path, Still(OldStyle), d), samples=50)
    found, _ = log_prob(about, about.test.x, None)
    # dx/dt = x / 2 backwards: two Heun steps shrink by (1 - 1/4 + 1/32)^2, their divergences add up to d / 2
    truth = Normal(d).double().log_prob(about.test.x * (1 - 1 / 4 + 1 / 32) ** 2) - d / 2
    torch.testing.assert_close(found, truth)


@pytest.mark.slow
@pytest.mark.thorough
def test_any_measure_may_fail(tmp_path, monkeypatch):
    # rows of two dimensions have one baseline, so that a report is quick
    x = normal_rows(40, 4).reshape(40, 2, 2)
    flow = BijectiveFlow(
        Affine(torch.zeros(2, 2).double(), torch.ones(2, 2).double()), Normal((2, 2)).double()
    )
    schema = Schema(name="series", kind="array", event_shape=(2, 2))
    run = make_run(tmp_path / "run", flow, schema, Rows(x[20:]), Rows(x[:20]), summary={})
    names: list[str] = []
    attempt = LeftOut.attempt

    def fail(which):
        def failing(self, name, default, make, *arguments, **options):
            names.append(name)
            if which in (name, "all"):
                make, arguments, options = (lambda: 1 / 0), (), {}
            return attempt(self, name, default, make, *arguments, **options)

        monkeypatch.setattr(LeftOut, "attempt", failing)
        return report_of(run, samples=30)

    _, healthy = fail("nothing")
    assert healthy["left_out"] == {} and len(names) == len(set(names)) > 12
    for name in names[:]:
        page, found = fail(name)
        # what needs it may be missing without a word; nothing else is
        assert found["left_out"] == {name: "ZeroDivisionError: division by zero"}
        assert f"{name[0].upper()}{name[1:]}: left out, ZeroDivisionError".replace("'", "&#x27;") in page
        keys = {line["key"] for line in healthy["verdict"]} - {line["key"] for line in found["verdict"]}
        assert len(keys) <= 1 or name in ("samples", "exact density")
    page, found = fail("all")
    assert found["headline"]["kind"] == "undecided" and found["verdict"] == []
    assert "samples could not be compared with held-out rows (ZeroDivisionError" in page


def test_samples_that_are_not_finite(tmp_path):
    page, found = report_of(field_run(tmp_path, lambda t, x, condition: x + torch.inf))
    assert "non_finite" in found["left_out"]["samples"]
    assert found["headline"]["kind"] == "undecided" and "could not be compared" in found["sentence"]
    assert "Nothing can be concluded" in page


def test_programming_errors_are_seen_by_tests(tmp_path, monkeypatch):
    distances = importlib.import_module("pushforward.metrics.distances")
    monkeypatch.setattr(distances, "energy_distance", lambda x, y: undefined)  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
    _, found = report_of(normal_run(tmp_path))
    assert found["left_out"] == {"Energy distance": "NameError: name 'undefined' is not defined"}


# -- the mass of the density ---------------------------------------------------------------------------------


class Off(Source):
    """A source whose log-densities are off by a constant."""

    def __init__(self, source: Source, by: float):
        super().__init__()
        self.source, self.by, self.event_shape = source, by, source.event_shape

    def sample(self, n, condition=None, generator=None):
        return self.source.sample(n, condition, generator)

    def log_prob(self, x, condition=None):
        return self.source.log_prob(x, condition) + self.by


class Box(Source):
    """The uniform distribution on the unit square."""

    def __init__(self):
        super().__init__()
        self.event_shape = (2,)

    def sample(self, n, condition=None, generator=None):
        return random.uniform((n, 2), generator, torch.float64)

    def log_prob(self, x, condition=None):
        return torch.where(((x >= 0) & (x <= 1)).all(1), 0.0, -torch.inf).double()


def ring() -> GaussianMixture:
    angle = torch.arange(4, dtype=torch.float64) * math.pi / 2
    return GaussianMixture(3 * torch.stack([angle.cos(), angle.sin()], 1), 0.3)


@pytest.mark.parametrize("by", [0.0, math.log(2), -math.log(2)])
def test_mass_of_a_density(tmp_path, by):
    x = ring().sample(300, None, random.seeded("mass"))
    about = LoadedRun(table_run(tmp_path, Off(ring(), by), x[60:], x[:60]))
    verdict = judge(about)
    mass = verdict.evidence.mass
    assert mass is not None and mass.reliable and mass.error < 0.06
    # four standard errors
    assert mass.value == pytest.approx(math.exp(by), abs=4 * mass.error)
    (said,) = [note for note in verdict_notes(about, verdict) if note.startswith("Mass of the density: ")]
    if by:
        assert verdict.headline.kind == "wrong-density"
        assert verdict.sentence.startswith("The densities are wrong: the mass of the density is ")
        assert ("too high by about 0." in verdict.sentence) == (by > 0)
        assert "below" not in {cause.key for cause in verdict.headline.causes}, "they are not compared"
    else:
        assert verdict.headline.kind == "good" and "(1 is right)" in said


@pytest.mark.parametrize("d", [1, 5, 16])
def test_mass_of_a_model_that_is_not_like_the_data(tmp_path, d):
    # it is right all the same: the proposal reaches where the model's samples are
    x = normal_rows(200, d, d)
    source = Normal(d, 2.0).double()
    flow = BijectiveFlow(Affine(torch.full((d,), 3.0).double(), torch.ones(d).double()), source)
    run = table_run(tmp_path, source, x[40:], x[:40])
    run.flow = flow
    mass = judge(LoadedRun(run, samples=400)).evidence.mass
    assert mass is not None and (not mass.reliable or abs(mass.value - 1) < max(0.05, 4 * mass.error))


def test_mass_under_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(Budget, "cost", 1e-7)
    mass = judge(LoadedRun(labelled_plane(tmp_path))).evidence.mass
    assert mass is not None and mass.reliable and mass.value == pytest.approx(1, abs=4 * mass.error + 0.02)


def test_mass_that_cannot_be_told():
    good = Mass(2.0, 0.05, 1000, 700.0, 0.0)
    cause = wrong_mass(good)
    assert cause is not None and kind_of([cause]) == "wrong-density" and "2.000 ± 0.050" in cause.text
    assert "too high by about 0.69 nats" in cause.text
    for mass in (Mass(2.0, 0.2, 1000, 20.0, 0.0), Mass(0.5, 0.01, 1000, 700.0, 0.3)):
        assert wrong_mass(mass) is None and "cannot be told" in mass.sentence
    assert wrong_mass(Mass(2.0, 0.3, 1000, 700.0, 0.0)) is None, "within four standard errors"
    assert wrong_mass(Mass(1.04, 0.001, 1000, 990.0, 0.0)) is None, "within 5 %"


# -- numbers out of the ordinary -----------------------------------------------------------------------------


def test_rows_without_density_are_never_praised(tmp_path):
    x = random.uniform((300, 2), random.seeded("box"), torch.float64)
    x[:3] += 1.0
    verdict = judge(LoadedRun(table_run(tmp_path, Box(), x[60:], x[:60])))
    assert verdict.evidence.densities.table[0].mean.value == -math.inf
    (cause,) = [cause for cause in verdict.headline.causes if cause.key == "below"]
    assert cause.text == "3 of 60 held-out rows have density 0 under the model"
    page, found = report_of(table_run(tmp_path, Box(), x[60:], x[:60]))
    assert found["density"][0]["mean"] is None and "−∞" in page and found["left_out"] == {}


@pytest.mark.parametrize("unit", [1e-200, 1.0, 1e200])
def test_units_however_large(tmp_path, unit):
    x = normal_rows(300, 2, 7) * unit
    flow = BijectiveFlow(
        Affine(torch.zeros(2).double(), torch.full((2,), unit, dtype=torch.float64)), Normal(2).double()
    )
    run = table_run(tmp_path, Normal(2).double(), x[60:], x[:60])
    run.flow = flow
    _, found = report_of(run, samples=200)
    assert found["left_out"] == {} and found["baselines_left_out"] == []
    assert found["headline"]["kind"] == "good" and found["mass"]["told"]
    lines = {line["key"]: line["model"]["value"] for line in found["verdict"]}
    assert lines["energy_distance"] < 0.2 and lines["two_sample_accuracy"] < 0.65
    truth = Normal(2).double().log_prob(x[:60] / unit) - 2 * math.log(unit)
    assert found["density"][0]["mean"] == pytest.approx(float(truth.mean()), rel=1e-9)


@pytest.mark.parametrize("held", [0, 1, 4])
def test_few_held_out_rows(tmp_path, held):
    x = normal_rows(60, 2, 8)
    _, found = report_of(table_run(tmp_path, fit_gaussian(x[held:]), x[held:], x[:held]))
    assert found["headline"]["kind"] == "undecided" and found["left_out"] == {}
    assert found["sizes"]["unseen"] == held


# -- the clock -----------------------------------------------------------------------------------------------


def test_slow_field_is_asked_for_fewer_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("pushforward.report.budget.BUDGET", 0.5)

    def slow(t, x, condition):
        time.sleep(2e-5 * len(x))
        return torch.zeros_like(x)

    run = field_run(tmp_path, slow)
    about = LoadedRun(run)
    begin = time.perf_counter()
    assert about.budget.cost >= 2e-5 and about.samples < 2000
    assert "samples" in about.budget.cuts
    page, found = report_of(run, samples=None)
    assert found["fewer"]["samples"] == {"taken": about.samples, "of": 2000}
    assert "fewer rows are used than usual: " in page and f"samples {about.samples:,} of 2,000" in page
    assert time.perf_counter() - begin < 60
