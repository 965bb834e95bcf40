"""Solvers against closed forms and the order conditions: tableaus, fixed steps, what both kinds share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from narrowing import known
from pushforward.solvers import AB2, ODE, Adaptive, Dopri5, Euler, FixedStep, Heun, RungeKutta, Status
from solver_cases import (
    CLASSES,
    CURL_START,
    FIXED,
    ORDER,
    STRAIGHT,
    curl,
    curl_truth,
    every,
    fixed,
    slope,
    tensor,
    truth,
)

# ---------------------------------------------------------------------------- the methods as data


def rooted_trees(n: int) -> list[tuple[Any, ...]]:
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


#: Order of the interpolant by the order of the method.
DENSE = {3: 3, 5: 4, 8: 5}


@pytest.mark.parametrize("tableau", TABLEAUS.values(), ids=TABLEAUS.keys())
def test_order_conditions(tableau):
    stages = len(tableau.b)
    a = np.zeros((stages, stages))
    for i, row in enumerate(tableau.a):
        a[i, : len(row)] = row
        assert len(row) == i
    b = np.array(tableau.b)
    assert np.allclose(a.sum(1), tableau.c, rtol=0, atol=5e-15)
    # 1e-13: the published decimals of Tsit5 have 16 digits and are multiplied a few times by up to 15
    assert all(residual(b, a, n) < 1e-13 for n in range(1, tableau.order + 1))
    assert residual(b, a, tableau.order + 1) > 1e-6
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
            # the coefficients of Dopri8 are as large as 120 and cancel
            assert all(residual(weights, a, n, theta) < 1e-12 for n in range(1, DENSE[tableau.order] + 1))
        assert np.allclose(dense.sum(1), b, atol=1e-12)
        # continuously differentiable: the slopes at both ends are the first and the last stage
        ends = dense[:, 0], dense @ np.arange(1, dense.shape[1] + 1)
        assert np.allclose(ends[0], np.eye(stages)[0], atol=1e-14)
        assert np.allclose(ends[1], np.eye(stages)[-1], atol=1e-12)


# ---------------------------------------------------------------------------- fixed steps


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
    per_step = cls.evaluations
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
    assert count([1.9]) == 6 * per_step + once + (cls not in STRAIGHT)


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
        path = known(solution.path)
        assert torch.equal(path[0], CURL_START) and torch.equal(path[-1], solution.x)
        errors.append((path.permute(1, 2, 0) - exact).abs().max().item())
    assert slope(steps, errors) > ORDER[name] - 0.15
    # a time that is a node gives the node, as fewer steps over a shorter interval do
    nodes = known(cls(steps=10).solve(curl, CURL_START, t0, t1, save_at=torch.linspace(t0, t1, 11)).path)
    for i in range(cls.least, 11):
        part = cls(steps=i).solve(curl, CURL_START, t0, t0 + sign * 0.2 * i).x
        assert torch.allclose(nodes[i], part, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", [name for name, cls in FIXED.items() if cls.hermite])
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
    assert torch.allclose(known(solution.path).flatten(), tensor(times)[0] ** degree, rtol=0, atol=1e-14)


# ---------------------------------------------------------------------------- both kinds


def solver_for(cls, tolerance: float = 1e-8, steps: int = 200):
    return cls(rtol=tolerance, atol=tolerance) if issubclass(cls, Adaptive) else cls(steps=steps)


@every
def test_backwards_and_round_trip(cls):
    there = solver_for(cls).solve(curl, CURL_START, 0.0, 1.0).x
    back = solver_for(cls).solve(curl, there, 1.0, 0.0).x
    tolerance = 3e-2 if cls in STRAIGHT else 1e-3 if issubclass(cls, FixedStep) else 1e-6
    assert (back - CURL_START).abs().max() < tolerance
    mirrored = solver_for(cls).solve(lambda t, x: -curl(-t, x), there, -1.0, 0.0).x
    assert torch.allclose(back, mirrored, rtol=0, atol=1e-12)


@every
def test_equal_ends(cls: Any):
    def field(t, x):
        raise AssertionError("no evaluation is needed")

    x = torch.ones(3, 2, dtype=torch.float64)
    solution = solver_for(cls).solve(field, x, 0.5, 0.5, save_at=[0.5, 0.5])
    assert torch.equal(solution.x, x) and torch.equal(known(solution.path), x.expand(2, 3, 2))
    assert solution.nfe.tolist() == [0, 0, 0] and solution.calls == 0 and solution.ok


@every
def test_dtypes_and_inference_mode(cls):
    x = torch.linspace(-1, 1, 12).reshape(3, 2, 2)
    for field in (lambda t, x: torch.sin(x), lambda t, x: torch.sin(x.double())):
        with torch.inference_mode():
            solution = solver_for(cls, 1e-5).solve(field, x, 0.0, 1.0, save_at=[0.0, 0.3, 1.0])
        path, times = known(solution.path), known(solution.times)
        assert solution.x.dtype == path.dtype == times.dtype == torch.float32
        assert path.shape == (3, 3, 2, 2) and solution.ok
        exact = 2 * torch.atan(math.e * torch.tan(x / 2))
        assert (solution.x - exact).abs().max() < (5e-3 if cls in STRAIGHT else 5e-5)


@every
def test_tuples_keep_their_shapes(cls):
    x = (torch.ones(4, 2, 3, dtype=torch.float64), torch.zeros(4, dtype=torch.float64))

    def field(t, state):
        return -state[0], state[0].sum((1, 2))

    solution = solver_for(cls, 1e-8, steps=400).solve(field, x, 0.0, 1.0, save_at=[0.5, 1.0])
    decay = 1 - math.exp(-1)
    tolerance = 1e-2 if cls in STRAIGHT else 1e-5
    path = known(solution.path)
    assert solution.x[0].shape == (4, 2, 3) and path[1].shape == (2, 4)
    assert (solution.x[0] - (1 - decay)).abs().max() < tolerance
    assert (solution.x[1] - 6 * decay).abs().max() < tolerance
    assert torch.equal(path[0][1], solution.x[0])
    assert (path[1][0] - 6 * (1 - math.exp(-0.5))).abs().max() < tolerance


@every
def test_gradient_of_a_linear_equation(cls):
    """x' = a x: x(1) = x0 e^a, so dx/dx0 = e^a and dx/da = x0 e^a."""
    x = tensor([1.0], [-2.0]).requires_grad_()
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    solution = solver_for(cls, 1e-10, steps=500).solve(lambda t, x: a * x, x, 0.0, 1.0, save_at=[0.37])
    dx, da = torch.autograd.grad(solution.x.sum(), (x, a), retain_graph=True)
    tolerance = 1e-2 if cls in STRAIGHT else 1e-5 if issubclass(cls, FixedStep) else 1e-8
    assert (dx - math.exp(0.7)).abs().max() < tolerance
    assert da.item() == pytest.approx(-math.exp(0.7), abs=tolerance)
    dx, da = torch.autograd.grad(known(solution.path).sum(), (x, a))
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
        return solution.x, known(solution.path)

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
    path = known(solution.path)
    assert path[0].isfinite().all() and path[1].isnan().flatten().tolist() == [
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
    with pytest.raises(ValueError, match="steps: expected an integer of at least 1, got 0"):
        Heun(steps=0)
    with pytest.raises(ValueError, match="steps: expected an integer of at least 2, got 1"):
        AB2(steps=1)
    options: dict[str, Any]
    for options in ({"rtol": -1.0}, {"atol": 0.0}, {"max_steps": 0}, {"first_step": 0.0}, {"rtol": math.nan}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: expected"):
            Dopri5(**options)
    with pytest.raises(ValueError, match="controlled: expected 1 to 1 entries, got 2"):
        Dopri5().solve(ODE(lambda t, x: x, controlled=2), torch.ones(1, 1), 0.0, 1.0)
    with pytest.raises(ValueError, match="float32 or float64"):
        Dopri5().solve(lambda t, x: x, torch.ones(1, 1, dtype=torch.bfloat16), 0.0, 1.0)
