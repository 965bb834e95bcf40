"""Continuous normalizing flows by maximum likelihood: gradients, regularisers, settings."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pushforward
from narrowing import one_tensor
from pushforward import Rows
from pushforward.config import RunConfig
from pushforward.flows import ContinuousFlow, Divergence, Exact, Hutchinson, HutchPlusPlus
from pushforward.metrics import straightness
from pushforward.nn import MLP
from pushforward.objectives import Batch, ContinuousLikelihood, MaximumLikelihood, Step
from pushforward.random import seeded
from pushforward.recipes import resolve
from pushforward.recipes.open import load_dataset
from pushforward.solvers import RK4, Adjoint, Checkpointed, Dopri5, Midpoint, Solver, Tsit5
from pushforward.sources import Normal

DOUBLE = torch.float64


def flow_of(
    solver: Solver, divergence: Divergence, dtype: torch.dtype = DOUBLE, d: int = 3
) -> ContinuousFlow:
    torch.manual_seed(0)
    net = MLP((d,), width=16, depth=2, activation="tanh")
    return ContinuousFlow(net, solver, Normal(d), divergence=divergence).to(dtype)


def batch_of(dtype: torch.dtype = DOUBLE, d: int = 3) -> Batch:
    return Batch((Rows(torch.randn(32, d, generator=seeded("rows"), dtype=DOUBLE).to(dtype)),))


def gradient(flow: ContinuousFlow, objective: ContinuousLikelihood) -> Tensor:
    dtype = next(flow.parameters()).dtype
    step = Step(generator=seeded("noise"))
    loss = objective.loss(nn.ModuleDict({"flow": flow}), batch_of(dtype), step)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss.value, [*flow.parameters()])]).double()


WRAPS = pytest.mark.parametrize(
    "wrap", [lambda solver: solver, Checkpointed, Adjoint], ids=["backprop", "checkpoint", "adjoint"]
)
METHODS = [Exact(), Hutchinson(), Hutchinson("gaussian", 2), HutchPlusPlus(3)]


@pytest.mark.parametrize("divergence", METHODS, ids=repr)
@WRAPS
def test_gradients_are_those_of_backpropagation_in_double(wrap: Any, divergence: Divergence) -> None:
    """To 1e-5 of the largest: at a tolerance of 1e-9 the error of the steps is far below."""
    solver = Dopri5(rtol=1e-9, atol=1e-9)
    true = gradient(flow_of(solver, divergence), ContinuousLikelihood())
    found = gradient(flow_of(wrap(solver), divergence), ContinuousLikelihood())
    assert float((found - true).abs().max() / true.abs().max()) < 1e-5


@WRAPS
def test_gradients_in_single_precision_are_those_in_double(wrap: Any) -> None:
    true = gradient(flow_of(RK4(steps=20), Exact()), ContinuousLikelihood())
    found = gradient(flow_of(wrap(RK4(steps=20)), Exact(), torch.float32), ContinuousLikelihood())
    # a hundred times the rounding of float32, 6e-8, over 80 evaluations
    assert float((found - true).abs().max() / true.abs().max()) < 1e-5


def test_without_regularisers_it_is_the_likelihood_of_the_flow() -> None:
    flow, batch = flow_of(Midpoint(steps=4), Hutchinson()), batch_of()
    models = nn.ModuleDict({"flow": flow})
    ours, plain = (
        objective.loss(models, batch, Step(generator=seeded("same")))
        for objective in (ContinuousLikelihood(), MaximumLikelihood())
    )
    torch.testing.assert_close(ours.value, plain.value)
    torch.testing.assert_close(ours.errors, plain.errors)
    assert not ours.terms


class Linear(nn.Module):
    """f = A x, whose paths and Jacobian are known."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([[0.3, 0.5], [-0.2, 0.4]], dtype=DOUBLE))

    def forward(self, t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
        return x @ self.a.T


@WRAPS
def test_regularisers_of_a_linear_field_are_the_closed_forms(wrap: Any) -> None:
    """|f|^2 along x(t) = exp(A (t - 1)) x, by quadrature; |e^T J|^2 is constant, on average |A|_F^2."""
    field, x = Linear(), torch.randn(4000, 2, generator=seeded("linear"), dtype=DOUBLE)
    flow = ContinuousFlow(field, wrap(RK4(steps=20)), Normal(2).double(), divergence=Hutchinson("gaussian"))
    loss = ContinuousLikelihood(kinetic=0.5, jacobian=2.0).loss(
        nn.ModuleDict({"flow": flow}), Batch((Rows(x),)), Step(generator=seeded("linear", 1))
    )
    times = torch.linspace(0, 1, 2001, dtype=DOUBLE)
    paths = torch.stack([x @ torch.linalg.matrix_exp(field.a * (t - 1)).T @ field.a.T for t in times])
    kinetic = torch.trapezoid(paths.square().sum(2).mean(1), times) / 2
    torch.testing.assert_close(loss.terms["kinetic"], kinetic.detach(), rtol=1e-6, atol=0)
    # e^T A A^T e has the variance 2 |A A^T|_F^2 for normal e; five standard errors over the rows
    square = (field.a @ field.a.T).detach()
    error = float((2 * square.square().sum()).sqrt()) / math.sqrt(len(x)) / 2
    assert float(loss.terms["jacobian"]) == pytest.approx(float(square.trace()) / 2, abs=5 * error)
    total = loss.terms["nll"] + 0.5 * loss.terms["kinetic"] + 2.0 * loss.terms["jacobian"]
    torch.testing.assert_close(loss.value.detach(), total)
    torch.testing.assert_close(loss.errors.mean(), loss.terms["nll"])
    assert torch.autograd.grad(loss.value, field.a)[0].all()


def test_kinetic_energy_makes_paths_cheaper_to_follow() -> None:
    """Over seeds: straighter, and fewer evaluations at an equal tolerance, at about the same likelihood."""
    x = torch.cat([torch.randn(256, 2, generator=seeded("two", k)) * 0.2 + 2 * k - 1 for k in range(2)])
    found: dict[float, list[tuple[float, float, float]]] = {0.0: [], 0.2: []}
    for weight, runs in found.items():
        for seed in range(2):
            torch.manual_seed(seed)
            flow = ContinuousFlow(MLP((2,), width=32, depth=2), RK4(steps=4), Normal(2))
            models = nn.ModuleDict({"flow": flow})
            objective = ContinuousLikelihood(kinetic=weight)
            optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
            for _ in range(100):
                optimiser.zero_grad()
                objective.loss(models, Batch((Rows(x),)), Step()).value.backward()
                optimiser.step()
            with torch.no_grad():
                solution = Tsit5(rtol=1e-6, atol=1e-6).solve(flow.field, x, 1.0, 0.0)
                times = torch.linspace(0, 1, 33)
                along = one_tensor(flow.trajectory(flow.pull(x[::8]), times).path)
                nll = -flow.log_prob(x).mean()
            runs.append((float(solution.nfe.float().mean()), float(straightness(along, times)), float(nll)))
    (nfe, bend, nll), (nfe_k, bend_k, nll_k) = (torch.tensor(runs).T for runs in found.values())
    assert nfe_k.max() < nfe.min() and bend_k.max() < bend.min()
    assert float((nll_k - nll).max()) < 0.2


def test_a_row_that_the_solver_gives_up_makes_the_loss_not_finite() -> None:
    flow = flow_of(Dopri5(rtol=1e-6, atol=1e-6, max_steps=1), Exact())
    loss = ContinuousLikelihood().loss(nn.ModuleDict({"flow": flow}), batch_of(), Step())
    assert bool(loss.value.isnan())


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"method": "nsf", "kinetic": 0.1}, "kinetic 0.1: does not go with method nsf"),
        ({"method": "nsf", "network": "resmlp"}, "network resmlp: does not go with method nsf"),
        ({"method": "fm", "gradient": "adjoint"}, "gradient adjoint: does not go with method fm"),
        ({"method": "nsf", "divergence": "exact"}, "is for continuous flows"),
        ({"method": "cnf", "flow": "nsf"}, "does not go with"),
        ({"method": "cnf", "reflow": 1}, "reflow 1: does not go with method cnf"),
        ({"method": "cnf", "distil": True}, "distil: does not go with method cnf"),
        ({"method": "cnf", "path": "vp"}, "path vp: does not go with method cnf"),
        ({"method": "cnf", "source": "8gaussians"}, "source 8gaussians: method cnf needs a source of known"),
        (
            {"method": "ffjord", "divergence": "hutchinson,probes=900"},
            "expected at most 6 probes in training",
        ),
        ({"method": "fm", "divergence": "hutchinson,probes=2000"}, "expected an integer from 1 to 1000"),
        ({"method": "cnf", "train_solver": "rk4,steps=0"}, "train_solver 'rk4,steps=0': steps: expected"),
        ({"method": "cnf", "train_solver": "rk4,step=2"}, "train_solver 'rk4,step=2': unknown option"),
        ({"method": "cnf", "train_solver": "euler-maruyama"}, "follows an ODE"),
        ({"method": "cnf", "train_solver": "rk44"}, "did you mean"),
        (
            {"method": "cnf", "train_solver": "dopri5,rtol=1e-30"},
            "train_solver dopri5,rtol=1e-30: rtol: expected",
        ),
        (
            {"method": "fm", "solver": "dopri5,rtol=1e-9"},
            "solver dopri5,rtol=1e-9: rtol: expected 0 or at least",
        ),
        (
            {"method": "fm", "solver": "tsit5,rtol=0,atol=1e-9"},
            "solver tsit5,rtol=0,atol=1e-9: atol: expected",
        ),
        ({"method": "cnf", "jacobian": 0.1, "divergence": "exact"}, "expected divergence hutchinson"),
        ({"method": "cnf", "gradient": "forward"}, "expected backprop or checkpoint or adjoint"),
        ({"method": "cnf", "kinetic": -1.0}, "kinetic"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(
    settings: dict[str, Any], told: str, tmp_path: Any
) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        pushforward.train("moons", tmp_path / "run", rows=100, steps=2, show_progress=False, **settings)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_a_tolerance_counts_in_the_precision_of_the_run() -> None:
    short: dict[str, Any] = {"rows": 100, "steps": 2, "show_progress": False, "precision": "64-true"}
    pushforward.train("moons", method="cnf", train_solver="dopri5,rtol=1e-9,atol=1e-3", **short)


@pytest.mark.parametrize("kinetic, jacobian", [(-1.0, 0.0), (0.0, math.inf)])
def test_weights_of_regularisers_are_positive(kinetic: float, jacobian: float) -> None:
    with pytest.raises(ValueError, match="expected a finite number above 0"):
        ContinuousLikelihood(kinetic, jacobian)


@pytest.mark.parametrize(
    ("method", "rows", "rate"), [("cnf", 3000, 1e-2), ("ffjord", 3000, 1e-2), ("cnf", 500, 2e-3)]
)
def test_the_rate_is_higher_where_the_training_is_all_that_is_learnt(
    method: str, rows: int, rate: float
) -> None:
    config = RunConfig.of("moons", method=method, rows=rows)
    assert resolve(config, load_dataset(config).schema).optim.lr == rate


def test_the_penalty_of_the_jacobian_chooses_its_divergence() -> None:
    run = pushforward.train("moons", method="cnf", jacobian=0.1, rows=100, steps=1, show_progress=False)
    assert run.config.model.divergence == "hutchinson"


def test_equal_seeds_give_equal_weights_which_open_again(tmp_path: Any) -> None:
    short: dict[str, Any] = {
        "method": "ffjord",
        "rows": 300,
        "folds": 0,
        "source": "normal",
        "show_progress": False,
    }
    whole = pushforward.train("moons", tmp_path / "whole", steps=8, checkpoint_every=4, **short)
    again = pushforward.train("moons", tmp_path / "again", steps=8, checkpoint_every=4, **short)
    for name, weight in whole.flow.state_dict().items():
        assert torch.equal(weight, again.flow.state_dict()[name])
    assert whole.flow.density == "estimate"
    opened = pushforward.load(tmp_path / "whole")
    x = torch.randn(5, 2)
    assert torch.equal(opened.log_prob(x, generator=seeded(1)), whole.flow.log_prob(x, generator=seeded(1)))
