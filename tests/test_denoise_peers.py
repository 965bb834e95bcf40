"""Denoising solvers against the schedulers of diffusers, which compute the same updates."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pushforward.oracles import GaussianMixtureOracle
from pushforward.paths import Linear
from pushforward.random import seeded
from pushforward.solvers import Denoise, DPMSolver, UniPC
from pushforward.solvers.denoise import Denoiser
from pushforward.sources import GaussianMixture
from solver_cases import tensor

diffusers = pytest.importorskip("diffusers")

ORACLE = GaussianMixtureOracle(GaussianMixture(tensor([-1.5, 0.0], [1.0, 1.0], [0.5, -1.5]), 0.4))
#: The scheduler, with what makes its method ours, and our solver.
CASES: dict[str, tuple[str, dict[str, Any], type[Denoiser]]] = {
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}, DPMSolver),
    "unipc": ("UniPCMultistepScheduler", {"solver_type": "bh2"}, UniPC),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers.*")
@pytest.mark.parametrize("steps", [3, 8, 20])
@pytest.mark.parametrize("name", CASES)
def test_the_end_is_that_of_diffusers(name: str, steps: int) -> None:
    """On the linear path, whose noise diffusers calls sigma, from almost pure noise to none."""
    scheduler, options, ours = CASES[name]
    theirs = getattr(diffusers, scheduler)(
        prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=2, **options
    )
    theirs.set_timesteps(steps)
    times = [1 - float(sigma) for sigma in theirs.sigmas]
    x = start = torch.randn(50, 2, generator=seeded("peers"), dtype=torch.float64)
    for t, step in zip(times, theirs.timesteps):
        # their velocity points from the data to the noise
        x = theirs.step(-ORACLE(tensor(t)[0], x), step, x).prev_sample
    grid = [(t - times[0]) / (1 - times[0]) for t in times]
    solver = ours(grid=[0.0, *grid[1:-1], 1.0])
    found = solver.solve(Denoise(ORACLE.data, Linear()), start, times[0], 1.0)
    assert found.calls == steps
    # their coefficients are in float32
    torch.testing.assert_close(found.x, x, rtol=0, atol=2e-5)
