"""Flows that sample by predictions of the data, against the continuous flow that they come from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from contract import classes
from narrowing import known
from pushforward.bijections import Affine
from pushforward.fields import Parameterised
from pushforward.flows import ContinuousFlow, DenoisingFlow, Transformed
from pushforward.oracles import GaussianMixtureOracle, OracleOutput
from pushforward.paths import Interpolant, Path, SineSquared, Trigonometric
from pushforward.random import seeded
from pushforward.solvers import DDIM, Denoise, Dopri5, DPMSolver, DPMSolverSDE, Heun
from pushforward.sources import GaussianMixture, Normal
from solver_cases import tensor

MIXTURE = GaussianMixture(tensor([-1.5, 0.0], [1.0, 1.0]), 0.4)
EXACT = Dopri5(rtol=1e-8, atol=1e-8)
DENOISERS = {name: cls for name, cls in classes("solver").items() if cls.solves is Denoise}
START = torch.randn(200, 2, generator=seeded("flow"), dtype=torch.float64)
PATHS = {
    "linear": Interpolant(),
    "trigonometric": Interpolant(Trigonometric()),
    "noisy": Interpolant(gamma=SineSquared()),
}


def flow_of(path: Path, given: bool = True) -> ContinuousFlow:
    oracle = GaussianMixtureOracle(MIXTURE, path)
    return ContinuousFlow(oracle, EXACT, Normal(2).double(), path=path if given else "not said")


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("given", [True, False], ids=["path", "no path"])
def test_points_go_where_the_ode_takes_them(name: str, given: bool) -> None:
    """Also by the coefficients of the linear path, where the field is that of another one."""
    flow = flow_of(PATHS[name], given)
    found = flow.following(DPMSolver(steps=400)).push(START)
    assert float((found - flow.push(START)).square().mean().sqrt()) < 5e-3


@pytest.mark.parametrize("name", DENOISERS)
def test_samples_have_the_mixture_and_repeat(name: str) -> None:
    flow = flow_of(Interpolant()).following(DENOISERS[name](steps=100))
    x, again = (flow.sample(10_000, generator=seeded(name)) for _ in range(2))
    assert torch.equal(x, again) and not flow.invertible and flow.density == "none"
    # three standard errors of 10,000 draws and the bias of 100 steps of first order
    exact = MIXTURE.sample(200_000, generator=seeded("exact"))
    for a, b in [(x, exact), (x.square(), exact.square())]:
        error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() < 3 * error + 0.02).all()


def test_the_last_step_reaches_the_data_without_a_margin() -> None:
    """A field from a prediction of the data has no velocity at t = 1, which no step asks for."""
    oracle = GaussianMixtureOracle(MIXTURE)
    field = Parameterised(OracleOutput(oracle, "data"), "data", oracle.path)
    flow = ContinuousFlow(field, EXACT, Normal(2).double(), interval=(0.0, 0.999), path=oracle.path)
    assert DenoisingFlow(flow, DDIM()).interval == (0.0, 1.0)
    found = flow.following(DPMSolver(steps=400)).push(START)
    truth = flow_of(oracle.path).push(START)
    # the flow itself stops where 1e-3 of the noise is left
    assert float((found - truth).square().mean().sqrt()) < 2e-3


def test_a_trajectory_ends_as_push_does() -> None:
    flow = DenoisingFlow(flow_of(Interpolant()), DPMSolverSDE(steps=20))
    found = flow.trajectory(START, [0.0, 0.33, 1.0], generator=seeded(1))
    path = known(found.path)
    assert torch.equal(path[0], START) and torch.equal(path[-1], flow.push(START, generator=seeded(1)))
    with pytest.raises(ValueError, match="times: expected increasing times"):
        flow.trajectory(START, [1.0, 0.0])


def test_guidance_conditions_and_preprocessing_are_those_of_the_flow() -> None:
    def field(t: Tensor, x: Tensor, condition: Tensor) -> Tensor:
        return condition.nan_to_num(0.5) - x  # nan stands for an absent condition

    inner = ContinuousFlow(field, EXACT, Normal(1).double(), condition_shape=(1,), guidance=3.0)
    flow = Transformed(inner, Affine(2.0, 5.0), torch.float64)
    condition, x0 = torch.linspace(-1, 1, 7).double()[:, None], torch.zeros(7, 1).double()
    found = flow.following(DPMSolver(steps=300)).push(x0, condition)
    torch.testing.assert_close(found, flow.push(x0, condition), rtol=0, atol=1e-3)


def test_what_it_cannot_do_it_says() -> None:
    flow = flow_of(Interpolant(), given=False)
    with pytest.raises(ValueError, match="not said"):
        flow.following(DPMSolverSDE())
    denoising = flow.following(DDIM())
    assert isinstance(denoising, DenoisingFlow)
    with pytest.raises(ValueError, match="has no density of its own"):
        denoising.log_prob(START)
    with pytest.raises(ValueError, match="solves an ODE"):
        denoising.following(Heun())
