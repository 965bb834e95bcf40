"""Built-in data: the distributions of the toys, and their preprocessing."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from pushforward import random
from pushforward.data import load, toys
from pushforward.entries import DATASETS
from toy_moments import MOMENTS

N = 40_000


def draw(function, seed=0, **options):
    return function(N, generator=random.seeded("test", seed), dtype=torch.float64, **options)


@pytest.mark.parametrize("name", MOMENTS)
def test_toys_document_their_moments(name):
    """The closed forms that the docstrings state, against quadrature."""
    pi, end = math.pi, 3 * math.pi
    c, v = (0.5 - 4 / pi) / 4, 0.5 - 4 / pi**2 + (4 / pi - 0.5) ** 2 / 4
    stated = {
        "moons": ((0.5, 0.25), (0.75 + 0.05**2, c, v + 0.05**2)),
        "spirals": (
            (0, 0),
            ((end**2 + 3) / 36 + 0.01, (3 / (4 * end) - end / 2) / 9, (end**2 - 3) / 36 + 0.01),
        ),
        "scurve": ((0, 0), (0.5 + 0.05**2, -1 / (3 * pi), 1.5 + 4 / (3 * pi) + 0.05**2)),
    }
    mean, second = MOMENTS[name]()
    if name == "swissroll":
        assert mean == pytest.approx([2 / 5, 2 / (15 * pi)])
        raw = [(39 * pi**2 / 8 - 0.25) / 25 + 0.01, 3 * pi / 50, (39 * pi**2 / 8 + 0.25) / 25 + 0.01]
        assert second[np.triu_indices(2)] == pytest.approx(raw)
    elif name in stated:
        covariance = second - np.outer(mean, mean)
        assert mean == pytest.approx(stated[name][0], abs=1e-9)
        assert covariance[np.triu_indices(2)] == pytest.approx(stated[name][1], abs=1e-9)


def test_moons_without_noise_lie_uniformly_on_their_half_circles():
    label = torch.arange(N) % 2
    x = draw(toys.moons, noise=0.0, label=label)
    outer, inner = x[label == 0], x[label == 1]
    assert torch.allclose(outer.norm(dim=1), torch.ones(N // 2, dtype=torch.float64))
    assert bool((outer[:, 1] >= 0).all()) and bool((inner[:, 1] <= 0.5).all())
    shifted = torch.stack([1 - inner[:, 0], 0.5 - inner[:, 1]], 1)
    for arc in (outer, shifted):
        angle = torch.atan2(arc[:, 1], arc[:, 0]) / math.pi
        # A Kolmogorov-Smirnov test on seeded draws; p below 1e-3 in one of a thousand seeds.
        assert stats.kstest(angle.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("name", ["moons", "eight_gaussians", "circles", "spirals", "swissroll", "scurve"])
def test_noise_is_normal_with_the_deviation_asked_for(name):
    function = getattr(toys, name)
    noise = (draw(function, noise=0.3) - draw(function, noise=0.0)) / 0.3
    assert stats.kstest(noise.reshape(-1).numpy(), "norm").pvalue > 1e-3


def test_checkerboard_fills_its_eight_squares_evenly_and_no_other():
    x = draw(toys.checkerboard)
    cell = ((x + 4) / 2).floor().long()
    assert bool((cell.sum(1) % 2 == 0).all())
    counts = torch.bincount(4 * cell[:, 0] + cell[:, 1], minlength=16)
    assert stats.chisquare(counts[counts > 0].numpy()).pvalue > 1e-3
    assert int((counts > 0).sum()) == 8
    inside = (x + 4) / 2 - cell
    assert stats.kstest(inside.reshape(-1).numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("name", ["eight_gaussians", "pinwheel", "circles", "spirals"])
def test_labels_choose_the_component(name):
    classes = toys.LABELS[name]
    label = torch.arange(N) % classes
    options: dict[str, Any] = {"noise": 0.0} | ({"spread": 0.0} if name == "pinwheel" else {})
    x = draw(getattr(toys, name), label=label, **options)
    if name == "circles":
        expected = torch.where(label == 0, 1.0, 0.5).double()
        assert torch.allclose(x.norm(dim=1), expected)
    elif name == "spirals":
        other = draw(getattr(toys, name), label=1 - label, **options)
        assert torch.allclose(x, -other)
    else:
        offset = math.e / 4 if name == "pinwheel" else 0.0
        turned = torch.atan2(x[:, 1], x[:, 0]) - 2 * math.pi * label / classes - offset
        assert torch.allclose(turned.cos(), torch.ones(N, dtype=torch.float64))


@pytest.mark.parametrize("name", DATASETS)
def test_every_built_in_name_loads_and_is_standardised(name):
    data = load(name)
    x = data.preprocess.inverse(data.train.x, generator=random.seeded("test"))
    assert data.schema.rows_train == len(data.train) and data.schema.rows_test == len(data.test)
    assert data.train.x.shape[1:] == data.schema.event_shape
    if data.schema.kind == "table":
        assert data.train.x.dtype == torch.float64
        assert len(data.schema.columns) == data.schema.event_shape[0]
        # uncorrelated at unit deviation, up to the shrinkage of few rows, and to far rows,
        # which tumours have: .99, .31 of wine, less of all others
        far = 1.2 if name == "breast-cancer" else 0.4
        torch.testing.assert_close(x.mean(0), torch.zeros_like(x[0]), atol=0.1, rtol=0)
        torch.testing.assert_close(x.T.cov(correction=0), torch.eye(x.shape[1]).to(x), atol=far, rtol=0)
    else:
        assert data.train.x.dtype == torch.float32
        assert -1 <= x.min() < -0.9 and 0.9 < x.max() < 1


def test_importing_the_data_layer_loads_no_plotting_and_no_imaging():
    code = "import sys, pushforward.data; print([m for m in ('PIL', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
