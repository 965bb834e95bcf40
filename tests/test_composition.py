"""Composition errors of exact and of wrong flow maps, and the report of a run of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pushforward import FlowMapOracle, GaussianMixture
from pushforward.cli.entry import main
from pushforward.metrics import composition_error, composition_gap
from pushforward.random import seeded

DOUBLE = torch.float64


def test_an_exact_map_composes() -> None:
    mixture = GaussianMixture(torch.tensor([[1.0, -2.0]], dtype=DOUBLE), 0.3)
    oracle = FlowMapOracle(mixture)
    x0 = torch.randn(100, 2, dtype=DOUBLE, generator=seeded("exact"))
    assert composition_error(oracle.jump, x0, generator=seeded("times")) < 1e-20


def test_the_gap_of_a_wrong_map_is_known() -> None:
    """Two Euler steps of dx/dt = -x miss one by (t - u)(u - s) x, where one goes to (1 - (t - s)) x."""
    half = torch.randn(60, 3, dtype=DOUBLE, generator=seeded("wrong"))
    x = torch.cat([half, -half])
    for s, u, t in ((0.0, 0.5, 0.9), (0.1, 0.2, 0.7)):
        times = torch.tensor([s, u, t], dtype=DOUBLE)
        found = composition_gap(lambda s, t, x: x - (t - s) * x, x, *times)
        assert found == pytest.approx(((t - u) * (u - s) / (1 - (t - s))) ** 2, rel=1e-10)


def test_the_error_is_the_mean_over_sorted_times() -> None:
    """A map that misses by a constant at every leap: the gap is its square over the variance, 1."""
    half = torch.randn(50, 1, dtype=DOUBLE, generator=seeded("constant"))
    x = torch.cat([half, -half]) / half.square().mean().sqrt()
    seen: list[tuple[float, float]] = []

    def jump(s: torch.Tensor, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        seen.append((float(s), float(t)))
        return x + 0.1

    assert composition_error(jump, x, (0.2, 0.8), 20) == pytest.approx(0.01, rel=1e-9)
    assert len(seen) == 80 and all(0.2 <= s <= t <= 0.8 for s, t in seen)


def test_what_has_no_composition_error_is_refused() -> None:
    x = torch.zeros(3, 1)
    with pytest.raises(ValueError, match="x: expected at least 2 rows, got 1"):
        composition_error(lambda s, t, x: x, x[:1])
    with pytest.raises(ValueError, match="draws: expected at least 1, got 0"):
        composition_error(lambda s, t, x: x, x, draws=0)
    with pytest.raises(ValueError, match="interval: expected a start before its end"):
        composition_error(lambda s, t, x: x, x, (1.0, 0.5))


def test_the_report_of_a_flow_map(tmp_path: Path) -> None:
    train = ["train", "moons", "--method", "flow-map", "--network", "mlp,width=16,depth=2", "--rows", "150"]
    quick = ["--folds", "0", "--steps", "20", "--source", "normal", "--no-report"]
    assert main([*train, *quick, "--out", str(tmp_path / "run")]) == 0
    assert main(["report", str(tmp_path / "run"), "--samples", "60"]) == 0
    told = json.loads((tmp_path / "run" / "report.json").read_text())
    assert told["left_out"] == {} and told["sampler"] == {"solver": "flow map", "nfe": 1.0}
    points = told["evaluations"]["points"]
    assert [p["nfe"] for p in points if p["solver"] == "flow map"] == [1, 2, 4, 8, 16, 32, 64]
    assert {"Euler", "Dopri5"} <= {p["solver"] for p in points}
    leaps = told["leaps"]
    assert leaps["composition"] > 0 and leaps["gap"] > 0 and len(leaps["table"]) == len(leaps["times"])
    assert all(
        (cell is None) == (j <= i) for i, row in enumerate(leaps["table"]) for j, cell in enumerate(row)
    )
    assert {"one_step.png", "composition.png", "density.png", "quality.png"} <= set(told["figures"])
    assert told["density"][0]["key"] == "model" and told["player"]["layers"] is False
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Log-densities are those of its velocity field" in page
    assert "with 1 step of the flow map, one evaluation each" in page
    assert "The composition error of the flow map is" in page
