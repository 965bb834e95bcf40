"""The report of runs whose truth is known: flows of closed-form fields, and fakes for other kinds of data."""

import json
import math
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from narrowing import one_tensor
from pushforward import random
from pushforward.bijections import Affine
from pushforward.config import ModelConfig, RunConfig
from pushforward.couplings import Rows
from pushforward.data import ConditionSpec, Schema
from pushforward.entries import METRICS
from pushforward.flows import ContinuousFlow, Transformed
from pushforward.metrics import fit_gaussian
from pushforward.oracles import GaussianMixtureOracle
from pushforward.paths import Interpolant, Karras
from pushforward.report import budget, build, compare, compare_text, densities
from pushforward.report.budget import Budget
from pushforward.report.figures import planar
from pushforward.report.loaded_run import LoadedRun
from pushforward.report.measures import SECTIONS
from pushforward.report.verdict import judge
from pushforward.solvers import Heun
from pushforward.sources import GaussianMixture, Normal
from report_cases import image_run, labelled_plane, make_run, plane_mixture, plane_run


class Loads(HTMLParser):
    """Collects whatever a page would fetch, its tags, and the texts of images."""

    def __init__(self, html: str):
        super().__init__()
        self.loads, self.alts, self.tags, self.scripts = [], [], set(), []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action") and not (value or "").startswith("data:"):
                self.loads.append((tag, name, value))
        if tag == "script":
            self.scripts.append(dict(attrs))
        if tag == "img":
            self.alts.append(dict(attrs).get("alt"))


@pytest.fixture(autouse=True)
def dear(monkeypatch):
    """Let a field evaluation count as dear, so that grids are coarse and the tests quick."""
    monkeypatch.setattr(Budget, "cost", budget.BUDGET / 1e5)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    """The report of the oracle run: run, figures, page, numbers."""
    run = plane_run(tmp_path_factory.mktemp("oracle") / "run")
    drawn: list[Figure] = []
    draw = build.__globals__["draw"]

    def spy(*arguments):
        groups = draw(*arguments)
        drawn.extend(p.figure for group in groups.values() for p in group)
        return groups

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(build.__globals__, "draw", spy)
        patch.setattr(Budget, "cost", budget.BUDGET / 1e6)
        page = build(run)
    return SimpleNamespace(
        run=run, figures=drawn, page=page, numbers=json.loads((run.path / "report.json").read_text())
    )


def test_page_is_one_file_that_works_offline(oracle):
    assert oracle.page == oracle.run.path / "report.html"
    html = oracle.page.read_text()
    found = Loads(html)
    assert found.loads == []
    assert not found.tags & {"link", "iframe", "object", "embed"}
    # the data of the player, and its program
    assert found.scripts == [{"type": "application/json"}, {}]
    assert "@import" not in html and not re.search(r"url\(", html)
    assert oracle.page.stat().st_size < 3_000_000
    names = {file.stem for file in (oracle.run.path / "figures").glob("*.png")}
    assert names >= {
        *("data", "samples", "density", "times", "trajectories", "marginals"),
        *("quality", "seconds", "straightness", "nearest", "loss", "loss_by_time"),
    }
    assert len(found.alts) == len(names) and all(found.alts)
    assert 'name="viewport"' in html
    assert oracle.numbers["left_out"] == {} and "Left out" not in html
    # What the user wrote is shown as it was written, and is not markup.
    assert "--name '<b>&" not in html and "&lt;b&gt;&amp;" in html
    assert "demo.csv" in html and "weight_decay" in html


def test_every_figure_has_title_and_labels(oracle):
    assert len(oracle.figures) == 12
    for figure in oracle.figures:
        shown = [ax for ax in figure.axes if ax.get_visible() and ax.get_label() != "<colorbar>"]
        assert shown
        for ax in shown:
            assert ax.get_title(loc="left"), figure
            assert ax.get_xlabel() and ax.get_ylabel(), ax.get_title(loc="left")
    scatter = next(f for f in oracle.figures if "Samples of" in f.axes[0].get_title(loc="left"))
    assert (scatter.axes[0].get_xlabel(), scatter.axes[0].get_ylabel()) == ("east, km", "north, km")


def test_oracle_log_density_is_the_true_one(oracle):
    test = oracle.run.dataset.test.x
    # In data units the distribution is stretched by 2 and 1, which takes log 2 off.
    z = oracle.run.flow.bijection.inverse(test)
    truth = plane_mixture().log_prob(z) - math.log(2)
    mine = oracle.numbers["density"][0]
    assert oracle.numbers["density_facts"]["rows"] == len(test)
    # The solver's tolerance of 1e-4 is what remains; the standard error is ten times as large.
    assert mine["mean"] == pytest.approx(float(truth.mean()), abs=3e-3)
    assert mine["error"] > 0.03
    assert mine["error"] == pytest.approx(float(truth.std()) / len(test) ** 0.5, rel=1e-2)
    by_key = {density["key"]: density for density in oracle.numbers["density"]}
    assert list(by_key) == ["model", "gaussian", "mixture", "kernel_gaussian", "kernel_exponential"]
    # Nothing is above the true density by more than noise: paired differences, three standard errors.
    for density in oracle.numbers["density"][1:]:
        assert density["gain"] > -3 * density["gain_error"]
        assert density["gain"] == pytest.approx(mine["mean"] - density["mean"], abs=1e-9)
    gaussian = fit_gaussian(oracle.run.dataset.train.x)
    gain = truth - gaussian.log_prob(test)
    assert by_key["gaussian"]["gain_error"] == pytest.approx(float(gain.std()) / len(test) ** 0.5, rel=1e-2)
    # Four well separated normals (overlap below 1e-3) against one Gaussian of deviation (.5 + .25^2)^(1/2):
    # entropies differ by 2 log(.75 / .25) - log 4, and the sample's mean is within three standard errors.
    gap = 2 * math.log(0.75 / 0.25) - math.log(4)
    assert by_key["gaussian"]["gain"] == pytest.approx(gap, abs=3 * by_key["gaussian"]["gain_error"] + 0.01)


def test_oracle_is_at_the_floor(oracle):
    lines = {line["key"]: line for line in oracle.numbers["verdict"]}
    for key in ("energy_distance", "sliced_wasserstein", "wasserstein"):
        line = lines[key]
        # Few draws give the spread of the floor to about a third; five deviations.
        assert line["model"]["value"] < line["real"]["value"] + 5 * line["real"]["spread"], key
        assert line["gaussian"]["value"] > line["real"]["value"] + 2 * line["real"]["spread"], key
        assert key in oracle.numbers["beats_gaussian"]
    # 800 rows: .5 +- .0177 by chance, and folds of one distribution may fall a little below.
    assert lines["two_sample_accuracy"]["model"]["value"] == pytest.approx(0.5, abs=0.07)
    assert lines["two_sample_accuracy"]["gaussian"]["value"] > 0.7
    # A share of .01 of 1,000 or more samples, against a threshold that 12 training rows set.
    assert lines["memorisation"]["model"]["value"] < 0.035
    assert oracle.numbers["headline"] == {"kind": "good", "causes": [], "command": ""}
    assert "On 400 rows its samples are as near to held-out rows as real rows" in oracle.numbers["sentence"]
    assert [line["key"] for line in oracle.numbers["verdict"]] == [
        *("log_density", "two_sample_accuracy", "energy_distance", "wasserstein", "sliced_wasserstein"),
        "memorisation",
    ]


def test_oracle_motion_and_round_trip(oracle):
    motion = oracle.numbers["motion"]
    assert motion["straightness"] == pytest.approx(sum(motion["profile"]) / len(motion["profile"]), rel=1e-6)
    assert motion["energy"] == pytest.approx(motion["straightness"] + motion["cost"], rel=1e-6)
    assert motion["cost"] >= motion["least"] * (1 - 1e-9)
    # Both ways at a tolerance of 1e-4, and the flow stretches distances about fourfold.
    assert 0 < oracle.numbers["round_trip"]["largest"] < 5e-3
    points = {(p["solver"], p["nfe"]): p["energy"] for p in oracle.numbers["evaluations"]["points"]}
    assert points["Euler", 1.0] > 5 * points["Euler", 64.0]
    assert points["Heun", 64.0] == pytest.approx(points["Midpoint", 64.0], rel=0.1)


def test_more_solvers_at_few_evaluations_are_in_the_table(oracle):
    """One row for each solver; a few evaluations of a second-order one do as many of Euler's."""
    few = {(p["solver"], p["nfe"]): p["energy"] for p in oracle.numbers["evaluations"]["few"]}
    assert few.keys() == {(s, n) for s in ("AB2", "DDIM", "DPMSolver", "UniPC") for n in (4.0, 8.0, 16.0)}
    points = {(p["solver"], p["nfe"]): p["energy"] for p in oracle.numbers["evaluations"]["points"]}
    assert few["DPMSolver", 16.0] < points["Euler", 16.0] and few["UniPC", 16.0] < few["DDIM", 8.0]
    page = oracle.page.read_text()
    assert "Solvers at few evaluations" in page and '<th scope="row">UniPC</th>' in page


def test_table_of_measures_is_complete(oracle):
    others = {"motion": {"rows", "energy", "times", "profile"}, "round_trip": {"rows"}}
    for section, more in others.items():
        assert {measure.key for measure in SECTIONS[section]} == set(oracle.numbers[section]) - more
    labels = [measure.label for measures in SECTIONS.values() for measure in measures]
    assert len(set(labels)) == len(labels)
    text, page = compare_text(oracle.numbers, oracle.numbers), oracle.page.read_text()
    # of flows of vectors to tokens, see test_points.py
    elsewhere = {measure.label for measure in SECTIONS["rounding"]}
    assert all(label in text for label in labels if label not in elsewhere)
    assert all(measure.label in page for section in others for measure in SECTIONS[section])
    metrics = {name.replace("-", "_") for name in METRICS}
    assert metrics <= {line["key"] for line in oracle.numbers["verdict"]}


def test_same_seed_same_numbers(tmp_path):
    def numbers(**options):
        verdict = judge(LoadedRun(plane_run(tmp_path, rows=40, solver=Heun(steps=2)), samples=50, **options))
        return [line.to_json() for line in verdict.lines] + [
            d.to_json() for d in verdict.evidence.densities.table
        ]

    first = numbers()
    assert first == numbers(seed=3)
    assert first != numbers(seed=4)


def test_density_of_labels_on_a_map(tmp_path):
    about = LoadedRun(labelled_plane(tmp_path))
    # Latitude comes first in the data, and is drawn upwards.
    pictures = [*planar.scatter(about), planar.trajectories(about)]
    for picture in pictures:
        assert (picture.figure.axes[0].get_xlabel(), picture.figure.axes[0].get_ylabel()) == ("lon", "lat")
    data = about.reference.x.numpy()
    offsets = np.asarray(pictures[0].figure.axes[0].collections[0].get_offsets())
    np.testing.assert_allclose(offsets, data[:, ::-1])
    ranges = [(-1.8, 1.2), (-1.5, 1.7)]
    z = planar.grid_density(about, ranges, 21, planar.of_velocity(about, 1.0))
    lon, lat = np.meshgrid(np.linspace(*ranges[0], z.shape[1]), np.linspace(*ranges[1], z.shape[0]))
    distribution, count = plane_mixture(), one_tensor(about.train.condition).bincount().double()
    distribution = GaussianMixture(distribution.means, 0.25, count)
    truth = distribution.log_prob(torch.tensor(np.stack([lat, lon], -1)).reshape(-1, 2)).exp()
    # The solver's tolerance and a grid of half a deviation leave a few hundredths of the peak, which is .6.
    np.testing.assert_allclose(z.ravel(), truth, atol=0.03)
    assert z.max() > 0.5


def test_images(tmp_path):
    run = image_run(tmp_path / "run")
    build(run, samples=100)
    numbers = json.loads((run.path / "report.json").read_text())
    lines = {line["key"]: line for line in numbers["verdict"]}
    assert numbers["left_out"] == {}
    assert lines["energy_distance"]["means"]["value"] > 2 * lines["energy_distance"]["model"]["value"]
    assert lines["label_accuracy"]["model"]["value"] > 0.95
    assert lines["label_accuracy"]["means"]["value"] == 1.0
    assert numbers["density_facts"]["bound"] is True
    assert lines["log_density"]["label"].endswith("at least")
    bits = lines["bits_per_dim"]["model"]["value"]
    assert bits == pytest.approx(-lines["log_density"]["model"]["value"] / (16 * math.log(2)), rel=1e-9)
    # No code of five levels needs more than log2 5 bits on average here, and the true entropy is below it.
    assert 0.5 < bits < math.log2(5)
    names = {file.stem for file in (run.path / "figures").glob("*.png")}
    assert names == {"data", "samples", "neighbours", "nearest", "quality", "seconds", "straightness"}
    assert Loads((run.path / "report.html").read_text()).loads == []


def test_estimated_divergence_agrees_with_the_exact_one(tmp_path, monkeypatch):
    # Without labels the distribution has two modes, so the Jacobian is not diagonal and signs matter.
    about = LoadedRun(image_run(tmp_path / "run", labelled=False), samples=80)
    exact, _ = densities.log_prob(about, about.test.x, None)
    monkeypatch.setattr(densities, "EXACT_SIZE", 0)
    estimated, _ = densities.log_prob(about, about.test.x, None)
    gap = estimated - exact
    assert float(gap.abs().max()) > 1e-3
    # Independent signs per row: the mean is within four of its standard errors.
    assert float(gap.mean()) == pytest.approx(0, abs=4 * float(gap.std()) / 80**0.5)
    assert float(gap.std()) < 0.5 * float(exact.std())


@pytest.mark.parametrize("what", ["density", "points"])
def test_the_data_are_seen_where_the_source_is_far_wider(what, tmp_path, monkeypatch):
    """At t = 0 noise has 80 deviations; on common axes the data would be a dot."""
    loaded = LoadedRun(plane_run(tmp_path / "run", rows=60, along=Interpolant(Karras())), samples=60)
    if what == "points":
        monkeypatch.setattr(planar, "has_density", lambda loaded: "none")
    times = planar.density(loaded)[-1]
    widths = [np.ptp(ax.get_xlim()) for ax in times.figure.axes[:5]]
    assert widths[0] > 20 * widths[-1] and "its own axes, because the source is far wider" in times.caption
    wide = np.ptp(loaded.test.x[:, 0].numpy())
    assert widths[-1] < 2 * wide
    ways = planar.trajectories(loaded)
    assert np.ptp(ways.figure.axes[0].get_xlim()) < 4 * wide and "outside of the picture" in ways.caption


def test_density_at_earlier_times(tmp_path):
    about = LoadedRun(plane_run(tmp_path / "run", rows=20))
    flow: Any = about.run.flow
    oracle = flow.flow.field
    y = random.normal((20, 2), random.seeded("early"), torch.float64)
    x = about.sampler.outwards(y)
    for t in (0.0, 0.4, 1.0):
        found, _ = densities.log_prob(about, x, None, t)
        torch.testing.assert_close(found, oracle.log_prob(t, y) - math.log(2), atol=5e-3, rtol=1e-3)


def test_continuous_condition_and_columns_of_unlike_units(tmp_path):
    # x = c + noise, of which the flow knows everything through its condition.
    def field(t, x, condition):
        mean = torch.stack([condition, -condition, 0 * condition], 1)
        # The path from N(0, 1) to N(m, 1) under linear interpolation, R = sqrt((1 - t)^2 + t^2).
        t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1)
        return mean + (2 * t - 1) / (1 - 2 * t + 2 * t**2) * (x - t * mean)

    units = Affine(torch.zeros(3).double(), torch.tensor([1.0, 100.0, 1.0]).double())
    generator = random.seeded("regression")
    c = random.normal((300,), generator, torch.float64)
    y = torch.stack([c, -c, 0 * c], 1) + random.normal((300, 3), generator, torch.float64)
    flow = Transformed(ContinuousFlow(field, Heun(steps=20), Normal(3).double()), units, torch.float64)
    schema = Schema(
        name="regression",
        kind="table",
        event_shape=(3,),
        columns=("a", "b", "c"),
        condition=ConditionSpec(kind="continuous", columns=("dose",), low=(-3.0,), high=(3.0,)),
    )
    rows = Rows(units.forward(y), c)
    run = make_run(
        tmp_path / "run", flow, schema, rows.take(torch.arange(200)), rows.take(torch.arange(200, 300))
    )
    build(run, samples=150)
    numbers = json.loads((run.path / "report.json").read_text())
    table = {density["key"]: density for density in numbers["density"]}
    assert set(table) == {"model", "gaussian", "mixture"} and numbers["left_out"] == {}
    assert any("kernel density: it takes labels" in text for text in numbers["baselines_left_out"])
    # The regression knows all but about nine fitted numbers: 9 / (2 * 200) nats behind, give or take.
    assert abs(table["gaussian"]["gain"]) < 0.15
    assert numbers["evaluations"]["unit"].startswith("deviations")
    assert all(line["unit"] in ("nats per row", "share", "deviations") for line in numbers["verdict"])
    assert (run.path / "figures" / "pairs.png").exists()


def test_series(tmp_path):
    mixture = GaussianMixture(torch.zeros(1, 5, 2, dtype=torch.float64), 1.0)
    flow = ContinuousFlow(GaussianMixtureOracle(mixture), Heun(steps=4), Normal((5, 2)).double())
    x = mixture.sample(60, None, random.seeded("series"))
    schema = Schema(name="waves", kind="array", event_shape=(5, 2))
    run = make_run(tmp_path / "run", flow, schema, Rows(x[:45]), Rows(x[45:]))
    build(run, samples=30)
    assert json.loads((run.path / "report.json").read_text())["left_out"] == {}
    assert {"samples", "nearest"} <= {file.stem for file in (run.path / "figures").glob("*.png")}


def test_budget_bounds_rows_and_loosens_the_solver(tmp_path, monkeypatch):
    monkeypatch.undo()
    run = plane_run(tmp_path / "run", rows=50)
    generous = LoadedRun(run)
    assert generous.budget.solver is run.flow.flow.solver and generous.samples == 2000
    monkeypatch.setattr(Budget, "cost", budget.BUDGET / 1e4)
    tight = LoadedRun(run)
    assert repr(tight.budget.solver) == "Tsit5(rtol=0.001, atol=0.001)"
    assert tight.samples == 100
    assert LoadedRun(run, samples=333).samples == 333


def test_too_little_data(tmp_path):
    run = plane_run(tmp_path / "run", rows=4)
    with pytest.raises(ValueError, match="5 held-out rows"):
        build(run)
    assert not (run.path / "report.html").exists()


def test_compare(tmp_path, oracle):
    other = plane_run(
        tmp_path / "other",
        rows=60,
        solver=Heun(steps=1),
        config=RunConfig(target="demo.csv", seed=5, model=ModelConfig(method="ot-cfm")),
    )
    build(other, samples=60)
    page = compare(oracle.run.path, other.path, tmp_path / "both.html")
    html = page.read_text()
    assert Loads(html).loads == [] and page.stat().st_size < 3_000_000
    assert "model.method" in html and "ot-cfm" in html and "seed" in html
    assert html.count("<img") >= 10
    second = json.loads((other.path / "report.json").read_text())
    text = compare_text(oracle.numbers, second)
    line = next(line for line in text.splitlines() if line.startswith("Energy distance, deviations"))
    assert line.rstrip().endswith(tuple("0123456789")) and line.count("*") == 1
    assert line.index("*") < len(line) - 2
    assert compare_text(oracle.run.path, other.path / "report.json") == text
    # A name that flags overrule is not repeated, and that of a configuration of other versions stands.
    overruled = {**second, "config": RunConfig.of("x", method="ot-cfm", coupling="independent").to_json()}
    unknown = {**second, "config": {"model": {"method": "of old"}}}
    heads = compare_text(overruled, unknown).splitlines()[0]
    assert "four, fm" in heads and "four, of old" in heads
    # What only one of them has is a dash.
    del second["verdict"][0]
    line = next(
        x for x in compare_text(oracle.numbers, second).splitlines() if x.startswith("Held-out log-den")
    )
    assert line.rstrip().endswith("–")
    with pytest.raises(ValueError, match="no such report"):
        compare(tmp_path / "nothing", other.path, tmp_path / "x.html")
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        compare_text(tmp_path, other.path)
