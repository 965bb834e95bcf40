"""Gradients of solutions: by backpropagation, with checkpoints, by the adjoint equation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchdiffeq import odeint

from effort import among
from narrowing import known
from pushforward import MLP, ContinuousFlow, Normal
from pushforward.random import seeded
from pushforward.solvers import (
    AB2,
    ODE,
    RK4,
    SDE,
    Adjoint,
    Checkpointed,
    Dopri5,
    EulerMaruyama,
    Heun,
    Midpoint,
    Solver,
    Tsit5,
)

D = torch.float64
METHODS = {
    "backpropagation": lambda solver: solver,
    "checkpointed": Checkpointed,
    "adjoint": Adjoint,
    "adjoint in parts": lambda solver: Adjoint(solver, segments=3),
    "adjoint by another solver": lambda solver: Adjoint(solver, backward=Tsit5(1e-8, 1e-8)),
}
#: accurate to 1e-6 and better, so that derivatives of the steps and of the exact solution are as near
SOLVERS: dict[str, Solver] = {
    "dopri5": Dopri5(1e-8, 1e-8),
    "rk4": RK4(steps=40),
    "ab2": AB2(grid=torch.linspace(0, 1, 1100) ** 1.2),
}
SAVE_AT = [0.2, 0.2, 0.7, 1.0]
every_method = pytest.mark.parametrize("wrap", METHODS.values(), ids=METHODS.keys())


class Problem:
    """A state (x, log_det) whose velocity uses parameters in a dict, a frozen one, and a condition that an
    encoder has made; none of them is said to the solver."""

    def __init__(self) -> None:
        generator = seeded("gradients")
        parts = nn.ModuleDict({"field": nn.Linear(3, 8), "out": nn.Linear(8, 2), "encoder": nn.Linear(1, 2)})
        for parameter in parts.to(D).parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=D)
        parts["out"].bias.requires_grad_(False)
        self.parts, self.encoded = {"networks": [parts]}, 0
        self.x = torch.randn(5, 2, generator=generator, dtype=D, requires_grad=True)
        self.wanted = [self.x, *(p for p in parts.parameters() if p.requires_grad)]

    def condition(self) -> Tensor:
        encoded = self.parts["networks"][0]["encoder"](torch.linspace(-1, 1, 5, dtype=D)[:, None])
        encoded.register_hook(self._count)
        return 1.0 * encoded

    def _count(self, gradient: Tensor) -> None:
        self.encoded += 1

    def velocity(self, condition: Tensor) -> Any:
        def velocity(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            parts, x = self.parts["networks"][0], state[0]
            inside = torch.cat([x, t.expand(len(x))[:, None]], 1)
            f = parts["out"](parts["field"](inside).tanh()) * condition - 0.2 * x
            return f, f.sum(1) * x[:, 0]

        return velocity

    def loss(self, x: Tensor, log_det: Tensor, path: Tensor) -> Tensor:
        weights = torch.arange(1, len(path) + 1, dtype=D)
        return x.square().sum() + log_det.sin().sum() + (path.cos().sum((1, 2)) * weights).sum()


def gradients(solver: Solver, ends: tuple[float, float]) -> tuple[Any, list[Tensor], int]:
    problem = Problem()
    times = SAVE_AT if ends[1] > ends[0] else SAVE_AT[::-1]
    start = (problem.x, torch.zeros(5, dtype=D))
    ode = ODE(problem.velocity(problem.condition()), controlled=2)
    found = solver.solve(ode, start, *ends, save_at=times)
    loss = problem.loss(*found.x, known(found.path)[0])
    return found, list(torch.autograd.grad(loss, problem.wanted)), problem.encoded


def by_torchdiffeq(ends: tuple[float, float]) -> list[Tensor]:
    problem = Problem()
    times = SAVE_AT[1:] if ends[1] > ends[0] else SAVE_AT[:0:-1]
    inner = [t for t in times if t not in ends]
    nodes = torch.tensor([ends[0], *inner, ends[1]], dtype=D)
    start = (problem.x, torch.zeros(5, dtype=D))
    x, log_det = odeint(problem.velocity(problem.condition()), start, nodes, rtol=1e-11, atol=1e-11)
    at = {float(t): state for t, state in zip(nodes, x)}
    path = torch.stack([at[t] for t in (SAVE_AT if ends[1] > ends[0] else SAVE_AT[::-1])])
    return list(torch.autograd.grad(problem.loss(x[-1], log_det[-1], path), problem.wanted))


@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.0)], ids=["forwards", "backwards"])
@pytest.mark.parametrize("name", among(SOLVERS, ["dopri5", "rk4"]))
@every_method
def test_gradients_are_those_of_backpropagation_in_double_precision(wrap, name, ends) -> None:
    """By the state, parameters that nobody names, and a condition, through the end and the path."""
    solver = SOLVERS[name]
    plain, _, _ = gradients(solver, ends)
    found, by, encoded = gradients(wrap(solver), ends)
    assert torch.equal(found.x[0], plain.x[0]) and torch.equal(found.path[0], plain.path[0])
    assert found.calls == plain.calls and torch.equal(found.nfe, plain.nfe)
    assert encoded == 1  # the encoder is not differentiated at every evaluation
    for mine, theirs in zip(by, by_torchdiffeq(ends), strict=True):
        assert (mine - theirs).abs().max() < 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("wrap", [Checkpointed, Adjoint])
@pytest.mark.parametrize("solver", [Dopri5(1e-6, 1e-6), Midpoint(steps=30)], ids=str)
def test_log_densities_train_through_every_method(wrap, solver) -> None:
    net = MLP(2, width=16, depth=2).to(D)
    x = torch.randn(40, 2, generator=seeded("data"), dtype=D)
    reference = ContinuousFlow(net, Dopri5(1e-10, 1e-10), Normal(2)).log_prob(x).mean()
    flow = ContinuousFlow(net, wrap(solver), Normal(2))
    for mine, theirs in zip(
        *(torch.autograd.grad(loss, list(net.parameters())) for loss in (flow.log_prob(x).mean(), reference))
    ):
        # the midpoint rule errs by 30^-2 times a factor below 1/20, measured
        assert (mine - theirs).abs().max() < (1e-5 if solver.adaptive else 1e-4)
    with torch.no_grad():
        assert torch.equal(flow.log_prob(x), flow.replace(solver=solver).log_prob(x))


def test_float32_gradients_by_the_adjoint_do_not_depend_on_the_scale_of_the_loss() -> None:
    net, x = MLP(2, width=16, depth=2), torch.randn(40, 2, generator=seeded("scale"))
    end = Adjoint(Dopri5()).solve(lambda t, x: net(t, x), x, 0.0, 1.0).x
    one, small = (
        torch.autograd.grad(s * end.sum(), list(net.parameters()), retain_graph=True) for s in (1.0, 2.0**-20)
    )
    assert all(torch.equal(a, b * 2.0**20) for a, b in zip(one, small))


def test_states_come_back_on_the_path_where_trajectories_meet() -> None:
    """x' = -8 x, solved backwards, multiplies errors by e^8; parts of the time each bring back their part."""
    rate = torch.tensor(8.0, dtype=D, requires_grad=True)

    def gradient(solver: Solver) -> Tensor:
        def velocity(t: Tensor, x: Tensor) -> Tensor:
            return -rate * (x - (3 * t.reshape(-1, 1)).cos())

        end = solver.solve(velocity, torch.ones(1, 1, dtype=D), 0.0, 2.0).x
        return torch.autograd.grad(end.sum(), rate)[0]

    exact = gradient(Dopri5(1e-10, 1e-10))

    def error(segments: int) -> float:
        return float((gradient(Adjoint(Dopri5(1e-4, 1e-4), segments=segments)) - exact).abs())

    assert error(8) < 0.2 * error(1)


def stored(solver: Solver, net: nn.Module) -> int:
    """Bytes that one solution keeps for its gradients."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = torch.zeros(50, 2, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        x = solver.solve(lambda t, x: net(torch.cat([x, t.expand(50, 1)], 1)), x, 0.0, 1.0).x
    assert x.requires_grad
    return sum(kept.values())


def test_memory_of_the_adjoint_does_not_grow_with_steps() -> None:
    net = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    few, many = (
        {wrap: stored(wrap(RK4(steps=n)), net) for wrap in (lambda s: s, Checkpointed, Adjoint)}.values()
        for n in (10, 100)
    )
    (plain, checkpointed, adjoint), (plain_many, checkpointed_many, adjoint_many) = few, many
    assert adjoint_many == adjoint
    # of each evaluation the state of 50 rows, 2 numbers each, and in plain steps 2 x 64 more of each row
    assert checkpointed_many - checkpointed <= 90 * 4 * 50 * 2 * 4 * 2
    assert plain_many - plain >= 90 * 4 * 50 * 128 * 4


@pytest.mark.parametrize("wrap", [Checkpointed, Adjoint])
def test_what_cannot_be_differentiated_is_refused(wrap) -> None:
    rate = torch.tensor(1.0, requires_grad=True)
    late = torch.tensor(1.0, requires_grad=True)

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        return -x * (rate if t.flatten()[0] < 0.5 else late)

    x = torch.ones(2, 1, requires_grad=True)
    end = wrap(Heun(steps=4)).solve(velocity, x, 0.0, 1.0).x.sum()
    with pytest.raises(ValueError, match="uses a parameter that it did not use at the start"):
        torch.autograd.grad(end, x, retain_graph=True)
    named = wrap(RK4(steps=40), parameters=[late]).solve(velocity, x, 0.0, 1.0).x.sum()
    by_late, by_x = torch.autograd.grad(named, (late, x))
    # x1 = x0 exp(-rate/2 - late/2), up to the step in which the rate changes
    assert by_late == pytest.approx(-torch.tensor(-1.0).exp().item(), abs=0.02) and by_x.shape == x.shape
    with pytest.raises(ValueError, match=f"{wrap.__name__} has first derivatives alone"):
        torch.autograd.grad(named, x, create_graph=True)
    with pytest.raises(ValueError, match="solver: expected a solver of ODEs, got 'dopri5'"):
        wrap("dopri5")


def test_nothing_that_needs_gradients_costs_nothing() -> None:
    calls: list[Tensor] = []
    for solver in (Checkpointed(RK4(steps=3)), Adjoint(RK4(steps=3))):
        calls.clear()
        x = solver.solve(lambda t, x: (calls.append(t), -x)[1], torch.ones(2, 1), 0.0, 1.0).x
        assert not x.requires_grad and len(calls) == 12 + 1
        with torch.inference_mode():
            solver.solve(lambda t, x: (calls.append(t), -x)[1], torch.ones(2, 1), 0.0, 1.0)
        assert len(calls) == 25


def test_the_adjoint_of_a_row_that_failed_is_refused() -> None:
    x = torch.tensor([[1.0], [0.1]], requires_grad=True)
    found = Adjoint(Dopri5(max_steps=30)).solve(lambda t, x: x**2, x, 0.0, 2.0)  # the first blows up at t = 1
    assert not found.ok
    with pytest.raises(RuntimeError, match="failed on 1 of 2 rows"):
        found.x.sum().backward()


def test_gradients_are_averaged_over_processes(tmp_path) -> None:
    """Inside DistributedDataParallel, whose hooks wait for the gradient of every parameter."""

    class Loss(nn.Module):
        def __init__(self, solver: Solver):
            super().__init__()
            self.net, self.solver = MLP(2, width=8, depth=1), solver

        def forward(self, x: Tensor) -> Tensor:
            return self.solver.solve(lambda t, x: self.net(t, x), x, 0.0, 1.0).x.square().mean()

    x = torch.randn(6, 2, generator=seeded("ddp"))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        for solver in (Checkpointed(RK4(steps=4)), Adjoint(RK4(steps=4))):
            plain = Loss(solver)
            wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(plain))
            for module in (plain, wrapped):
                module(x).backward()
            for a, b in zip(plain.parameters(), wrapped.module.parameters(), strict=True):
                assert torch.equal(known(a.grad), known(b.grad))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("solver", [Dopri5(1e-9, 1e-9), Tsit5(1e-9, 1e-9), RK4(steps=60)], ids=str)
def test_a_system_without_rows(solver) -> None:
    """A state of any shape, a scalar time, one step for all; as torchdiffeq solves it."""
    times = torch.linspace(0, 3, 5, dtype=D)

    def velocity(t: Tensor, y: Tensor) -> Tensor:
        assert t.shape == ()
        return torch.stack([y[1], -y[0] * t.sin()])

    y0 = torch.tensor([1.0, 0.5], dtype=D)
    found = solver.solve(ODE(velocity, batched=False), y0, 0.0, 3.0, save_at=times).check()
    truth = odeint(velocity, y0, times, rtol=1e-10, atol=1e-10)
    assert (known(found.path) - truth).abs().max() < 1e-6 and torch.equal(found.x, known(found.path)[-1])
    assert found.nfe.shape == found.status.shape == () and found.nfe == found.calls
    number = solver.solve(ODE(lambda t, y: -y, batched=False), torch.tensor(2.0, dtype=D), 0.0, 1.0).x
    assert number.shape == () and float(number) == pytest.approx(
        2 * torch.tensor(-1.0, dtype=D).exp().item(), abs=1e-7
    )
    pair = (torch.eye(2, dtype=D), torch.tensor(0.0, dtype=D))
    matrix, area = solver.solve(ODE(lambda t, s: (s[0].T, s[0].sum()), batched=False), pair, 0.0, 1.0).x
    assert (matrix - torch.eye(2, dtype=D) * torch.e).abs().max() < 1e-6
    assert float(area) == pytest.approx(2 * (torch.e - 1), abs=1e-6)


TIMED: list[Solver] = [
    Dopri5(1e-9, 1e-9),
    RK4(steps=60),
    Adjoint(Dopri5(1e-9, 1e-9)),
    Checkpointed(RK4(steps=60)),
]


@pytest.mark.parametrize("solver", TIMED, ids=str)
@pytest.mark.parametrize("ends", [(0.2, 1.1), (1.1, 0.2)], ids=["forwards", "backwards"])
def test_gradients_by_times(solver, ends) -> None:
    """As torchdiffeq has them, which differentiates by the times too, and those of a closed form."""
    t0, t1 = (torch.tensor(t, dtype=D, requires_grad=True) for t in ends)
    middle = torch.tensor([0.5, 0.9] if ends[1] > ends[0] else [0.9, 0.5], dtype=D, requires_grad=True)
    x = torch.tensor([[0.3, -0.7], [1.2, 0.4]], dtype=D)

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        return (x + t.reshape(-1, 1)).sin()

    found = solver.solve(velocity, x, t0, t1, save_at=middle)
    by = torch.autograd.grad(found.x.square().sum() + known(found.path).exp().sum(), (t0, t1, middle))
    nodes = torch.cat([t0[None], middle, t1[None]])
    peer = odeint(velocity, x, nodes, rtol=1e-11, atol=1e-11)
    assert isinstance(peer, Tensor)
    truth = torch.autograd.grad(peer[-1].square().sum() + peer[1:-1].exp().sum(), (t0, t1, middle))
    for mine, theirs in zip(by, truth, strict=True):
        assert (mine - theirs).abs().max() < 1e-5
    # x' = x^2 has x(t1) = 1 / (1/x0 - t1 + t0), and with rows, tuples and no rows the same
    for batched in (True, False):
        start = (torch.full((3,), 0.5, dtype=D), torch.zeros(3, 1, dtype=D))
        quadratic = ODE(lambda t, s: (s[0] ** 2, 0 * s[1] + 1), batched=batched)
        first, second = solver.solve(quadratic, start, t0, t1).x
        ended = 1 / (2 - ends[1] + ends[0])
        for time, sign in ((t0, -1.0), (t1, 1.0)):
            by_first, by_second = (
                torch.autograd.grad(v.sum(), time, retain_graph=True)[0] for v in (first, second)
            )
            assert float(by_first) == pytest.approx(3 * sign * ended**2, abs=1e-5)
            assert float(by_second) == pytest.approx(3 * sign, abs=1e-9)


def test_times_that_are_no_numbers_are_refused() -> None:
    x, t = torch.ones(2, 1), torch.tensor(1.0, requires_grad=True)
    assert torch.equal(
        RK4(steps=3).solve(lambda t, x: -x, x, 0.0, t).x, RK4(steps=3).solve(lambda t, x: -x, x, 0.0, 1.0).x
    )
    with pytest.raises(ValueError, match=r"t1: expected a number, got shape \(2,\)"):
        RK4().solve(lambda t, x: -x, x, 0.0, torch.ones(2))
    with pytest.raises(ValueError, match="only an ODE has gradients by its times, got SDE"):
        EulerMaruyama().solve(SDE(lambda t, x: -x), x, 0.0, t)
