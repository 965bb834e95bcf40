"""Fields of other packages against those packages: the same noise ends in the same place.

Models are closed forms, so that nothing is trained; the samplers, schedulers and solvers are theirs.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pushforward import (
    ContinuousFlow,
    Dopri5,
    Euler,
    GaussianMixture,
    GaussianMixtureOracle,
    Interpolant,
    Midpoint,
    Normal,
    VariancePreserving,
)
from pushforward.fields import FromSbi, Parameterised, from_diffusers, from_flow_matching, from_torchcfm
from pushforward.paths import Tabulated, check_rising
from pushforward.random import seeded
from pushforward.solvers import DDIM, Denoise

DOUBLE = torch.float64
STEPS = 1000
MIXTURE = GaussianMixture(torch.tensor([[-2.0, 0.0], [1.0, 1.5]], dtype=DOUBLE), 0.4)


def starts(rows: int = 6) -> Tensor:
    return torch.randn(rows, 2, dtype=DOUBLE, generator=seeded(0, "starts"))


def flow(field: Any, solver: Any, path: Any = None) -> ContinuousFlow:
    return ContinuousFlow(field, solver, Normal(2).double(), path=path)


# -- schedules -----------------------------------------------------------------------------------------


def test_a_table_of_a_schedule_is_that_schedule() -> None:
    """At its own times exactly, between them by cubics; the slopes are those of the cubics."""
    known, t = VariancePreserving(), torch.linspace(0, 1, 1001, dtype=DOUBLE)
    table = Tabulated(*known(t)[:2])
    for found, wanted in zip(table(t)[:2], known(t)[:2]):
        assert torch.allclose(found, wanted, atol=1e-12)
    inside = torch.rand(1000, dtype=DOUBLE, generator=seeded(0, "t")) * 0.98
    for found, wanted in zip(table(inside), known(inside)):
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-6)
    slope = torch.autograd.functional.jvp(lambda t: table(t)[:2], inside, torch.ones_like(inside))[1]
    assert torch.allclose(torch.stack(slope), torch.stack(table(inside)[2:]), atol=1e-9)
    check_rising(Interpolant(table))


@pytest.mark.parametrize(
    "alpha, sigma, told",
    [
        ([0.0], [1.0], r"alpha, sigma: expected \(n,\) both"),
        ([0.0, 1.0], [1.0], r"alpha, sigma: expected \(n,\) both"),
        ([0.0, -1.0], [1.0, 0.0], "no negative values"),
        ([0.0, 1.0], [0.0, 0.0], "one of each two above 0"),
        ([0.0, math.nan], [1.0, 0.0], "alpha: expected finite values"),
    ],
)
def test_a_wrong_table_is_refused(alpha: Any, sigma: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Tabulated(torch.tensor(alpha), torch.tensor(sigma))


# -- diffusers -----------------------------------------------------------------------------------------


def diffusers() -> Any:
    return pytest.importorskip("diffusers")


class Predictor:
    """The exact prediction of a kind for the mixture, at timesteps of a diffusers scheduler."""

    def __init__(self, scheduler: Any):
        self.kind = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}[
            scheduler.config.prediction_type
        ]
        self.products, self.asked = scheduler.alphas_cumprod.double(), []

    def __call__(self, x: Tensor, timesteps: Tensor) -> Any:
        k = torch.as_tensor(timesteps).to(DOUBLE).reshape(-1)
        self.asked += k.tolist()
        square = torch.from_numpy(np.interp(k.numpy(), np.arange(STEPS), self.products.numpy()))

        def at(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            return square.sqrt(), (1 - square).sqrt(), torch.ones_like(square), -torch.ones_like(square)

        class Fixed(Tabulated):
            def __init__(self) -> None: ...

            def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
                return at(t) if t.shape != (2,) else VariancePreserving()(t)

        oracle = GaussianMixtureOracle(MIXTURE, Interpolant(Fixed()))
        found = getattr(oracle, self.kind)(torch.zeros(len(square), dtype=DOUBLE), x)
        return SimpleNamespace(sample=found)


def scheduler_of(name: str, **options: Any) -> Any:
    given: dict[str, Any] = {
        "num_train_timesteps": STEPS,
        "clip_sample": False,
        "timestep_spacing": "trailing",
    }
    return getattr(diffusers(), name)(**{**given, **options})


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("betas", ["linear", "squaredcos_cap_v2"])
def test_ddim_ends_where_theirs_does(kind: str, betas: str) -> None:
    """Their DDIM with trailing steps and ours on a uniform grid are the same numbers."""
    scheduler = scheduler_of("DDIMScheduler", prediction_type=kind, beta_schedule=betas)
    model = Predictor(scheduler)
    x = starts()
    scheduler.set_timesteps(20)
    for k in scheduler.timesteps:
        x = scheduler.step(model(x, k).sample, k, x).prev_sample
    theirs_asked, model.asked = sorted(set(model.asked)), []
    field = from_diffusers(model, scheduler)
    data = Parameterised(field.field, field.kind, field.path, output="data")
    schedule: Any = field.path.schedule
    ours = DDIM(steps=20).solve(Denoise(lambda t, x: data(t, x), schedule), starts(), 0.0, 1.0).x
    assert sorted(set(model.asked)) == theirs_asked  # whole timesteps, the same ones
    # their table of alphas is float32
    assert torch.allclose(ours, x, atol=1e-5)


def test_the_flow_of_a_diffusers_model_ends_where_many_steps_of_theirs_do() -> None:
    scheduler = scheduler_of("DDIMScheduler", prediction_type="v_prediction")
    model = Predictor(scheduler)
    ends = []
    for steps in (250, 500):
        x = starts()
        scheduler.set_timesteps(steps)
        for k in scheduler.timesteps:
            x = scheduler.step(model(x, k).sample, k, x).prev_sample
        ends.append(x)
    field = from_diffusers(model, scheduler)
    ours = flow(field, Midpoint(steps=250), field.path).push(starts())
    # DDIM is of first order: what halving its step still changes is what remains
    remains = (ends[1] - ends[0]).abs().max()
    assert remains < 0.02
    assert (ours - ends[1]).abs().max() < 2 * remains


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_matching_model_of_diffusers_ends_where_theirs_does(shift: float) -> None:
    """Their Euler steps on their grid, and ours on the same times; N (1 - t) is the timestep."""
    scheduler = diffusers().FlowMatchEulerDiscreteScheduler(num_train_timesteps=STEPS, shift=shift)
    oracle = GaussianMixtureOracle(MIXTURE)

    def model(x: Tensor, timesteps: Tensor) -> tuple[Tensor]:
        return (-oracle(1 - torch.as_tensor(timesteps).to(DOUBLE).expand(len(x)) / STEPS, x),)

    scheduler.set_timesteps(30)
    x = starts()
    for k in scheduler.timesteps:
        x = scheduler.step(model(x, k)[0], k, x).prev_sample.to(DOUBLE)
    field = from_diffusers(model, scheduler)
    x0, t = starts(), 1 - scheduler.sigmas.double()
    for here, there in zip(t[:-1].tolist(), t[1:].tolist()):
        x0 = Euler(steps=1).solve(lambda t, x: field(t, x), x0, here, there).x
    assert torch.allclose(x0, x, atol=1e-4)
    fine = flow(field, Dopri5(rtol=1e-8, atol=1e-8), field.path)
    assert torch.allclose(
        fine.push(starts()), flow(oracle, Dopri5(rtol=1e-8, atol=1e-8)).push(starts()), atol=1e-6
    )


def test_a_network_of_diffusers_takes_labels_and_has_gradients() -> None:
    torch.manual_seed(0)
    network = diffusers().UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
        num_class_embeds=3,
    )
    field = from_diffusers(network, scheduler_of("DDPMScheduler"))
    x, labels = torch.randn(2, 1, 8, 8), torch.tensor([0, 2])
    t = torch.tensor([0.3, 0.7])
    k = STEPS * (1 - t) - 1
    c = field.path.coefficients(t.reshape(2, 1, 1, 1))
    noise = network(x, k, class_labels=labels).sample
    data = (x - c.sigma * noise) / c.alpha
    assert torch.allclose(field(t, x, labels), c.d_alpha * data + c.d_sigma * noise, rtol=1e-3, atol=1e-4)
    assert torch.equal(field(t, x, labels), field(t, x, {"class_labels": labels}))
    assert len(list(ContinuousFlow(field, source=Normal((1, 8, 8))).parameters())) == len(
        list(network.parameters())
    )


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "KarrasVeScheduler"])
def test_schedulers_of_another_kind_are_refused(name: str) -> None:
    made = getattr(diffusers(), name, None)
    if made is None:
        pytest.skip(f"this diffusers has no {name}")
    with pytest.raises(ValueError, match="scheduler: expected one of diffusers with alphas_cumprod"):
        from_diffusers(lambda x, t: x, made())


# -- flow_matching, torchcfm, sbi ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CondOTScheduler", "VPScheduler", "CosineScheduler"])
def test_models_of_flow_matching_end_where_theirs_do(name: str) -> None:
    solvers = pytest.importorskip("flow_matching.solver")
    schedulers = pytest.importorskip("flow_matching.path.scheduler")
    wrapper = pytest.importorskip("flow_matching.utils").ModelWrapper
    scheduler = getattr(schedulers, name)()
    path = from_flow_matching(lambda x, t: x, scheduler).path
    oracle = GaussianMixtureOracle(MIXTURE, path)

    class Model(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
            return oracle(t, x) + 0.1 * label[:, None]

    labels = torch.arange(6) % 2
    theirs = solvers.ODESolver(velocity_model=wrapper(Model()))
    t = torch.tensor([0.0, 0.99], dtype=DOUBLE)
    end = theirs.sample(starts(), step_size=0.99 / 40, method="midpoint", time_grid=t, label=labels)
    ours = from_flow_matching(wrapper(Model()), scheduler)
    found = Midpoint(steps=40).solve(lambda t, x: ours(t, x, labels), starts(), 0.0, 0.99).x
    assert torch.allclose(found, end, atol=1e-9)


def test_predictions_of_data_in_flow_matching_are_velocities_of_its_path() -> None:
    paths = pytest.importorskip("flow_matching.path")
    scheduler = pytest.importorskip("flow_matching.path.scheduler").PolynomialConvexScheduler(2)
    theirs = paths.AffineProbPath(scheduler=scheduler)
    oracle = GaussianMixtureOracle(MIXTURE, from_flow_matching(lambda x, t: x, scheduler).path)
    field = from_flow_matching(lambda x, t: oracle.data(t, x), scheduler, "data")
    t, x = torch.full((6,), 0.4, dtype=DOUBLE), starts()
    expected = theirs.target_to_velocity(x_1=oracle.data(t, x), x_t=x, t=t[:, None])
    assert torch.allclose(field(t, x), expected)


def test_models_of_torchcfm_take_x_and_t_as_columns() -> None:
    models = pytest.importorskip("torchcfm.models.models")
    torch.manual_seed(0)
    network = models.MLP(dim=2, w=8, time_varying=True).double()
    field = from_torchcfm(network, sigma=0.1)
    x, t = starts(), torch.tensor(0.3, dtype=DOUBLE)
    assert torch.equal(field(t, x), network(torch.cat([x, t.expand(6, 1)], 1)))
    assert len(list(field.parameters())) == len(list(network.parameters()))
    end = Euler(steps=10).solve(lambda t, x: field(t, x), x, 0.0, 1.0).x
    for step in range(10):
        x = x + network(torch.cat([x, torch.full((6, 1), step / 10, dtype=DOUBLE)], 1)) / 10
    assert torch.allclose(end, x)


def test_the_path_of_a_matcher_of_torchcfm_is_ours() -> None:
    matcher = pytest.importorskip("torchcfm").ConditionalFlowMatcher(sigma=0.3)
    path = from_torchcfm(lambda t, x: x, sigma=0.3).path
    x0, x1, t = starts(), starts() + 1, torch.rand(6, dtype=DOUBLE)
    state = torch.random.get_rng_state()
    _, x, velocity = matcher.sample_location_and_conditional_flow(x0, x1, t)
    torch.random.set_rng_state(state)
    z = torch.randn_like(x0)
    c = path.coefficients(t[:, None])
    assert torch.allclose(x.double(), c.alpha * x1 + c.sigma * x0 + c.gamma * z, atol=1e-6)
    assert torch.allclose(velocity.double(), c.d_alpha * x1 + c.d_sigma * x0 + c.d_gamma * z, atol=1e-6)


def test_models_of_two_arguments_get_time_first() -> None:
    field = from_torchcfm(lambda t, x, y=None: t[:, None] * x + (0 if y is None else y[:, None]))
    x, t = starts(), torch.tensor(0.5, dtype=DOUBLE)
    assert torch.equal(field(t, x, torch.ones(6, dtype=DOUBLE)), 0.5 * x + 1)


def test_an_estimator_of_sbi_ends_where_its_own_posterior_does() -> None:
    """Untrained networks have velocities too; the ODE of sbi is solved from their noise."""
    pytest.importorskip("tensorboard")  # which sbi imports
    build = pytest.importorskip("sbi.neural_nets").posterior_flow_nn
    build_ode = pytest.importorskip("sbi.samplers.ode_solvers").build_neural_ode
    torch.manual_seed(0)
    theta, x = torch.randn(50, 2), torch.randn(50, 3)
    estimator = build("mlp")(theta, x)
    theirs = build_ode(
        estimator.ode_fn,
        estimator.net,
        mean_base=estimator.mean_base,
        std_base=estimator.std_base,
        condition_shape=estimator.condition_shape,
        t_min=estimator.t_min,
        t_max=estimator.t_max,
        atol=1e-6,
        rtol=1e-6,
    )
    noise, seen = torch.randn(6, 2), torch.randn(6, 3)
    sampler = ContinuousFlow(
        FromSbi(estimator), Dopri5(rtol=1e-6, atol=1e-6), Normal(2), condition_shape=(3,)
    )
    ours = sampler.push(noise, seen)
    assert torch.allclose(ours, theirs(seen).transform.inv(noise), atol=1e-4)
    assert (ours - noise).abs().max() > 0.1


def test_an_estimator_whose_time_runs_from_data_to_noise_is_reversed_and_scaled() -> None:
    oracle = GaussianMixtureOracle(MIXTURE)
    seen = []

    def ode_fn(input: Tensor, condition: Tensor, times: Tensor) -> Tensor:
        seen.append(times)
        return -oracle(1 - (times - 0.1) / 0.8, input) / 0.8

    estimator: Any = SimpleNamespace(t_min=0.1, t_max=0.9, ode_fn=ode_fn)
    field, x, t = FromSbi(estimator), starts(), torch.tensor(0.25, dtype=DOUBLE)
    assert torch.allclose(field(t, x, torch.zeros(6, 1)), oracle(t, x))
    assert torch.allclose(seen[0], torch.full((6,), 0.7, dtype=DOUBLE))


NO_ESTIMATOR: Any = SimpleNamespace(t_min=0.0, t_max=1.0, ode_fn=None)


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: from_diffusers(lambda x, t: x, object()), "scheduler: expected one of diffusers"),
        (
            lambda: from_flow_matching(lambda x, t: t)(torch.tensor(0.5), torch.ones(3, 2)),
            "model: expected an output",
        ),
        (lambda: from_flow_matching(lambda x, t: x, prediction="x1"), "prediction: expected one of"),  # type: ignore[arg-type]  # an unknown name
        (
            lambda: from_torchcfm(lambda x: x)(torch.tensor(0.5), torch.ones(3, 2)),
            "model: expected an output like x",
        ),
        (
            lambda: FromSbi(NO_ESTIMATOR)(torch.tensor(0.5), torch.ones(3, 2)),
            "condition: expected the observation",
        ),
    ],
)
def test_mistakes_are_told(make: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()
