"""The contract of every registered distribution of times and weighting by time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from contract import complete
from pushforward import registry
from pushforward.fields import PREDICTIONS
from pushforward.objectives import Step
from pushforward.paths import Interpolant, Karras
from pushforward.random import seeded

DOUBLE = torch.float64


def log_normal(t: np.ndarray) -> np.ndarray:
    """That of times whose noise level has a log-normal distribution, truncated to [0.01, 30]."""
    sigma = (30 ** (1 / 5) * (1 - t) + 0.01 ** (1 / 5) * t) ** 5
    below, low, high = (stats.norm.cdf(np.log(s), -0.8, 0.9) for s in (sigma, 0.01, 30))
    return (high - below) / (high - low)


#: Options, and the distribution function.
TIMES = {
    "uniform": ("", lambda t: t),
    "late": ("power=3", lambda t: 1 - (1 - t) ** (1 / 3)),
    "logit-normal": ("mean=0.4,std=0.8", lambda t: stats.norm.cdf(np.log(t / (1 - t)), 0.4, 0.8)),
    # all times of a step are at once
    "discrete": ("steps=1000", lambda t: (np.floor(t * 1000 + 1e-9) + 1) / 1000),
    "edm": ("mean=-0.8,std=0.9", lambda t: log_normal(t)),
    "log-snr": ("margin=0.01", lambda t: 0.5 + np.log(t / (1 - t)) / (2 * np.log(99))),
    "u-shaped": ("a=3", lambda t: 0.5 + np.sinh(3 * (t - 0.5)) / (2 * np.sinh(1.5))),
}
#: The paths of times that are told by one.
PATHS = {"edm": Interpolant(Karras(0.01, 30, 5))}
#: Options, and the weight of the error of a velocity on the linear path, where SNR = (t / (1 - t))^2.
WEIGHTINGS = {
    "uniform": ("", lambda t: np.ones_like(t)),
    "min-snr": ("gamma=2", lambda t: np.minimum(t**2, 2 * (1 - t) ** 2)),
    "power": ("early=2,late=-1", lambda t: t**2 / (1 - t)),
    "likelihood": ("", lambda t: t / (1 - t)),
    "edm": ("sigma_data=0.5", lambda t: t**2 + 4 * (1 - t) ** 2),
}


def test_every_distribution_of_times_and_every_weighting_has_a_case() -> None:
    complete("times", TIMES)
    complete("weighting", WEIGHTINGS)


def create(kind: str, name: str):
    options = {"times": TIMES, "weighting": WEIGHTINGS}[kind][name][0]
    made = registry.create(kind, f"{name},{options}".rstrip(","))
    return made.along(PATHS[name]) if kind == "times" and name in PATHS else made


@pytest.mark.parametrize("name", TIMES)
def test_quantiles_invert_the_distribution_function(name: str) -> None:
    levels = torch.tensor([0.01, 0.2, 0.5, 0.77, 0.99], dtype=DOUBLE)
    times = create("times", name).quantile(levels).numpy()
    # where a time has a share of its own, the distribution function jumps over the level
    function, u = TIMES[name][1], levels.numpy()
    assert (function(times) >= u * (1 - 1e-12)).all() and (function(times - 1e-11) <= u * (1 + 1e-8)).all()


@pytest.mark.parametrize("name", TIMES)
def test_drawn_times_follow_the_distribution_and_the_generator(name: str) -> None:
    """By Kolmogorov and Smirnov, at a level of 0.001 for one seed."""
    times, like = create("times", name), torch.zeros(1, dtype=DOUBLE)
    step = Step(generator=seeded("times", name))
    drawn = np.array([float(times.draw(like, step)) for _ in range(2000)])
    assert stats.kstest(drawn, TIMES[name][1]).pvalue > 0.001
    again = Step(generator=seeded("times", name))
    assert drawn[0] == float(times.draw(like, again)) and drawn[0] != drawn[1]


@pytest.mark.parametrize("name", TIMES)
def test_a_batch_is_drawn_in_strata_and_keeps_away_from_open_ends(name: str) -> None:
    times, like = create("times", name), torch.zeros(50, dtype=DOUBLE)
    edges = times.quantile(torch.linspace(0, 1, 51, dtype=DOUBLE))
    t = times.draw(like, Step(generator=seeded(1)))
    assert bool(((t >= edges[:-1]) & (t <= edges[1:])).all())
    part = times.draw(like[:20], Step(generator=seeded(1), rows=(30, 50)))
    assert bool(((part >= edges[30:50]) & (part <= edges[31:])).all())
    away = times.draw(like, Step(generator=seeded(1)), 0.1, (True, False))
    assert torch.allclose(away, 0.1 + 0.9 * t)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weight_is_its_formula_and_never_negative(name: str) -> None:
    weighting, formula = create("weighting", name), WEIGHTINGS[name][1]
    t = torch.linspace(0.05, 0.95, 19, dtype=DOUBLE)
    point = Interpolant().sample(t, torch.zeros(19, 1, dtype=DOUBLE), torch.ones(19, 1, dtype=DOUBLE))
    np.testing.assert_allclose(weighting(point, "velocity").flatten().numpy(), formula(t.numpy()), rtol=1e-12)
    for prediction in PREDICTIONS:
        weight = weighting(point, prediction)
        assert weight.dtype == DOUBLE and bool((weight >= 0).all()) and bool(weight.isfinite().all())
    ends = torch.tensor([1e-12, 1 - 1e-12], dtype=DOUBLE)
    point = Interpolant().sample(ends, torch.zeros(2, 1, dtype=DOUBLE), torch.ones(2, 1, dtype=DOUBLE))
    largest = torch.stack([weighting(point, prediction).flatten() for prediction in PREDICTIONS]).amax(0)
    assert weighting.open_ends == tuple((largest > 1e6).tolist())
