"""The contract of every registered base of a flow: density by SciPy, moments of draws, shapes, generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from contract import complete
from pushforward import registry
from pushforward.random import seeded
from pushforward.sources import Source

DOUBLE = torch.float64
Array = np.ndarray


@dataclass(frozen=True)
class Truth:
    """The same distribution by SciPy: log-density of rows ``(n, d)``, mean and variance ``(d,)``."""

    log_density: Callable[[Array], Array]
    mean: Array
    variance: Array


def normal(source: Source) -> Truth:
    return Truth(lambda x: stats.norm.logpdf(x, 0.5, 2.0).sum(1), np.full(4, 0.5), np.full(4, 4.0))


def student(source: Source) -> Truth:
    loc, scale, df = (numbers(source, name) for name in ("loc", "log_scale", "log_df"))
    each: Any = stats.t(np.exp(df), loc, np.exp(scale))
    return Truth(lambda x: each.logpdf(x).sum(1), each.mean(), each.var())


def mixture(source: Source) -> Truth:
    logits, means, scales = (numbers(source, name) for name in ("logits", "means", "log_scales"))
    means, scales = means.reshape(-1, 4), np.exp(scales.reshape(-1, 4))
    weight = np.exp(logits) / np.exp(logits).sum()

    def log_density(x: Array) -> Array:
        return np.log(sum(w * stats.norm.pdf(x, m, s).prod(1) for w, m, s in zip(weight, means, scales)))

    mean = weight @ means
    return Truth(log_density, mean, weight @ (scales**2 + means**2) - mean**2)


#: Options, and the truth of a source of four elements.
CASES: dict[str, tuple[str, Callable[[Source], Truth]]] = {
    "normal": ("scale=2.0,loc=0.5", normal),
    "student-t": ("df=9.0", student),
    "mixture": ("components=3", mixture),
}
named = pytest.mark.parametrize("name", CASES)


def numbers(source: Source, name: str) -> Array:
    return source.get_parameter(name).detach().numpy().reshape(-1)


def create(name: str) -> Source:
    """A source of events (2, 2) whose parameters, if it has some, are no longer those at the start."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        source: Source = registry.create("base", f"{name},{CASES[name][0]}", (2, 2)).double()
        with torch.no_grad():
            for parameter in source.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    return source


def test_every_base_has_a_case() -> None:
    complete("base", CASES)


@named
def test_the_density_is_that_of_scipy(name: str) -> None:
    source = create(name)
    x = 3 * torch.randn(40, 2, 2, generator=seeded("x"), dtype=DOUBLE)
    found = source.log_prob(x).detach().numpy()
    np.testing.assert_allclose(found, CASES[name][1](source).log_density(x.flatten(1).numpy()), rtol=1e-10)


@named
def test_draws_have_the_mean_and_the_variance_of_the_distribution(name: str) -> None:
    source, n = create(name), 40_000
    truth = CASES[name][1](source)
    x = source.sample(n, generator=seeded(name)).detach().flatten(1).numpy()
    # five standard errors, those of the variance from the fourth moment of the draws
    assert (np.abs(x.mean(0) - truth.mean) < 5 * np.sqrt(truth.variance / n)).all()
    fourth = ((x - truth.mean) ** 4).mean(0)
    assert (np.abs(x.var(0) - truth.variance) < 5 * np.sqrt(fourth / n)).all()


@named
def test_draws_follow_the_generator_and_no_rows_are_allowed(name: str) -> None:
    source = create(name)
    first, again, other = (source.sample(5, generator=seeded(seed)) for seed in (1, 1, 2))
    assert first.shape == (5, 2, 2) and first.dtype == DOUBLE
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert source.sample(0).shape == (0, 2, 2) and source.log_prob(first[:0]).shape == (0,)
    assert bool(source.log_prob(first).isfinite().all())
    with pytest.raises(ValueError, match="x: expected"):
        source.log_prob(torch.zeros(3, 2))
