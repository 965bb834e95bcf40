"""Spaces of the registry: charts, densities of kernels, bad input, and runs on the command line."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pushforward
from pushforward import registry
from pushforward.cli import main
from pushforward.config import RunConfig
from pushforward.data import load
from pushforward.entries import SPACES
from pushforward.manifolds import Manifold, Product, Sphere, Torus, manifold_of
from pushforward.metrics.baselines.manifold_kernels import ManifoldKernels
from pushforward.random import seeded
from pushforward.recipes import open_run
from pushforward.runs.preprocessing import bijection_from_json, bijection_to_json
from pushforward.runs.sources import source_from_json, source_to_json
from pushforward.sources import ManifoldBase
from pushforward.spaces import LatLon, Space
from pushforward.training import trainer

DOUBLE = torch.zeros((), dtype=torch.float64)
#: A text of every space, and how many columns a table has.
CASES = {
    "sphere": ("sphere", 3),
    "places": ("sphere,lat=1,lon=0", 2),
    "torus": ("torus", 3),
    "degrees": ("torus,unit=degrees", 2),
    "simplex": ("simplex", 4),
    "poincare": ("poincare", 2),
    "lorentz": ("lorentz", 3),
    "rotations": ("rotations", 9),
    "rigid": ("rigid", 12),
    "spd": ("spd", 4),
    "product": ("product,of=Product(Sphere(2), Torus(1))", 4),
}
#: What is no point of it, and what the error says.
NOT_POINTS = {
    "sphere": ([0.0, 0.0, 2.0], r"Sphere\(2\), got 1 of 40 rows off it, by up to 1; the first is row 3"),
    "places": ([0.0, 90.5], r"latitude: expected degrees from -90 to 90, got 90.5 in row 3"),
    "simplex": ([0.5, 0.5, 0.5, 0.5], r"Simplex\(3\), got 1 of 40 rows off it"),
    "poincare": ([1.0, 1.0], r"Poincare\(2\), got 1 of 40 rows off it"),
    "lorentz": ([1.0, 1.0, 1.0], r"Lorentz\(2\), got 1 of 40 rows off it"),
    "rotations": ([*[1.0, 0, 0, 0, 1, 0, 0, 0, -1]], r"got 1 of 40 rows off it"),
    "rigid": ([*[1.0, 0, 0, 0, 1, 0, 0, 0, -1], 0, 0, 0], r"got 1 of 40 rows off it"),
    "spd": ([1.0, 0.0, 0.0, -1.0], r"SPD\(2\), got 1 of 40 rows off it"),
    "product": ([0.0, 0.0, 2.0, 0.0], r"got 1 of 40 rows off it, by up to 1"),
}


def made(name: str) -> tuple[Space, Manifold, Tensor]:
    """A space, its manifold, and rows of 40 points."""
    text, columns = CASES[name]
    space: Space = registry.create("space", text)
    manifold = space.manifold(columns)
    points = manifold.draw(40, seeded(0, name), DOUBLE)
    sample = space.chart(torch.zeros(1, columns).double() + (columns == 3), names(columns))
    return space, manifold, sample.forward(points)


def names(columns: int) -> tuple[str, ...]:
    return tuple(f"x{i}" for i in range(columns))


def test_every_space_has_a_case() -> None:
    assert {registry.parse("space", text)[0] for text, _ in CASES.values()} == {
        entry.target for entry in SPACES.values()
    }


@pytest.mark.parametrize("name", CASES)
def test_charts_lead_there_and_back_and_are_stored(name: str) -> None:
    space, manifold, rows = made(name)
    chart = space.chart(rows, names(rows.shape[1]))
    points, log_det = chart.inverse_and_log_det(rows)
    assert points.shape[1:] == manifold.event_shape == chart.inverse_event_shape(rows.shape[1:])
    manifold.check(points)
    back, forward = chart.forward_and_log_det(points)
    torch.testing.assert_close(back, rows, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(forward, -log_det)
    again = bijection_from_json(json.loads(json.dumps(bijection_to_json(chart))))
    assert torch.equal(again.inverse(rows), points) and torch.equal(again.forward(points), back)
    source = ManifoldBase(manifold).double()
    stored = source_from_json(json.loads(json.dumps(source_to_json(source, {}))), {})
    assert repr(manifold_of(repr(manifold))) == repr(manifold)
    assert torch.equal(stored.log_prob(points), source.log_prob(points))


@pytest.mark.parametrize("name", NOT_POINTS)
def test_rows_that_are_no_points_are_refused_by_row(name: str) -> None:
    _, _, rows = made(name)
    wrong, told = NOT_POINTS[name]
    rows[2] = torch.tensor(wrong)
    with pytest.raises(ValueError, match=told) as caught:
        load(rows, space=CASES[name][0])
    assert "--space" in str(caught.value) and "\n" not in str(caught.value)


def test_places_are_where_they_are_on_the_globe() -> None:
    rows = torch.tensor([[90.0, 17.0], [0.0, 0.0], [0.0, 180.0], [-30.0, -90.0]], dtype=torch.float64)
    half, root = 0.5, math.sqrt(0.75)
    wanted = [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, -root, -half]]
    torch.testing.assert_close(LatLon().inverse(rows), torch.tensor(wanted).double(), atol=1e-7, rtol=0)
    east = LatLon(low=0.0)
    torch.testing.assert_close(east.forward(east.inverse(rows))[3], torch.tensor([-30.0, 270.0]).double())


def test_longitudes_and_angles_come_back_in_the_range_of_the_data() -> None:
    turned = torch.linspace(0, 359, 50).double()
    for shift, low in ((0.0, 0.0), (-180.0, -180.0)):
        rows = torch.stack([torch.linspace(-80, 80, 50).double(), turned + shift], 1)
        for space in ("sphere,lat=0,lon=1", "torus,unit=degrees"):
            chart = load(rows + (space == "torus,unit=degrees") * torch.tensor([90.0, 0.0]), space=space)
            found = chart.preprocess.forward(chart.preprocess.inverse(chart.train.x))
            assert found[:, 1].min() >= low and found[:, 1].max() < low + 360
            torch.testing.assert_close(found[:, 1], chart.train.x[:, 1], atol=1e-9, rtol=0)


@pytest.mark.parametrize("manifold", [Sphere(2), Torus(2), Product(Sphere(2), Torus(1))], ids=repr)
@pytest.mark.parametrize("width", [0.15, 0.8])
def test_kernels_have_mass_1_and_their_draws_are_theirs(manifold: Manifold, width: float) -> None:
    n = 40_000
    log_bump = manifold.log_bump(width)
    assert log_bump is not None and manifold.log_volume is not None
    x = manifold.uniform(n, seeded(1), DOUBLE)
    centres = manifold.uniform(1, seeded(2), DOUBLE).expand(n, -1)

    def density(x: Tensor) -> Tensor:
        squares = (manifold.embed(x) - manifold.embed(centres)).square().sum(1)
        return (-squares / (2 * width**2) - log_bump).exp()

    volume = math.exp(manifold.log_volume)
    mass = volume * density(x)
    assert abs(float(mass.mean()) - 1) < 4 * float(mass.std()) / n**0.5
    # of a test function, by draws and by weights of uniform points; four standard errors of the difference
    drawn = manifold.draw_bump(centres, width, seeded(3))
    manifold.check(drawn)
    direct, weighed = manifold.distance(drawn, centres), mass * manifold.distance(x, centres)
    error = math.hypot(float(direct.std()), float(weighed.std())) / n**0.5
    assert abs(float(direct.mean() - weighed.mean())) < 4 * error


def test_a_kernel_density_finds_the_width_of_kernels() -> None:
    north = torch.tensor([[0.0, 0.0, 1.0]]).double().expand(1000, 3)
    points = Sphere(2).draw_bump(north, 0.3, seeded(0))
    found = ManifoldKernels(Sphere(2), points, generator=seeded(1))
    held = Sphere(2).draw_bump(north, 0.3, seeded(2))
    log_bump = Sphere(2).log_bump(0.3)
    assert log_bump is not None
    truth = -(held - north).square().sum(1) / (2 * 0.09) - log_bump
    gap = truth - found.log_prob(held)
    # a kernel estimate of 1,000 points is near the truth, and no better than it
    assert -2 * float(gap.std()) / 1000**0.5 < float(gap.mean()) < 0.1
    with pytest.raises(ValueError, match=r"no kernel of Simplex\(2\) is known in closed form"):
        ManifoldKernels(manifold_of("Simplex(2)"), torch.full((4, 3), 1 / 3).double())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"space": "shpere"}, "unknown space 'shpere'; did you mean 'sphere'"),
        ({"space": "sphere,lat=0"}, "expected both lat and lon, or neither for unit vectors"),
        ({"space": "sphere,lat=0,lon=2"}, "lon: expected one of the columns 0 .x1., 1 .x2., got 2"),
        ({"space": "sphere,lat=0,lon=0"}, "expected two different columns"),
        ({"space": "rotations"}, "expected 9 columns for a point on SpecialOrthogonal"),
        ({"space": "torus,unit=turns"}, "unit: expected"),
        ({"space": "product,of=Nothing(2)"}, "expected a manifold such as"),
        ({"space": "torus", "method": "maf"}, "--method maf is for vectors; take --method rfm"),
        ({"space": "torus", "preprocess": "whiten"}, "preprocess: whiten moves points off their manifold"),
        ({"space": "torus", "noise": "0.1"}, "noise: 0.1 moves points off their manifold"),
        ({"space": "torus", "source": "moons"}, "--source moons: --method rfm starts from the base"),
        ({"space": "torus", "coupling": "ot"}, "--coupling ot: does not go with --method rfm"),
    ],
)
def test_bad_settings_in_one_line(settings: dict[str, Any], told: str) -> None:
    rows = torch.rand(64, 2, generator=seeded(0), dtype=torch.float64)
    with pytest.raises(ValueError) as caught:
        pushforward.train(rows, show_progress=False, steps=1, **settings)
    line = str(caught.value).replace("method=", "--method ").replace("'", "'")
    import re

    plain = re.sub(r"[^\w]+", " ", line)
    assert re.sub(r"[^\w]+", " ", told.replace("--", "")).strip() in plain, line
    assert "\n" not in line


def test_flow_matching_on_a_space_is_that_of_riemann() -> None:
    assert RunConfig.of("a.csv", space="torus").model.method == "rfm"
    assert RunConfig.of("a.csv").model.method == "fm"


def test_pairs_without_a_single_geodesic_are_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the whole training, stopped or not; without any nothing is told."""
    seen: list[int] = []

    def near_north(self: Sphere, x: Tensor, y: Tensor) -> Tensor:
        found = x[:, 2] > 0.9
        seen.append(int(found.sum()))
        return found

    places = LatLon().forward(Sphere(2).uniform(120, seeded(0), DOUBLE)).numpy()
    short: dict[str, Any] = {"space": "sphere,lat=0,lon=1", "network": "mlp,width=8,depth=1", "steps": 12}
    short |= {"folds": 0, "validation": 0.0, "log_every": 5, "batch": 32, "show_progress": False}

    def train(out: str) -> tuple[dict[str, Any], list[str]]:
        told: list[str] = []
        run = pushforward.train(places, tmp_path / out, say=told.append, **short)
        return dict(run.summary), [line for line in told if "geodesic" in line]

    plain, told = train("plain")
    assert "moved" not in plain and told == []
    monkeypatch.setattr(Sphere, "cut", near_north)
    whole, told = train("whole")
    # a twentieth of the globe; log_every does not divide the steps
    assert whole["moved"] == sum(seen) > 0 and len(seen) == 12
    assert told[0].startswith(f"note: {sum(seen)} pairs of source and data had no single geodesic")
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_stop", lambda self, interrupt: self._place >= 7)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # opening what has not ended says so
            assert train("cut")[1] == []
    again, told = train("cut")
    assert again["moved"] == whole["moved"] and len(told) == 1


def test_places_from_a_file_to_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The thin line: degrees in, degrees out, densities per area, a map."""
    space = Sphere(2)
    centre = LatLon().inverse(torch.tensor([[60.0, 175.0]]).double()).expand(400, -1)
    rows = LatLon().forward(space.draw_bump(centre, 0.3, seeded(0))).numpy()
    file, run = tmp_path / "places.csv", tmp_path / "run"
    lines = "\n".join(f"{lat},{lon}" for lat, lon in rows)
    file.write_text(f"# places\n# of a test\nLatitude,Longitude\n{lines}\n")
    flags = ["--steps", "60", "--folds", "0", "--network", "mlp,width=32,depth=2", "--out", str(run)]
    assert main(["train", str(file), "--space", "sphere,lat=0,lon=1", *flags]) == 0
    assert main(["sample", str(run), "-n", "300", "-o", str(tmp_path / "s.csv")]) == 0
    samples = np.loadtxt(tmp_path / "s.csv", delimiter=",", skiprows=1)
    assert (np.abs(samples[:, 0]) <= 90).all() and (np.abs(samples[:, 1]) <= 180).all()
    assert main(["score", str(run), str(file), "-o", str(tmp_path / "p.csv")]) == 0
    assert "nats per unit area of the unit sphere" in capsys.readouterr().err
    scores = np.loadtxt(tmp_path / "p.csv", skiprows=1)
    # 60 steps are past the uniform density, and not beyond what the data have
    log_bump = space.log_bump(0.3)
    assert log_bump is not None
    best = -1 - log_bump  # E[(1 - cos) / width^2] = 1 up to exp(-2 / width^2)
    assert -math.log(4 * math.pi) + 0.5 < scores.mean() < best + 0.3
    # the density integrates to 1 over the sphere: four standard errors
    flow = pushforward.load(run)
    places = LatLon().forward(space.uniform(500, seeded(1), DOUBLE))
    mass = 4 * math.pi * flow.log_prob(places).exp()
    assert abs(float(mass.mean()) - 1) < 4 * float(mass.std()) / 500**0.5
    # points of the source are places too, and lead back to where they came from, but for the solver's 1e-5
    assert main(["push", str(run), str(file), "--back", "-o", str(tmp_path / "z.csv")]) == 0
    assert main(["push", str(run), str(tmp_path / "z.csv"), "-o", str(tmp_path / "x.csv")]) == 0
    again = np.loadtxt(tmp_path / "x.csv", delimiter=",", skiprows=1)
    ends = (LatLon().inverse(torch.from_numpy(part)) for part in (again, rows))
    assert float(space.distance(*ends).max()) < 1e-3
    told = json.loads((run / "report.json").read_text())
    assert not told["left_out"] and told["evaluations"]["unit"] == "chord units"
    page = (run / "report.html").read_text()
    assert "along chords: the straight lines" in page and "standard deviation in training" not in page
    # of rows that the report compares: the least chord of each to the training rows
    dataset = open_run(run).dataset
    train, held = (LatLon().inverse(part.x.double()) for part in (dataset.train, dataset.test))
    chords = (held[:, None] - train).norm(dim=2).amin(1)
    assert told["memorisation"]["median"]["real"] == pytest.approx(float(chords.median()), rel=1e-6)
    assert {"data", "samples", "density", "trajectories"} <= {Path(name).stem for name in told["figures"]}
    assert [row["key"] for row in told["density"]] == ["model", "base", "kernel"]
    assert told["mass"]["told"] and abs(told["mass"]["value"] - 1) < 4 * told["mass"]["error"]
    assert told["density"][1]["mean"] == pytest.approx(-math.log(4 * math.pi))
    assert main(["score", str(run), str(tmp_path / "s.csv"), "-o", str(tmp_path / "q.csv")]) == 0
    (tmp_path / "bad.csv").write_text("Latitude,Longitude\n10,20\n95,20\n")
    assert main(["score", str(run), str(tmp_path / "bad.csv"), "-o", str(tmp_path / "b.csv")]) != 0
    assert "latitude: expected degrees from -90 to 90, got 95 in row 2" in capsys.readouterr().err
