"""Samplers with noise keep the distribution at every time: 20,000 draws against closed forms.

The statistics of a time are two means, three covariances and a weight, each in its own standard error.
"""

from __future__ import annotations

from statistics import NormalDist

import pytest
import torch

import marginal_cases
from contract import classes
from pushforward.paths import ConstantDiffusion, DiffusionCoefficient, Memoryless, Proportional
from pushforward.random import seeded
from pushforward.solvers import SDE, EulerMaruyama, Jump, Solver, StochasticHeun

#: Every registered solver that draws noise and not tokens, with 100 steps, or as many more as bring its bias
#: below about a standard error of 20,000 draws: with 100, first-order ones have 2.7 of them, and the churn of
#: EDM 2.4.
STEPS = {"edm": 200}
SAMPLERS = {name: cls for name, cls in classes("solver").items() if cls.draws and cls.solves is not Jump}
LEVELS: dict[str, DiffusionCoefficient] = {
    **{f"g={g}": ConstantDiffusion(g) for g in (0.0, 0.5, 1.0, 2.0)},
    "proportional": Proportional(),
    "memoryless": Memoryless(),
}
CASES = [
    (name, level)
    for name, cls in SAMPLERS.items()
    for level in (LEVELS if cls.solves is SDE else ["its own"])
]


def check(solver: Solver, g: DiffusionCoefficient | None, n: int = 20_000) -> None:
    found = marginal_cases.draws(solver, g, n, seeded("marginals", repr(solver)))
    z = torch.stack([marginal_cases.errors(x, t) for x, t in zip(found, marginal_cases.TIMES)])
    # Bonferroni: the largest of 24 normal numbers is above 3.53 in at most one of 100 cases, whatever their
    # dependence; the root of their mean square, 1 on average, has a spread of about 0.25 because of it
    bound = NormalDist().inv_cdf(1 - 0.01 / 2 / z.numel())
    assert float(z.abs().max()) < bound and float(z.square().mean().sqrt()) < 2, z


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "level"), CASES)
def test_a_sampler_keeps_the_marginals(name: str, level: str) -> None:
    cls = SAMPLERS[name]
    check(cls(STEPS.get(name, 100) if cls.order > 1 else 500), LEVELS.get(level))


@pytest.mark.parametrize("level", ["g=2.0", "proportional"])
def test_stochastic_heun_keeps_the_marginals(level: str) -> None:
    """The same for every run of the tests; half the score, or twice the noise, fails here."""
    check(StochasticHeun(60), LEVELS[level])


def test_wrong_processes_are_found_out() -> None:
    """A drift that lacks the score, and a score without noise, are far beyond the bounds."""
    flow = marginal_cases.exact_flow()
    right = flow.stochastic(1.0, EulerMaruyama(50))
    for wrong in (right.replace(drift=flow.field), right.replace(diffusion=0.0)):
        x0 = flow.source.sample(5000, generator=seeded("start"))
        path = wrong.trajectory(x0, [0.5], generator=seeded("noise")).path
        assert path is not None
        assert float(marginal_cases.errors(path[0], 0.5).abs().max()) > 10
