"""Solvers against closed forms, SciPy, torchdiffeq and the order conditions."""

from __future__ import annotations

import importlib
import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torchdiffeq import odeint

from pushforward.registry import SOLVERS
from pushforward.solvers import AB2, ODE, Adaptive, Dopri5, Euler, FixedStep, Heun, RungeKutta, Status, Tsit5
from pushforward.solvers import adaptive as adaptive_module


def resolve(target: str):
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


CLASSES = {**{name: resolve(entry.target) for name, entry in SOLVERS.items()}, "ab2": AB2}
FIXED = {name: cls for name, cls in CLASSES.items() if issubclass(cls, FixedStep)}
ADAPTIVE = {name: cls for name, cls in CLASSES.items() if issubclass(cls, Adaptive)}
ORDER = {"euler": 1, "midpoint": 2, "heun": 2, "ab2": 2, "rk4": 4}

fixed = pytest.mark.parametrize("cls", FIXED.values(), ids=FIXED.keys())
adaptive = pytest.mark.parametrize("cls", ADAPTIVE.values(), ids=ADAPTIVE.keys())
every = pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES.keys())


def tensor(*values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def columns(*values: Tensor) -> Tensor:
    return torch.stack(values, -1)


def curl(t: Tensor, x: Tensor) -> Tensor:
    """Nonlinear and with explicit time, so that no low-order error term vanishes."""
    a, b = x[..., 0], x[..., 1]
    return columns(torch.sin(3 * t + 2 * b) - a * b, torch.cos(2 * t * a) - 0.5 * b)


CURL_START = tensor([0.3, -0.7], [1.2, 0.4])


def as_numpy(field):
    return lambda t, y: field(tensor(t)[0], torch.from_numpy(np.asarray(y, dtype=float))).numpy()


def truth(field, start, t0: float, t1: float, times=None) -> np.ndarray:
    """High-accuracy solution by SciPy's eighth-order method, ``(..., S)`` or at the end."""
    found = solve_ivp(as_numpy(field), (t0, t1), start, method="DOP853", rtol=1e-13, atol=1e-14, t_eval=times)
    return found.y if times is not None else found.y[:, -1]


@cache
def curl_truth(t1: float = 2.0) -> Tensor:
    return torch.from_numpy(np.stack([truth(curl, row.numpy(), 0.0, t1) for row in CURL_START]))


def slope(steps, errors) -> float:
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


# ---------------------------------------------------------------------------- the methods as data


def rooted_trees(n: int) -> list[tuple]:
    """All rooted trees with n nodes, each the sorted tuple of its subtrees."""
    pool = [tree for m in range(1, n) for tree in rooted_trees(m)]

    def forests(left: int, first: int):
        if left == 0:
            yield ()
        for i in range(first, len(pool)):
            if size(pool[i]) <= left:
                yield from ((pool[i], *rest) for rest in forests(left - size(pool[i]), i))

    return list(forests(n - 1, 0))


def size(tree) -> int:
    return 1 + sum(map(size, tree))


def density(tree) -> int:
    return size(tree) * math.prod(map(density, tree))


def elementary_weight(tree, a: np.ndarray) -> np.ndarray:
    return math.prod((a @ elementary_weight(child, a) for child in tree), start=np.ones(len(a)))


def residual(weights, a, order: int, theta: float = 1.0) -> float:
    """How far the conditions of exactly this order are from holding (Butcher 1963)."""
    return max(
        abs(weights @ elementary_weight(tree, a) - theta**order / density(tree))
        for tree in rooted_trees(order)
    )


TABLEAUS = {name: cls.tableau for name, cls in CLASSES.items() if issubclass(cls, RungeKutta | Adaptive)}


@pytest.mark.parametrize("tableau", TABLEAUS.values(), ids=TABLEAUS.keys())
def test_order_conditions(tableau):
    stages = len(tableau.b)
    a = np.zeros((stages, stages))
    for i, row in enumerate(tableau.a):
        a[i, : len(row)] = row
        assert len(row) == i
    b = np.array(tableau.b)
    assert np.allclose(a.sum(1), tableau.c, rtol=0, atol=1e-15)
    # 1e-13: the published decimals of Tsit5 have 16 digits and are multiplied a few times by up to 15
    assert all(residual(b, a, n) < 1e-13 for n in range(1, tableau.order + 1))
    assert residual(b, a, tableau.order + 1) > 1e-5
    if tableau.error:
        embedded = b - np.array(tableau.error)
        assert all(residual(embedded, a, n) < 1e-13 for n in range(1, tableau.order))
        assert residual(embedded, a, tableau.order) > 1e-5
        assert (
            tableau.a[-1] == tableau.b[:-1] and tableau.b[-1] == 0 and tableau.c[-1] == 1
        )  # first same as last
    if tableau.dense:
        dense = np.array(tableau.dense)
        for theta in np.linspace(0.1, 1.0, 10):
            weights = dense @ theta ** np.arange(1, dense.shape[1] + 1)
            assert all(residual(weights, a, n, theta) < 1e-13 for n in range(1, 5))
        assert np.allclose(dense.sum(1), b, atol=1e-14)
        # continuously differentiable: the slopes at both ends are the first and the last stage
        ends = dense[:, 0], dense @ np.arange(1, dense.shape[1] + 1)
        assert np.allclose(ends[0], np.eye(stages)[0], atol=1e-14)
        assert np.allclose(ends[1], np.eye(stages)[-1], atol=1e-12)


# ---------------------------------------------------------------------------- fixed steps


@pytest.mark.parametrize("name", FIXED)
def test_order_of_convergence(name):
    steps = [40, 80, 160, 320, 640]
    errors = [
        (FIXED[name](steps=n).solve(ODE(curl), CURL_START, 0.0, 2.0).x - curl_truth()).abs().max().item()
        for n in steps
    ]
    assert slope(steps, errors) == pytest.approx(ORDER[name], abs=0.15)


@pytest.mark.parametrize("name", FIXED)
def test_order_on_an_uneven_grid(name):
    steps = [40, 80, 160, 320, 640]
    errors = []
    for n in steps:
        grid = [(i + 0.4 * (i % 2)) / n for i in range(n + 1)]  # long and short steps in turn
        x = FIXED[name](grid=grid).solve(curl, CURL_START, 0.0, 2.0).x
        errors.append((x - curl_truth()).abs().max().item())
    assert slope(steps, errors) == pytest.approx(ORDER[name], abs=0.15)


def test_grid_by_hand():
    solution = Euler(grid=[0.0, 0.25, 1.0]).solve(lambda t, x: x, tensor([1.0]), 0.0, 2.0)
    assert solution.x.item() == pytest.approx(1.5 * 2.5, rel=1e-15)
    assert solution.calls == 2


@fixed
def test_times_handed_to_the_velocity_are_scalars_of_the_state(cls):
    seen = []

    def field(t, x):
        seen.append(t)
        return 0 * x

    cls(steps=4).solve(field, torch.zeros(3, 2), 1.0, 0.0)
    assert all(t.shape == () and t.dtype == torch.float32 for t in seen)
    assert seen[0] == 1.0 and min(seen) >= 0.0


@fixed
def test_fixed_counts(cls):
    per_step = {"Euler": 1, "Midpoint": 2, "Heun": 2, "RK4": 4, "AB2": 1}[cls.__name__]
    once = 1 if cls is AB2 else 0
    made = 0

    def field(t, x):
        nonlocal made
        made += 1
        return curl(t, x)

    def count(save_at):
        nonlocal made
        made = 0
        solution = cls(steps=6).solve(field, CURL_START, 0.0, 2.0, save_at=save_at)
        assert solution.calls == made
        assert solution.nfe.dtype == torch.int64 and solution.nfe.tolist() == [made, made]
        return made

    assert count(None) == 6 * per_step + once
    assert count([0.0, 1 / 3, 0.5, 1.0, 2.0]) == 6 * per_step + once  # nothing inside the last step
    assert count([1.9]) == 6 * per_step + once + (cls is not Euler)


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("ends", [(0.0, 2.0), (2.0, 0.0)])
def test_dense_output_of_fixed_steps(name, ends):
    t0, t1 = ends
    cls, sign = FIXED[name], 1.0 if t1 > t0 else -1.0
    times = np.linspace(t0, t1, 38)
    exact = torch.from_numpy(np.stack([truth(curl, row.numpy(), t0, t1, times) for row in CURL_START]))
    steps, errors = [20, 40, 80, 160], []
    for n in steps:
        solution = cls(steps=n).solve(curl, CURL_START, t0, t1, save_at=times.tolist())
        assert torch.equal(solution.x, cls(steps=n).solve(curl, CURL_START, t0, t1).x)
        assert torch.equal(solution.path[0], CURL_START) and torch.equal(solution.path[-1], solution.x)
        errors.append((solution.path.permute(1, 2, 0) - exact).abs().max().item())
    assert slope(steps, errors) > ORDER[name] - 0.15
    # a time that is a node gives the node, as fewer steps over a shorter interval do
    nodes = cls(steps=10).solve(curl, CURL_START, t0, t1, save_at=torch.linspace(t0, t1, 11)).path
    for i in range(1, 11):
        part = cls(steps=i).solve(curl, CURL_START, t0, t0 + sign * 0.2 * i).x
        assert torch.allclose(nodes[i], part, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", [name for name in FIXED if name != "euler"])
def test_hermite_is_exact_for_cubics(name):
    """Where the nodes are exact: RK4 integrates a cubic in t exactly, so does its dense output."""
    cls = FIXED[name]
    times = [0.1, 0.25, 0.6, 0.77, 0.99]
    degree = 3 if name == "rk4" else 2
    solution = cls(steps=3).solve(
        lambda t, x: degree * t ** (degree - 1) + 0 * x, tensor([0.0]), 0.0, 1.0, save_at=times
    )
    if name == "ab2":  # its first step is Heun's, exact for a slope linear in t; so are the others
        assert solution.calls == 5
    assert torch.allclose(solution.path.flatten(), tensor(times)[0] ** degree, rtol=0, atol=1e-14)


# ---------------------------------------------------------------------------- both kinds


def solver_for(cls, tolerance: float = 1e-8, steps: int = 200):
    return cls(rtol=tolerance, atol=tolerance) if issubclass(cls, Adaptive) else cls(steps=steps)


@every
def test_backwards_and_round_trip(cls):
    there = solver_for(cls).solve(curl, CURL_START, 0.0, 1.0).x
    back = solver_for(cls).solve(curl, there, 1.0, 0.0).x
    tolerance = 3e-2 if cls is Euler else 1e-3 if issubclass(cls, FixedStep) else 1e-6
    assert (back - CURL_START).abs().max() < tolerance
    mirrored = solver_for(cls).solve(lambda t, x: -curl(-t, x), there, -1.0, 0.0).x
    assert torch.allclose(back, mirrored, rtol=0, atol=1e-12)


@every
def test_equal_ends(cls):
    def field(t, x):
        raise AssertionError("no evaluation is needed")

    x = torch.ones(3, 2)
    solution = solver_for(cls).solve(field, x, 0.5, 0.5, save_at=[0.5, 0.5])
    assert torch.equal(solution.x, x) and torch.equal(solution.path, x.expand(2, 3, 2))
    assert solution.nfe.tolist() == [0, 0, 0] and solution.calls == 0 and solution.ok


@every
def test_dtypes_and_inference_mode(cls):
    x = torch.linspace(-1, 1, 12).reshape(3, 2, 2)
    for field in (lambda t, x: torch.sin(x), lambda t, x: torch.sin(x.double())):
        with torch.inference_mode():
            solution = solver_for(cls, 1e-5).solve(field, x, 0.0, 1.0, save_at=[0.0, 0.3, 1.0])
        assert solution.x.dtype == solution.path.dtype == solution.times.dtype == torch.float32
        assert solution.path.shape == (3, 3, 2, 2) and solution.ok
        exact = 2 * torch.atan(math.e * torch.tan(x / 2))
        assert (solution.x - exact).abs().max() < (5e-3 if cls is Euler else 5e-5)


@every
def test_tuples_keep_their_shapes(cls):
    x = (torch.ones(4, 2, 3, dtype=torch.float64), torch.zeros(4, dtype=torch.float64))

    def field(t, state):
        return -state[0], state[0].sum((1, 2))

    solution = solver_for(cls, 1e-8, steps=400).solve(field, x, 0.0, 1.0, save_at=[0.5, 1.0])
    decay = 1 - math.exp(-1)
    tolerance = 1e-2 if cls is Euler else 1e-5
    assert solution.x[0].shape == (4, 2, 3) and solution.path[1].shape == (2, 4)
    assert (solution.x[0] - (1 - decay)).abs().max() < tolerance
    assert (solution.x[1] - 6 * decay).abs().max() < tolerance
    assert torch.equal(solution.path[0][1], solution.x[0])
    assert (solution.path[1][0] - 6 * (1 - math.exp(-0.5))).abs().max() < tolerance


@every
def test_gradient_of_a_linear_equation(cls):
    """x' = a x: x(1) = x0 e^a, so dx/dx0 = e^a and dx/da = x0 e^a."""
    x = tensor([1.0], [-2.0]).requires_grad_()
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    solution = solver_for(cls, 1e-10, steps=500).solve(lambda t, x: a * x, x, 0.0, 1.0, save_at=[0.37])
    dx, da = torch.autograd.grad(solution.x.sum(), (x, a), retain_graph=True)
    tolerance = 1e-2 if cls is Euler else 1e-5 if issubclass(cls, FixedStep) else 1e-8
    assert (dx - math.exp(0.7)).abs().max() < tolerance
    assert da.item() == pytest.approx(-math.exp(0.7), abs=tolerance)
    dx, da = torch.autograd.grad(solution.path.sum(), (x, a))
    assert (dx - math.exp(0.7 * 0.37)).abs().max() < tolerance
    assert da.item() == pytest.approx(-0.37 * math.exp(0.7 * 0.37), abs=tolerance)


@every
def test_gradcheck(cls):
    solver = solver_for(cls, 1e-10, steps=5)
    if issubclass(
        cls, Adaptive
    ):  # the step sizes move with x, which the gradient rightly ignores: 1e-10 / eps
        solver.first_step = 1.0  # and the first trial steps are rejected
    weight = tensor([0.4, -0.3], [0.8, 0.1]).requires_grad_()

    def end(x, weight):
        solution = solver.solve(
            lambda t, x: torch.tanh(x @ weight + t.reshape(-1, 1)), x, 1.0, 0.0, save_at=[0.4]
        )
        return solution.x, solution.path

    assert torch.autograd.gradcheck(end, (CURL_START.clone().requires_grad_(), weight), eps=1e-5, atol=1e-4)


@every
def test_not_finite_rows(cls):
    start = tensor([1.0], [2.0], [3.0])
    bad = torch.tensor([[False], [True], [False]])

    def field(t, x):
        return torch.where(bad & (t.reshape(-1, 1) > 0.5), math.nan, -x)

    solution = solver_for(cls).solve(field, start, 0.0, 1.0, save_at=[0.25, 1.0])
    assert solution.status.dtype == torch.int64
    assert solution.status.tolist() == [Status.OK, Status.NON_FINITE, Status.OK] and not solution.ok
    good = solver_for(cls).solve(lambda t, x: -x, start, 0.0, 1.0)
    assert torch.equal(solution.x[[0, 2]], good.x[[0, 2]])
    assert solution.path[0].isfinite().all() and solution.path[1].isnan().flatten().tolist() == [
        False,
        True,
        False,
    ]
    if issubclass(cls, Adaptive):  # the last state that was accepted, just before the trouble
        assert solution.x[1].item() == pytest.approx(2 * math.exp(-0.5), rel=1e-3)
        assert solution.nfe[[0, 2]].tolist() == good.nfe[[0, 2]].tolist()
    with pytest.raises(RuntimeError, match="1 of 3 rows: non_finite"):
        solution.check()


@every
def test_mistakes(cls):
    solver, x = cls(), torch.ones(2, 3)
    with pytest.raises(TypeError, match=r"problem: .* solves an ODE, got str"):
        solver.solve("x' = x", x, 0.0, 1.0)
    with pytest.raises(ValueError, match="velocity: expected the shapes"):
        solver.solve(lambda t, x: x[:, 0], x, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"x: expected floating tensors \(B, \*event\)"):
        solver.solve(curl, torch.ones(2, dtype=torch.int64), 0.0, 1.0)
    with pytest.raises(ValueError, match="agree in rows"):
        solver.solve(lambda t, x: x, (x, torch.ones(3)), 0.0, 1.0)
    with pytest.raises(ValueError, match="empty tuple"):
        solver.solve(curl, (), 0.0, 1.0)
    with pytest.raises(ValueError, match="expected finite times"):
        solver.solve(curl, x, 0.0, math.inf)
    for save_at in ([1.1], [-0.1], [0.5, 0.4], [math.nan], torch.tensor([1.1])):
        with pytest.raises(ValueError, match="save_at: expected times going from"):
            solver.solve(lambda t, x: x, x, 0.0, 1.0, save_at=save_at)
    with pytest.raises(ValueError, match="save_at: expected one dimension"):
        solver.solve(lambda t, x: x, x, 0.0, 1.0, save_at=torch.ones(1, 1))
    assert solver.solve(lambda t, x: x, x, 0.0, 1.0, save_at=[]).path.shape == (0, 2, 3)
    assert repr(solver).startswith(cls.__name__ + "(")


def test_mistakes_in_options():
    for grid in ([0.0], [0.0, 0.9], [0.1, 1.0], [0.0, 0.5, 0.5, 1.0], [0.0, 0.6, 0.5, 1.0]):
        with pytest.raises(ValueError, match="grid: expected increasing fractions"):
            Euler(grid=grid)
    with pytest.raises(ValueError, match="steps: expected at least 1, got 0"):
        Heun(steps=0)
    for options in ({"rtol": -1.0}, {"atol": 0.0}, {"max_steps": 0}, {"first_step": 0.0}, {"rtol": math.nan}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: expected"):
            Dopri5(**options)
    with pytest.raises(ValueError, match="controlled: expected 1 to 1 entries, got 2"):
        Dopri5().solve(ODE(lambda t, x: x, controlled=2), torch.ones(1, 1), 0.0, 1.0)
    with pytest.raises(ValueError, match="float32 or float64"):
        Dopri5().solve(lambda t, x: x, torch.ones(1, 1, dtype=torch.bfloat16), 0.0, 1.0)


# ---------------------------------------------------------------------------- step size per sample


def orbit(t, y):
    return torch.cat([y[..., 2:], -y[..., :2] / y[..., :2].square().sum(-1, keepdim=True) ** 1.5], -1)


def chain(t, y):
    """The radioactive decay chain of DETEST C1."""
    return torch.cat([-y[..., :1], y[..., :-2] - y[..., 1:-1], y[..., -2:-1]], -1)


def heat(t, y):
    """The parabolic problem of DETEST C3."""
    padded = torch.nn.functional.pad(y, (1, 1))
    return padded[..., :-2] - 2 * y + padded[..., 2:]


def torus(t, y):
    a, b, c = y.unbind(-1)
    r = torch.hypot(a, b)
    return columns(-b - a * c / r, a - b * c / r, a / r)


def bessel(t, y):
    a, b = y.unbind(-1)
    return columns(b, -(b / (t + 1) + (1 - 0.25 / (t + 1) ** 2) * a))


def rates(function):
    """Write a field of several unknowns as a function of t and the unknowns."""
    return lambda t, y: columns(*function(t, *y.unbind(-1)))


#: Hull, Enright, Fellen & Sedgwick 1972, doi 10.1137/0709052: the non-stiff set, on [0, 20].
DETEST = {
    "A1": (rates(lambda t, y: [-y]), [1.0]),
    "A2": (rates(lambda t, y: [-(y**3) / 2]), [1.0]),
    "A3": (rates(lambda t, y: [y * torch.cos(t)]), [1.0]),
    "A4": (rates(lambda t, y: [y / 4 * (1 - y / 20)]), [1.0]),
    "A5": (rates(lambda t, y: [(y - t) / (y + t)]), [4.0]),
    "B1": (rates(lambda t, a, b: [2 * (a - a * b), -(b - a * b)]), [1.0, 3.0]),
    "B2": (rates(lambda t, a, b, c: [b - a, a - 2 * b + c, b - c]), [2.0, 0.0, 1.0]),
    "B3": (rates(lambda t, a, b, c: [-a, a - b**2, b**2]), [1.0, 0.0, 0.0]),
    "B4": (torus, [3.0, 0.0, 0.0]),
    "B5": (rates(lambda t, a, b, c: [b * c, -a * c, -0.51 * a * b]), [0.0, 1.0, 1.0]),
    "C1": (chain, [1.0] + [0.0] * 9),
    "C3": (heat, [1.0] + [0.0] * 9),
    "D1": (orbit, [0.9, 0.0, 0.0, math.sqrt(1.1 / 0.9)]),
    "D3": (orbit, [0.5, 0.0, 0.0, math.sqrt(3.0)]),
    "D5": (orbit, [0.1, 0.0, 0.0, math.sqrt(19.0)]),
    "E1": (bessel, [0.6713967071418030, 0.09540051444747446]),
    "E2": (rates(lambda t, a, b: [b, (1 - a**2) * b - a]), [2.0, 0.0]),
    "E3": (rates(lambda t, a, b: [b, a**3 / 6 - a + 2 * torch.sin(2.78535 * t)]), [0.0, 0.0]),
    "E4": (rates(lambda t, a, b: [b, 0.032 - 0.4 * b**2]), [30.0, 0.0]),
    "E5": (rates(lambda t, a, b: [b, torch.sqrt(1 + b**2) / (25 - t)]), [0.0, 0.0]),
}


@cache
def detest_truth(name: str) -> np.ndarray:
    return truth(*DETEST[name], 0.0, 20.0)


def scaled_error(y, exact, tolerance: float) -> float:
    return float(np.sqrt(np.mean(((np.asarray(y) - exact) / (tolerance * (1 + np.abs(exact)))) ** 2)))


@pytest.mark.parametrize("name", DETEST)
def test_detest(name):
    """Global errors in units of the tolerance are those of SciPy's RK45, up to a small factor.

    A global error is the tolerance times what the problem makes of it, which RK45 shows; the factor allows
    for the luck of single steps.
    """
    field, start = DETEST[name]
    exact = detest_truth(name)
    for tolerance in (1e-4, 1e-7):
        peer = solve_ivp(as_numpy(field), (0, 20), start, method="RK45", rtol=tolerance, atol=tolerance)
        bound = 10 * (scaled_error(peer.y[:, -1], exact, tolerance) + 1)
        for cls in ADAPTIVE.values():
            solution = cls(rtol=tolerance, atol=tolerance).solve(field, tensor(start), 0.0, 20.0).check()
            assert scaled_error(solution.x[0], exact, tolerance) < bound
            assert solution.nfe.item() < 1.25 * peer.nfev + 12


@pytest.mark.parametrize("name", ["A3", "A5", "B1", "B4", "D1", "E3"])
def test_same_steps_as_scipy(name, monkeypatch):
    """With SciPy's controller, which looks at the present error alone, Dopri5 makes SciPy's RK45 steps."""
    monkeypatch.setattr(adaptive_module, "BETA", 0.0)
    field, start = DETEST[name]
    times = np.linspace(0, 20, 23)
    for tolerance in (1e-4, 1e-6):
        peer = solve_ivp(
            as_numpy(field), (0, 20), start, "RK45", rtol=tolerance, atol=tolerance, dense_output=True
        )
        solution = Dopri5(tolerance, tolerance).solve(field, tensor(start), 0.0, 20.0, save_at=times.tolist())
        assert solution.nfe.item() == solution.calls == peer.nfev
        # rounding, amplified by the problem, of steps that are equal otherwise
        assert np.abs(solution.x[0].numpy() - peer.y[:, -1]).max() < 1e-9
        assert np.abs(solution.path[:, 0].numpy().T - peer.sol(times)).max() < 1e-9


@pytest.mark.parametrize("name", ["A4", "B2", "E4"])
@adaptive
def test_agrees_with_torchdiffeq(cls, name):
    field, start = DETEST[name]
    times = torch.linspace(0, 20, 6, dtype=torch.float64)
    peer = odeint(field, tensor(start)[0], times, rtol=1e-9, atol=1e-9, method="dopri5")
    solution = cls(rtol=1e-9, atol=1e-9).solve(field, tensor(start), 0.0, 20.0, save_at=times)
    assert (solution.path[:, 0] - peer).abs().max() < 1e-7


STIFFNESS = tensor([1.0], [4.0], [2.0], [300.0], [8.0])


def relax(stiffness):
    """x' = -k (x - cos t) - sin t, whose solution tends to cos t at the rate k."""

    def field(t, x):
        t = t.reshape(-1, 1)
        return -stiffness * (x - torch.cos(t)) - torch.sin(t)

    return field


@adaptive
@pytest.mark.parametrize("ends", [(0.0, 3.0), (3.0, 0.0)])
def test_rows_do_not_see_each_other(cls, ends):
    solver = cls(rtol=1e-6, atol=1e-6)
    rate = STIFFNESS if ends[1] > ends[0] else -STIFFNESS  # decaying in the direction of travel
    start = tensor([2.0, 0.5], [1.0, -1.0], [0.0, 3.0], [2.0, 2.0], [1.0, 1.5])
    save_at = np.linspace(*ends, 7).tolist()

    def solve(rows):
        return solver.solve(relax(rate[rows]), start[rows], *ends, save_at=save_at).check()

    together = solve([0, 1, 2, 3, 4])
    assert together.nfe[3] > 5 * together.nfe[[0, 1, 2, 4]].max()  # row 3 is stiff
    for rows in ([0, 1, 2, 4], [4, 3, 1, 0, 2], [2], [3]):
        part = solve(rows)
        assert torch.equal(part.nfe, together.nfe[rows])
        assert (part.x - together.x[rows]).abs().max() < 1e-12
        assert (part.path - together.path[:, rows]).abs().max() < 1e-12


@adaptive
def test_adaptive_counts(cls):
    """Alone, a row needs every evaluation made; the batch makes as many as its slowest row needs."""
    made = 0
    start = tensor([2.0], [1.0], [0.0], [2.0], [1.0])

    def solve(rows, **options):
        nonlocal made
        made = 0
        field = relax(STIFFNESS[rows])

        def counted(t, x):
            nonlocal made
            made += 1
            assert t.shape == (len(rows),)
            return field(t, x)

        return cls(**options).solve(counted, start[rows], 0.0, 1.0)

    alone = []
    for row in range(5):
        solution = solve([row])
        assert solution.calls == made == solution.nfe.item() and solution.nfe.dtype == torch.int64
        alone.append(made)
    together = solve([0, 1, 2, 3, 4])
    assert together.nfe.tolist() == alone and together.calls == made == max(alone)
    assert solve([0], first_step=1e-3).calls % 6 == 1  # no evaluation spent on estimating it
    assert solve([0]).calls % 6 == 2


@adaptive
def test_dense_output_of_adaptive_steps(cls):
    """One step of length h: the interpolant has local order five."""
    lengths = [0.16, 0.08, 0.04, 0.02]
    errors = []
    for h in lengths:
        theta = np.linspace(0, h, 9)
        exact = truth(curl, CURL_START[0].numpy(), 0.0, h, theta)
        solution = cls(1e3, 1e3, first_step=1.0).solve(curl, CURL_START[:1], 0.0, h, save_at=theta.tolist())
        assert solution.calls == 7
        assert torch.equal(solution.path[-1], solution.x)
        errors.append(np.abs(solution.path[:, 0].numpy().T - exact).max())
    assert -slope(lengths, errors) == pytest.approx(5.0, abs=0.35)


@adaptive
@pytest.mark.parametrize("ends", [(0.0, 2.0), (2.0, 0.0)])
def test_dense_output_keeps_the_tolerance(cls, ends):
    times = np.linspace(*ends, 41)
    exact = np.stack([truth(curl, row.numpy(), *ends, times) for row in CURL_START])
    for tolerance in (1e-4, 1e-7):
        solution = cls(tolerance, tolerance).solve(curl, CURL_START, *ends, save_at=torch.from_numpy(times))
        # measured: up to 31, where trajectories part
        assert np.abs(solution.path.permute(1, 2, 0).numpy() - exact).max() < 60 * tolerance
        assert torch.equal(solution.path[0], CURL_START) and torch.equal(solution.path[-1], solution.x)
        assert torch.equal(solution.x, cls(tolerance, tolerance).solve(curl, CURL_START, *ends).x)
        assert solution.times.tolist() == times.tolist()


@adaptive
def test_controlled_entries(cls):
    """An entry that is not controlled changes no step; one that is, does."""
    x = (CURL_START, torch.zeros(2, 1, dtype=torch.float64))

    def field(t, state):
        return curl(t, state[0]), torch.cos(40 * t)[:, None]

    alone = cls().solve(curl, CURL_START, 0.0, 2.0)
    free = cls().solve(ODE(field), x, 0.0, 2.0)
    bound = cls().solve(ODE(field, controlled=2), x, 0.0, 2.0)
    assert torch.equal(free.nfe, alone.nfe) and torch.allclose(free.x[0], alone.x, rtol=0, atol=1e-14)
    assert (bound.nfe > 2 * free.nfe).all()
    assert (bound.x[1] - math.sin(80) / 40).abs().max() < 1e-4


@adaptive
def test_uncontrolled_entries_must_be_finite(cls):
    def field(t, state):
        return -state[0], torch.where(t > 0.5, math.inf, 1.0)

    solution = cls().solve(field, (torch.ones(2, 1), torch.zeros(2)), 0.0, 1.0)
    assert solution.status.tolist() == [Status.NON_FINITE] * 2 and solution.x[1].isfinite().all()


@adaptive
def test_overflow_is_not_finite(cls):
    """A constant velocity has no error, and yet must not carry a row to infinity."""
    start = tensor([1.797e308], [1.0])
    solution = cls(max_steps=100).solve(lambda t, x: torch.full_like(x, 1e305), start, 0.0, 2.0)
    assert solution.status[0] != Status.OK and solution.status[1] == Status.OK
    assert 1.797e308 < solution.x[0] < math.inf


@adaptive
def test_float32_times_that_are_not_binary(cls):
    times = [0.7, 0.5, 0.3, 0.1]
    solution = cls().solve(lambda t, x: -x, torch.ones(3, 1), 0.7, 0.1, save_at=torch.tensor(times)).check()
    exact = torch.tensor([math.exp(0.7 - t) for t in times])
    assert (solution.path[:, 0, 0] - exact).abs().max() < 1e-4


@adaptive
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blow_up_ends(cls, dtype):
    """x' = x^2 reaches infinity at t = 1/x0; the row that does is given up just before, the other arrives."""
    start = torch.tensor([[2.0], [0.5]], dtype=dtype)
    solution = cls(rtol=1e-5, atol=1e-5).solve(lambda t, x: x * x, start, 0.0, 1.0)
    assert solution.status.tolist()[1] == Status.OK
    assert solution.status.tolist()[0] in (Status.STEP_TOO_SMALL, Status.NON_FINITE)
    assert solution.x[0].isfinite().all() and solution.x[0] > 1e3
    assert solution.x[1].item() == pytest.approx(1.0, abs=1e-4)
    assert solution.calls < 6 * 500


@adaptive
def test_a_row_given_up_stands_still(cls):
    """However long the others take, the row stays at the last state that was accepted."""
    start = tensor([2.0], [0.0])
    slow = torch.tensor([[0.0], [1.0]], dtype=torch.float64)

    def field(rows):
        return lambda t, x: torch.where(slow[rows] > 0, torch.cos(3000 * t[:, None]), x * x)

    alone = cls().solve(field([0]), start[[0]], 0.0, 1.0)
    both = cls().solve(field([0, 1]), start, 0.0, 1.0)
    assert both.calls > 2 * alone.calls and both.status[1] == Status.OK
    assert both.x[0] == alone.x[0] and both.nfe[0] == alone.nfe[0] and both.status[0] == alone.status[0]


@adaptive
def test_not_finite_at_the_start(cls):
    solution = cls().solve(
        lambda t, x: torch.log(x), tensor([-1.0], [2.0]), 0.0, 0.5, save_at=[0.0, 0.2, 0.5]
    )
    assert solution.status.tolist() == [Status.NON_FINITE, Status.OK]
    assert solution.x[0].item() == -1.0 and solution.nfe[0] == 1
    assert solution.path[:, 0].flatten().isnan().tolist() == [False, True, True]


@adaptive
def test_max_steps(cls):
    solution = cls(max_steps=60).solve(relax(STIFFNESS), torch.zeros(5, 1).double(), 0.0, 1.0)
    assert solution.status[3] == Status.MAX_STEPS and solution.nfe[3] == 2 + 60 * 6
    assert solution.status[[0, 1, 2, 4]].eq(Status.OK).all()
    with pytest.raises(RuntimeError, match="max_steps"):
        solution.check()


@adaptive
def test_a_jump_in_the_velocity(cls):
    """The step shrinks to nearly nothing at a jump, is accepted there, and grows again."""

    def field(t, x):
        return torch.where(t[:, None] < 0.3, 1.0, -2.0) + 0 * x

    solution = cls(rtol=1e-7, atol=1e-7).solve(field, tensor([0.0]), 0.0, 1.0).check()
    assert solution.x.item() == pytest.approx(0.3 - 1.4, abs=1e-4)


@adaptive
def test_retried_trial_steps_leave_the_gradient_alone(cls):
    """x' = -sqrt(x): the first trial step leaves the domain.  x(t) = (sqrt(x0) - t/2)^2."""
    x = tensor([1.0], [4.0]).requires_grad_()
    power = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    solver = cls(rtol=1e-10, atol=1e-10, first_step=1.9)
    solution = solver.solve(lambda t, x: -(x**power), x, 0.0, 1.9).check()
    assert solution.calls > solution.nfe.max()  # a trial step was not finite and was made again
    dx, dpower = torch.autograd.grad(solution.x.sum(), (x, power))
    assert torch.allclose(dx, (x.sqrt() - 0.95) / x.sqrt(), rtol=0, atol=1e-7)
    assert dpower.isfinite()
    with torch.no_grad():
        plain = solver.solve(lambda t, x: -(x**power), x, 0.0, 1.9)
    assert torch.equal(plain.x, solution.x) and torch.equal(plain.nfe, solution.nfe)
    assert plain.calls == plain.nfe.max()


@adaptive
def test_tolerances_below_rounding_end(cls):
    """Tolerances that float32 cannot meet cost steps, never an endless loop."""
    solution = cls(rtol=0.0, atol=1e-12, max_steps=300).solve(
        lambda t, x: torch.sin(5 * x), torch.ones(1, 1), 0.0, 1.0
    )
    assert solution.calls <= 2 + 6 * 300 and solution.x.isfinite().all()


def test_tsit5_is_the_more_accurate_pair():
    """At equal steps the errors of Tsit5 are the smaller ones, which is what it was made for."""
    errors = {}
    for cls in (Dopri5, Tsit5):
        one = cls(1e3, 1e3, first_step=1.0).solve(curl, CURL_START, 0.0, 0.2).x
        errors[cls] = (one - curl_truth(0.2)).abs().max()
    assert errors[Tsit5] < errors[Dopri5]
