"""DiffFlow: the invariance of its particles, the ratio of densities, and what the objective trains."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.integrate import solve_ivp
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from pushforward import MLP, Batch, Normal, Rows
from pushforward.config import OptimConfig
from pushforward.fields import Straight
from pushforward.flows import ConsistencyFlow
from pushforward.gradient_flows import diffflow, kernel_score, kullback_leibler, langevin
from pushforward.nn import Discriminator
from pushforward.objectives import Adversarial, DensityRatio, Distillation, FlowMatching, Step
from pushforward.random import seeded
from pushforward.solvers import Euler, EulerMaruyama, StochasticHeun
from pushforward.training import Keeping, Trainer, pairs

D = torch.float64
#: A start N(m, v), which moves to N(0, 1) as the Ornstein-Uhlenbeck process does.
MEAN, VARIANCE = 2.0, 4.0


def moments(t: float) -> tuple[float, float]:
    return MEAN * math.exp(-t), 1 + (VARIANCE - 1) * math.exp(-2 * t)


def pull(t: Tensor, x: Tensor) -> Tensor:
    """The score of N(0, 1)."""
    return -x


def known(t: Tensor, x: Tensor) -> Tensor:
    """The score of the particles' own distribution at the time t."""
    mean, variance = moments(float(t))
    return -(x - mean) / variance


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, lambda t: t / 2], ids=["0", "0.5", "1", "t/2"])
def test_every_weight_has_the_same_distributions(weight: float | Callable[[Tensor], Tensor]) -> None:
    """Mean and variance of the exact solution at three times, within four standard errors."""
    generator, n, times = seeded("diffflow"), 40_000, [0.3, 1.0, 2.0]
    x = MEAN + math.sqrt(VARIANCE) * torch.randn(n, 1, generator=generator, dtype=D)
    problem = diffflow(pull, known, weight)
    # of second order: at 100 steps its own error is far below the standard errors
    path = StochasticHeun(steps=100).solve(problem, x, 0.0, 2.0, times, generator).path
    assert path is not None
    for t, rows in zip(times, path):
        mean, variance = moments(t)
        assert abs(rows.mean().item() - mean) < 4 * math.sqrt(variance / n)
        assert abs(rows.var().item() - variance) < 4 * variance * math.sqrt(2 / n)


def test_weight_0_is_langevin_and_weight_1_draws_nothing() -> None:
    x = torch.randn(50, 2, generator=seeded(0), dtype=D)
    solver = EulerMaruyama(steps=10)
    energy = kullback_leibler(Normal(2).double().log_prob)
    first, second = (
        solver.solve(problem, x, 0.0, 1.0, generator=seeded(1)).x
        for problem in (diffflow(pull, known, 0.0), langevin(energy))
    )
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)
    runs = [solver.solve(diffflow(pull, known, 1.0), x, 0.0, 1.0, generator=seeded(k)).x for k in (1, 2)]
    assert torch.equal(*runs)


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_particles_by_a_kernel_have_the_variance_of_smoothed_normal_ones(weight: float) -> None:
    """s^2' = 2 (1 - c - s^2 + c s^2 / (s^2 + b^2)) for normal particles, solved by SciPy."""
    b, n, stop = 0.4, 600, 1.5

    def slope(t: float, v: np.ndarray) -> np.ndarray:
        return 2 * (1 - weight - v + weight * v / (v + b**2))

    truth = float(solve_ivp(slope, (0, stop), [VARIANCE], rtol=1e-9).y[0, -1])
    levels = (torch.arange(n, dtype=D) + 0.5) / n
    x = 2 * math.sqrt(2) * torch.erfinv(2 * levels - 1)[:, None]
    problem = diffflow(pull, kernel_score(b), weight)
    end = StochasticHeun(steps=20).solve(problem, x, 0.0, stop, generator=seeded(5)).x
    # noise of 1 - c is in the second moment of finitely many; without noise only the tails are short
    error = 4 * truth * math.sqrt(2 / n) if weight < 1 else 0.01
    assert abs(end.var(correction=0).item() - truth) < error
    # the bias of the kernel is far from this
    assert abs(truth - moments(stop)[1]) > 0.05


def test_the_kernel_score_is_that_of_a_kernel_density() -> None:
    """Its slope by automatic differentiation of SciPy's formula of the density."""
    x = torch.randn(30, 2, generator=seeded(3), dtype=D)
    y = x.clone().requires_grad_()
    squares = (y[:, None] - x).square().sum(2)
    (slope,) = torch.autograd.grad((-squares / (2 * 0.7**2)).logsumexp(1).sum(), y)
    torch.testing.assert_close(kernel_score(0.7)(torch.zeros(()), x), slope)
    scott = 30 ** (-1 / 6) * math.sqrt(np.var(x.numpy(), axis=0).mean())
    torch.testing.assert_close(kernel_score()(torch.zeros(()), x), kernel_score(scott)(torch.zeros(()), x))


class Linear(nn.Module):
    """A linear logit."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1, dtype=D)
        nn.init.zeros_(self.layer.weight)

    def forward(self, x: Tensor, condition: None = None) -> Tensor:
        return self.layer(x)[:, 0]


def test_the_ratio_of_two_normal_distributions() -> None:
    """The fit is scikit-learn's, and within four standard errors of the closed form m x - |m|^2 / 2."""
    n, mean = 4000, torch.tensor([0.8, -0.4], dtype=D)
    x = torch.randn(n, 2, generator=seeded(7), dtype=D) + mean
    y = torch.randn(n, 2, generator=seeded(8), dtype=D)
    models, batch, ratio = (
        nn.ModuleDict({"discriminator": Linear()}),
        Batch((Rows(y), Rows(x))),
        DensityRatio(),
    )
    optimiser = torch.optim.LBFGS(models.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = ratio.loss(models, batch, Step()).value
        value.backward()
        return value

    optimiser.step(closure)
    peer = LogisticRegression(C=math.inf, tol=1e-10)
    peer.fit(torch.cat([x, y]).numpy(), np.repeat([1, 0], n))
    found: Tensor = torch.cat([p.detach().flatten() for p in models.parameters()])
    theirs = np.concatenate([peer.coef_[0], np.asarray(peer.intercept_)])
    np.testing.assert_allclose(found, theirs, atol=1e-4)
    # the information of a row is at most 1/4 |x|^2, at this overlap 0.21
    truth = torch.cat([mean, -mean.square().sum(0, keepdim=True) / 2])
    assert (found - truth).abs().max() < 4 / math.sqrt(0.2 * 2 * n)
    at = torch.zeros(1, 2, dtype=D)
    assert ratio.log_ratio(models, at).item() == found[2].item()
    # KL(q || p) = |m|^2 / 2 from rows of q
    kl = ratio.divergence(models, y).mean().item()
    assert abs(kl - mean.square().sum().item() / 2) < 4 * mean.norm().item() / math.sqrt(n) + 0.05


class Scale(nn.Module):
    """A field whose one step maps x to a x + b."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(v, dtype=D)) for v in (a, b))

    def forward(self, t: Tensor, x: Tensor, condition: None = None) -> Tensor:
        return (self.a - 1) * x + self.b


class ExactRatio(nn.Module):
    """log N(x; 1, 2^2) / N(x; b, a^2), the ratio to where ``field`` carries N(0, 1)."""

    def __init__(self, field: Scale) -> None:
        super().__init__()
        self.of = [field]

    def forward(self, x: Tensor, condition: None = None) -> Tensor:
        a, b = self.of[0].a.detach(), self.of[0].b.detach()
        data = torch.distributions.Normal(torch.ones_like(a), 2 * torch.ones_like(a))
        return (data.log_prob(x) - torch.distributions.Normal(b, a).log_prob(x))[:, 0]


def test_the_slope_of_the_objective_is_that_of_regression_plus_divergence() -> None:
    """By Gauss-Hermite quadrature, beside torch's closed form of KL between normal distributions."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    x0, w = torch.tensor(nodes)[:, None], torch.tensor(weights)
    field = Scale(0.7, -0.5)
    models = nn.ModuleDict({"field": field, "discriminator": ExactRatio(field)})
    objective = Adversarial(Distillation(), 0.3, solver=Euler(steps=1))
    x1 = 1 + 2 * x0
    loss = objective.loss(models, Batch((Rows(x0), Rows(x1)), w), Step())
    found = torch.autograd.grad(loss.value, list(field.parameters()))
    a, b = (torch.tensor(p.item(), dtype=D, requires_grad=True) for p in field.parameters())
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(b, a), normal(torch.ones_like(a), 2 * torch.ones_like(a)))
    truth = (a - 2).square() + (b - 1).square() + 0.3 * kl
    torch.testing.assert_close(found, torch.autograd.grad(truth, (a, b)))
    torch.testing.assert_close(loss.value, truth.detach())
    torch.testing.assert_close(loss.terms["divergence"], kl.detach())


def train(objective: Adversarial | FlowMatching, models: nn.ModuleDict, data: Tensor, steps: int) -> Trainer:
    optim = OptimConfig(steps=steps, lr=1e-3, warmup=20, ema=0.99)
    trainer = Trainer(objective, models, pairs(Normal(data.shape[1:]), data, size=128), optim)
    trainer.fit(title=None)
    return trainer


def networks(seed: int = 0, width: int = 32) -> nn.ModuleDict:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = Discriminator(MLP(1, width=width, depth=2))
        return nn.ModuleDict({"field": MLP(1, width=width, depth=2), "discriminator": critic})


def test_a_training_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Both optimisers and the draws of both phases are taken up again."""
    data, ratio = torch.randn(300, 1, generator=seeded(6)) + 1, DensityRatio(penalty=0.1, noise=0.2)
    optim = OptimConfig(steps=12, lr=1e-2, warmup=2, ema=0.9, log_every=1)

    def weights(folder: Path, stop: int | None) -> dict[str, Tensor]:
        models, batches = networks(2), pairs(Normal(1), data, size=64)
        objective = Adversarial(weight=0.5, ratio=ratio)
        trainer = Trainer(objective, models, batches, optim, keeping=Keeping(folder))
        trainer.fit(stop_at=stop, title=None)
        return models.state_dict()

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    whole, stopped = weights(tmp_path / "one", None), weights(tmp_path / "two", 5)
    assert any(not torch.equal(value, stopped[key]) for key, value in whole.items())
    resumed = weights(tmp_path / "two", None)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


#: A training as one or two processes, in double precision.
SCRIPT = """
import sys, torch
from safetensors.torch import save_file
from torch import nn
from pushforward import MLP, Normal
from pushforward.config import ComputeConfig, OptimConfig
from pushforward.nn import Discriminator
from pushforward.objectives import Adversarial, DensityRatio
from pushforward.training import Trainer, make_fabric, pairs
devices = int(sys.argv[1])
fabric = make_fabric(ComputeConfig(device="cpu", devices=devices, strategy="ddp", precision="64-true"))
fabric.launch()
torch.manual_seed(0)
models = nn.ModuleDict({"field": MLP(2, width=16), "discriminator": Discriminator(MLP(2, width=16))}).double()
data = torch.randn(300, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 1
objective = Adversarial(weight=0.5, ratio=DensityRatio(penalty=0.1, noise=0.3))
optim = OptimConfig(steps=20, lr=1e-2, warmup=2, ema=0.9)
Trainer(objective, models, pairs(Normal(2).double(), data, size=91), optim, fabric=fabric).fit(title=None)
if fabric.global_rank == 0:
    save_file(models.state_dict(), sys.argv[2])
if torch.distributed.is_initialized():  # else threads of gloo may be alive at the end
    fabric.barrier()
    torch.distributed.destroy_process_group()
"""


@pytest.mark.thorough
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a process needs a core")
def test_two_processes_train_both_networks_as_one_does(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment, weights = {**os.environ, "OMP_NUM_THREADS": "1"}, []
    for devices in ("1", "2"):
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] * (devices == "2")
        file = tmp_path / f"{devices}.safetensors"
        command = [sys.executable, *start, str(tmp_path / "script.py"), devices, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr
        weights.append(load_file(file))
    assert all((value - weights[1][key]).abs().max() < 1e-13 for key, value in weights[0].items())


def test_a_weight_of_0_is_the_objective_alone() -> None:
    data = torch.randn(500, 1, generator=seeded(2))
    first, second = networks(), networks()
    del second["discriminator"]
    before = {key: value.clone() for key, value in first["discriminator"].state_dict().items()}
    train(Adversarial(weight=0), first, data, 20)
    train(FlowMatching(), second, data, 20)
    for one, two in zip(first["field"].parameters(), second["field"].parameters(), strict=True):
        assert torch.equal(one, two)
    assert all(torch.equal(before[key], value) for key, value in first["discriminator"].state_dict().items())
    assert list(Adversarial(weight=0).phases) == ["train"]


def test_a_generator_of_one_step_has_the_variance_of_the_minimum() -> None:
    """From independent pairs of N(0, 1) and normal data of variance s^2, T(x) = a x minimises a^2 + s^2 +
    lambda KL where a^2 = lambda / (2 + lambda / s^2); regression alone has a = 0."""
    data, models, weight = torch.randn(4000, 1, generator=seeded(4)), networks(1), 2.0
    objective = Adversarial(Distillation(), weight, solver=Euler(steps=1), rate=10)
    trainer = train(objective, models, data, 1000)
    assert trainer.ema is not None
    field = trainer.ema.models["field"]
    flow = ConsistencyFlow(Straight(field), Normal(1))
    found = flow.sample(4000, generator=seeded(9)).var().item()
    # three trainings with other seeds were 0.003 to 0.009 too high, with a standard error of 0.011
    assert abs(found - weight / (2 + weight)) < 0.06
    row = trainer.log.rows[-1]
    assert {"loss/train", "loss/discriminator", "train/divergence", "discriminator/accuracy"} <= set(row)
    assert 0.6 < row["loss/discriminator"] < math.log(2)


def test_phases_learn_at_their_own_rates() -> None:
    """A step of AdamW moves each weight by the learning rate, as far as its slope is not tiny."""
    moved = []
    for rate in (1.0, 4.0):
        models = networks(3)
        before = [p.detach().clone() for p in models.parameters()]
        optim = OptimConfig(steps=1, lr=1e-3, warmup=0, ema=0)
        objective = Adversarial(weight=0.1, rate=rate)
        Trainer(objective, models, pairs(Normal(1), torch.ones(64, 1), size=64), optim).fit(title=None)
        far = [
            float((p - q).detach().abs().median()) for p, q in zip(models.parameters(), before, strict=True)
        ]
        moved.append((far[0], far[-2]))
    (field, critic), (same, faster) = moved
    assert field == same > 0 and faster == pytest.approx(4 * critic, rel=1e-3)


def test_a_discriminator_without_errors_is_told_once_a_time() -> None:
    models, ratio = networks(), DensityRatio(patience=30)
    far, near = (torch.randn(64, 1, generator=seeded(1)) + shift for shift in (50.0, 0.5))
    optimiser = torch.optim.Adam(models["discriminator"].parameters(), 0.01)
    x = torch.randn(64, 1, generator=seeded(2))

    def steps(y: Tensor) -> None:
        for _ in range(60):
            optimiser.zero_grad()
            ratio.loss(models, Batch((Rows(x), Rows(y))), Step()).value.backward()
            optimiser.step()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(near)
    with pytest.warns(UserWarning, match="tells data from generated rows without error: over 30") as said:
        steps(far)
    assert len(said) <= 2
    for word in ("penalty", "noise", "weight"):
        assert word in str(said[0].message)
    # with noise the same rows are no longer told apart without error
    ratio = DensityRatio(noise=40.0, patience=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(far)


def test_data_of_their_own_are_what_the_discriminator_sees() -> None:
    """Source 0, targets 1 and data 3, of which each loss sees what belongs to it."""
    models = nn.ModuleDict({"field": MLP(1), "discriminator": Discriminator(MLP(1))})
    zeros, labels = torch.zeros(6, 1), torch.arange(6)
    seen: list[tuple[float, list[int] | None]] = []

    def logit(x: Tensor, condition: Tensor | None = None) -> Tensor:
        seen.append((x.mean().item(), None if condition is None else condition.tolist()))
        return x[:, 0]

    models["field"].forward = lambda t, x, condition=None: torch.full_like(x, 2.0)
    models["discriminator"].forward = logit
    batch = Batch((Rows(zeros), Rows(zeros + 1, labels), Rows(zeros + 3, labels.flip(0))))
    objective = Adversarial(Distillation(), 0.5, solver=Euler(steps=1), data_last=True)
    loss = objective.loss(models, batch, Step())
    assert loss.terms["matching"] == 1 and loss.value == 1 - 0.5 * 2
    objective.loss(models, batch, Step(phase="discriminator"))
    assert seen == [(2, labels.tolist()), (3, labels.flip(0).tolist()), (2, labels.tolist())]
    with pytest.raises(ValueError, match="batch: expected source, target and data, got 2 marginals"):
        objective.loss(models, Batch(batch.marginals[:2]), Step())


def test_the_penalty_is_half_the_mean_square_of_the_slopes() -> None:
    models = nn.ModuleDict({"discriminator": Linear()})
    with torch.no_grad():
        models["discriminator"].layer.weight.copy_(torch.tensor([[3.0, 4.0]]))  # type: ignore[reportAttributeAccessIssue]
    batch = Batch((Rows(torch.zeros(5, 2, dtype=D)), Rows(torch.ones(5, 2, dtype=D))))
    plain, more = (DensityRatio(penalty=p).loss(models, batch, Step()).value.item() for p in (0.0, 0.2))
    assert more - plain == pytest.approx(0.2 / 2 * 25)
    with torch.no_grad():
        assert DensityRatio(penalty=0.2).loss(models, batch, Step()).value.item() == pytest.approx(plain)


def test_mistakes_are_one_line() -> None:
    models = nn.ModuleDict({"field": MLP(2), "discriminator": MLP(2)})
    batch = Batch((Rows(torch.zeros(4, 2)), Rows(torch.ones(4, 2))))
    with pytest.raises(ValueError, match="weight: expected a finite number above 0, got -1"):
        Adversarial(weight=-1)
    with pytest.raises(ValueError, match="divergence: expected kl or non-saturating, got 'js'"):
        Adversarial(divergence="js")  # type: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="objective: expected one with a single optimiser, got train, disc"):
        Adversarial(Adversarial())
    with pytest.raises(ValueError, match="solver: expected one of an ODE, got EulerMaruyama"):
        Adversarial(solver=EulerMaruyama(steps=2))
    with pytest.raises(ValueError, match="models: expected one named 'discriminator', got field"):
        Adversarial().loss(nn.ModuleDict({"field": MLP(2)}), batch, Step())
    with pytest.raises(ValueError, match="rate: expected a finite number above 0, got 0"):
        Adversarial(rate=0)
    with pytest.raises(ValueError, match="penalty: expected a finite number above 0"):
        DensityRatio(penalty=-0.1)
    with pytest.raises(ValueError, match="noise: expected a finite number above 0"):
        DensityRatio(noise=-0.1)
    with pytest.raises(ValueError, match="patience: expected"):
        DensityRatio(patience=0)
    flat = nn.ModuleDict({"discriminator": Discriminator(MLP(2)), "field": MLP(2)})
    hidden = Rows(torch.ones(4, 2), mask=torch.ones(4, 2, dtype=torch.bool))
    masked = Batch((Rows(torch.zeros(4, 2)), hidden))
    with pytest.raises(ValueError, match="mask: a discriminator sees whole events"):
        Adversarial().loss(flat, masked, Step(phase="discriminator"))
    models["discriminator"] = nn.Bilinear(2, 1, 1)
    flat["discriminator"].head = nn.Linear(2, 3)
    with pytest.raises(ValueError, match="discriminator: expected one logit for each of 4 rows, got shape"):
        DensityRatio().loss(flat, batch, Step())
    for weight in (-0.1, 1.1, math.nan, lambda t: 2.0):
        with pytest.raises(ValueError, match=r"weight: expected numbers in \[0, 1\], got"):
            EulerMaruyama(steps=2).solve(diffflow(pull, known, weight), torch.zeros(3, 1), 0.0, 1.0)
    with pytest.raises(ValueError, match="bandwidth: expected a finite number above 0, got 0"):
        kernel_score(0)


@pytest.mark.parametrize("divergence", ["kl", "non-saturating"])
def test_conditions_reach_field_and_discriminator(divergence: str) -> None:
    models = nn.ModuleDict(
        {"field": MLP(2, condition=3), "discriminator": Discriminator(MLP(2, condition=3))}
    )
    labels = torch.tensor([0, 1, 2, 0])
    rows = Rows(torch.ones(4, 2), condition=labels)
    objective = Adversarial(FlowMatching(drop_condition=0.5), 0.1, divergence=divergence)  # type: ignore[reportArgumentType]
    other = Rows(torch.ones(4, 2), condition=2 - labels)
    for phase in objective.phases:
        values = []
        for target in (rows, other):
            step = Step(phase=phase, generator=seeded(0))
            values.append(objective.loss(models, Batch((Rows(torch.zeros(4, 2)), target)), step).value)
        assert torch.stack(values).isfinite().all() and values[0] != values[1]
