"""The exact flow map against figures by hand, arbitrary precision, SciPy's ODE solver and autograd."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch.func import jvp, vmap

from effort import first
from pushforward import registry
from pushforward.entries import SCHEDULES
from pushforward.oracles import FlowMapOracle, GaussianMixtureOracle
from pushforward.oracles.line import Line, transport
from pushforward.paths import Brownian, Interpolant, Karras, Quadratic, Trigonometric, VariancePreserving
from pushforward.random import seeded
from pushforward.sources import GaussianMixture

DOUBLE = torch.float64
PATHS = {name: Interpolant(registry.create("path", name)) for name in SCHEDULES} | {
    "gamma": Interpolant(gamma=0.1),
    "brownian": Interpolant(gamma=Brownian(0.5)),
    "trig, quadratic": Interpolant(Trigonometric(), Quadratic()),
}
COVARIANCE = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=DOUBLE)
DIAGONAL = torch.diag(torch.tensor([1.0, 2.0]))[None]
TARGETS = {
    "normal": GaussianMixture(torch.tensor([[1.3, -1.0]], dtype=DOUBLE), COVARIANCE[None]),
    "line": GaussianMixture(
        torch.tensor([[4.0], [-3.0], [0.0]], dtype=DOUBLE),
        torch.tensor([0.3, 0.05, 0.6], dtype=DOUBLE),
        [0.2, 0.5, 0.3],
    ),
}


def drawn(target: GaussianMixture, path: Interpolant, n: int = 100) -> tuple[torch.Tensor, ...]:
    """Times s and t, among them equal and nearly equal ones, and points spread as at s and wider."""
    g = seeded(0)
    s, t = 0.02 + 0.96 * torch.rand(2, n, generator=g, dtype=DOUBLE)
    step = torch.rand(n, generator=g, dtype=DOUBLE)
    for power, start in enumerate((10, 20, 30, 40), 3):  # 1e-3, ..., 1e-6
        t[start : start + 10] = s[start : start + 10] + step[start : start + 10] * 10.0**-power
    t[:10] = s[:10]
    c = path.coefficients(s[:, None])
    noise = torch.randn(n, *target.event_shape, generator=g, dtype=DOUBLE)
    return s, t, c.alpha * target.sample(n, generator=g) + 1.5 * c.noise_scale * noise


def test_by_hand_from_a_normal_to_a_normal():
    """From N(0, 1): X(x) = 1.3 t + r_t / r_s (x - 1.3 s) with r^2 = (1 - t)^2 + t^2 / 4."""
    oracle = FlowMapOracle(GaussianMixture(torch.tensor([[1.3]], dtype=DOUBLE), 0.5))
    one = torch.ones(1, 1, dtype=DOUBLE)
    image, log_det = oracle.jump_and_log_det(0.2, 0.8, one)
    assert image.item() == pytest.approx(1.45047815, abs=2e-8)
    assert log_det.item() == pytest.approx(-0.58932750, abs=1e-8)
    assert oracle.jump(0.0, 1.0, one).item() == pytest.approx(1.8, abs=1e-15)
    assert oracle(0.2, 0.8, one).item() == pytest.approx(0.45047815 / 0.6, abs=2e-8)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_every_identity_of_a_flow_map_holds(path, target):
    """On the diagonal, Lagrangian, Eulerian and semigroup, with the velocity of the other oracle."""
    oracle, field = FlowMapOracle(target, path), GaussianMixtureOracle(target, path)
    s, t, x = drawn(target, path)
    u = field(s, x)
    size = u.abs().max()  # up to 1e3 along ve and edm

    def close(a: torch.Tensor, b: torch.Tensor) -> bool:
        return bool(((a - b).abs() < 1e-10 * size).all())

    assert close(oracle(s, s, x), u)
    image, log_det = oracle.jump_and_log_det(s, t, x)
    span = (t - s)[:, None]
    assert close(x + span * oracle(s, t, x), image)
    for function in (lambda t: oracle.jump(s, t, x), lambda t: x + (t - s)[:, None] * oracle(s, t, x)):
        assert close(jvp(function, (t,), (torch.ones_like(t),))[1], field(t, image))
    moved = jvp(lambda s, x: oracle.jump(s, t, x), (s, x), (torch.ones_like(s), u))[1]
    assert close(moved, torch.zeros_like(x))
    middle = torch.rand(len(x), generator=seeded(1), dtype=DOUBLE)
    between, first_part = oracle.jump_and_log_det(s, middle, x)
    again, second_part = oracle.jump_and_log_det(middle, t, between)
    assert close(again, image)
    assert torch.allclose(first_part + second_part, log_det, rtol=0, atol=1e-9)
    # the change of variables, densities by the other oracle
    assert torch.allclose(field.log_prob(t, image) + log_det, field.log_prob(s, x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("name", first(["linear", "edm", "vp", "trig", "brownian", "cosine"], 2))
def test_it_is_where_the_ode_arrives(name, target):
    """SciPy's DOP853 on the velocity of the mixture oracle, forwards and backwards."""
    path = PATHS[name]
    oracle, field = FlowMapOracle(target, path), GaussianMixtureOracle(target, path)
    for s, t in ((0.05, 0.9), (0.9, 0.05), (0.3, 0.6)):
        c = path.coefficients(torch.tensor(s, dtype=DOUBLE))
        x = float(c.noise_scale) * torch.randn(6, *target.event_shape, generator=seeded(2), dtype=DOUBLE)
        x = x + float(c.alpha) * target.sample(6, generator=seeded(3))

        def velocity(time: float, y: np.ndarray, like: torch.Tensor = x) -> np.ndarray:
            rows = torch.as_tensor(y).reshape(like.shape)
            return field(torch.tensor(time, dtype=DOUBLE), rows).flatten().numpy()

        found = solve_ivp(velocity, (s, t), x.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-12).y
        truth = torch.as_tensor(found[:, -1]).reshape(x.shape)
        assert (oracle.jump(s, t, x) - truth).abs().max() < 1e-8 * max(1.0, float(truth.abs().max()))


def quantile(x: float, weights: list[float], here: list[list[float]], there: list[list[float]]) -> float:
    """F_there^-1(F_here(x)) by bisection in 400 digits."""

    def below(y, means, scales):
        return mpmath.fsum(w * mpmath.ncdf((y - m) / r) for w, m, r in zip(weights, means, scales))

    with mpmath.workdps(400):
        p = below(mpmath.mpf(x), *here)
        low, high = (mpmath.mpf(f(there[0]) + side * 40 * max(there[1])) for f, side in ((min, -1), (max, 1)))
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if below(middle, *there) < p else (low, middle)
        return float(low)


@pytest.mark.parametrize("where", ["tails", "gap", "bulk"])
def test_quantiles_keep_their_digits(where):
    """Narrow and distant components, points 30 deviations out and between components."""
    weights = torch.tensor([0.3, 1e-6, 0.699999], dtype=DOUBLE)
    means, scales = torch.tensor([-4.0, 1.0, 5.0], dtype=DOUBLE), torch.tensor([0.2, 0.5, 0.03], dtype=DOUBLE)
    sides = []
    for a in (0.8, 0.97):
        sides.append((a * means, ((a * scales).square() + (1 - a) ** 2).sqrt()))
    x = {"tails": [-12.0, 14.0], "gap": [-0.5, 2.9], "bulk": [-3.3, 3.98]}[where]
    lines = [Line(weights.log().expand(2, 3), m.expand(2, 3), r.expand(2, 3)) for m, r in sides]
    found = transport(torch.tensor(x, dtype=DOUBLE), *lines)
    pairs = [[v.tolist() for v in side] for side in sides]
    truth = [quantile(value, weights.tolist(), *pairs) for value in x]
    np.testing.assert_allclose(found.numpy(), truth, rtol=1e-13)


def test_it_returns_from_a_gap_that_a_distribution_function_does_not_resolve():
    """Between components at -10 and 10 of deviation 0.1 F differs from 0.3 by less than rounding does."""
    target = GaussianMixture(torch.tensor([[-10.0], [10.0]], dtype=DOUBLE), 0.1, [0.3, 0.7])
    oracle = FlowMapOracle(target)
    x = torch.tensor([[0.0], [-3.0], [2.0], [9.5], [-40.0], [1e3]], dtype=DOUBLE)
    for s, t in ((0.5, 1.0), (0.9, 0.99), (0.0, 1.0)):
        assert torch.allclose(oracle.jump(t, s, oracle.jump(s, t, x)), x, rtol=1e-13, atol=1e-13)


def test_consistency_function_of_normal_data():
    """x sqrt((tau^2 + eps^2) / (tau^2 + sigma^2)) along data plus noise."""
    schedule = Karras(0.002, 80.0)
    oracle = FlowMapOracle(GaussianMixture(torch.zeros(1, 2, dtype=DOUBLE), 0.5), Interpolant(schedule))
    sigma = torch.tensor([80.0, 2.0, 0.05, 0.002], dtype=DOUBLE)
    x = torch.randn(4, 2, generator=seeded(0), dtype=DOUBLE) * (0.25 + sigma[:, None] ** 2).sqrt()
    expected = x * ((0.25 + 0.002**2) / (0.25 + sigma[:, None] ** 2)).sqrt()
    s = schedule.time_of(sigma).clamp(0, 1)
    assert torch.allclose(oracle.jump(s, 1.0, x), expected, rtol=1e-11, atol=0)


def test_another_normal_source():
    """Against the eigenvalues by hand, with covariances that share axes but no eigenvalues."""
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=DOUBLE)
    s1, s0 = (turn @ torch.diag(torch.tensor(v, dtype=DOUBLE)) @ turn.T for v in ([1.0, 1.0], [4.0, 0.25]))
    target = GaussianMixture(torch.tensor([[1.0, 2.0]], dtype=DOUBLE), s1[None])
    source = GaussianMixture(torch.tensor([[-3.0, 0.5]], dtype=DOUBLE), s0[None])
    for path in (Interpolant(), Interpolant(VariancePreserving())):
        oracle = FlowMapOracle(target, path, source)
        x = source.sample(5, generator=seeded(0))
        c, d = (path.coefficients(torch.tensor(v, dtype=DOUBLE)) for v in (0.1, 0.8))
        roots = []
        for k in (c, d):
            values, vectors = torch.linalg.eigh(k.alpha**2 * s1 + k.sigma**2 * s0)
            roots.append(vectors @ torch.diag(values.sqrt()) @ vectors.T)
        start, stop = (k.alpha * target.means + k.sigma * source.means for k in (c, d))
        expected = stop + (x - start) @ torch.linalg.inv(roots[0]) @ roots[1]
        assert torch.allclose(oracle.jump(0.1, 0.8, x), expected, atol=1e-12)
        assert torch.allclose(oracle.log_det(0.1, 0.8, x), (roots[1].logdet() - roots[0].logdet()).expand(5))
        # a central difference is off by its squared span
        slope = (oracle.jump(0.1, 0.101, x) - oracle.jump(0.1, 0.099, x)) / 0.002
        for t in (0.1, 0.1 + 1e-7):
            assert torch.allclose(oracle(0.1, t, x), slope, rtol=0, atol=2e-5 * float(slope.abs().max()))


def test_a_shifted_source_on_the_line():
    target, source = TARGETS["line"], GaussianMixture(torch.tensor([[2.0]], dtype=DOUBLE), 0.7)
    oracle = FlowMapOracle(target, None, source)
    draws = 0.4 * target.sample(50_000, generator=seeded(0)) + 0.6 * source.sample(
        50_000, generator=seeded(1)
    )
    image = oracle.jump(0.4, 1.0, draws)
    for power in (1, 2, 3):
        got, want = image**power, target.sample(50_000, generator=seeded(2)) ** power
        # four standard errors of a difference of two means
        error = ((got.var() + want.var()) / 50_000).sqrt()
        assert (got.mean() - want.mean()).abs() < 4 * error


def test_labels_choose_the_component():
    g = seeded(4)
    roots = torch.randn(3, 2, 2, generator=g, dtype=DOUBLE)
    target = GaussianMixture(torch.randn(3, 2, generator=g, dtype=DOUBLE), roots @ roots.mT + COVARIANCE)
    x, labels = torch.randn(4, 2, generator=g, dtype=DOUBLE), torch.tensor([0, 2, 1, 0])
    found = FlowMapOracle(target).jump_and_log_det(0.1, 0.9, x, labels)
    for row, label in enumerate(labels):
        alone = FlowMapOracle(GaussianMixture(target.means[label][None], target.covariances[label][None]))
        image, log_det = alone.jump_and_log_det(0.1, 0.9, x[row][None])
        assert torch.allclose(found[0][row], image[0]) and torch.allclose(found[1][row], log_det[0])
    line = FlowMapOracle(TARGETS["line"])
    alone = FlowMapOracle(GaussianMixture(torch.tensor([[-3.0]], dtype=DOUBLE), 0.05))
    ends = line.jump(0.2, 0.7, x[:, :1], torch.ones(4, dtype=torch.long)), alone.jump(0.2, 0.7, x[:, :1])
    assert torch.allclose(*ends, atol=1e-12)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_derivatives(target):
    """First and second derivatives in s, t and x against differences, reverse mode against forward mode."""
    oracle = FlowMapOracle(target)
    x = torch.randn(3, *target.event_shape, generator=seeded(0), dtype=DOUBLE).requires_grad_()
    for span in (0.5, -0.25, 1e-6):
        s = torch.tensor([0.3, 0.4, 0.35], dtype=DOUBLE).requires_grad_()
        t = (s.detach() + span).requires_grad_()
        assert torch.autograd.gradcheck(oracle, (s, t, x), check_forward_ad=True)
        # differences of derivatives over a span of 1e-6 have few digits left
        assert torch.autograd.gradgradcheck(oracle, (s, t, x), atol=1e-4)
    rows = vmap(lambda t, y: oracle.jump(0.2, t, y[None])[0])(t, x)
    assert torch.allclose(rows, oracle.jump(0.2, t, x), atol=1e-13)


def test_log_det_is_that_of_the_jacobian():
    for target in TARGETS.values():
        oracle = FlowMapOracle(target)
        for row in torch.randn(3, *target.event_shape, generator=seeded(1), dtype=DOUBLE):
            jacobian = torch.func.jacfwd(lambda y, f=oracle: f.jump(0.9, 0.3, y[None])[0])(row)
            assert torch.allclose(jacobian.det().log(), oracle.log_det(0.9, 0.3, row[None])[0], atol=1e-11)


def test_dtype_and_modes():
    for target in TARGETS.values():
        oracle = FlowMapOracle(target)
        x = torch.randn(4, *target.event_shape, generator=seeded(0))
        exact = oracle.jump(0.2, 0.7, x.double())
        with torch.inference_mode():
            image, log_det = oracle.float().jump_and_log_det(torch.tensor(0.2), 0.7, x)
        assert image.dtype == log_det.dtype == torch.float32
        assert torch.allclose(image.double(), exact, atol=1e-5)
        # times of float32 that are 1e-4 apart give velocities with all digits of x
        t = torch.tensor(0.3)
        near, at = oracle(t, t + 1e-4, x), oracle(t, t, x)
        assert (near - at).abs().max() < 1e-2
        assert oracle.jump(0.2, 0.7, x[:0]).shape == x[:0].shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o, x: o(-0.1, 0.5, x), r"s: expected times in \[0, 1\], got -0.1 to -0.1"),
        (
            lambda o, x: o(0.1, torch.tensor([0.5, 1.5, 0.2]), x),
            r"t: expected times in \[0, 1\], got 0.2 to 1.5",
        ),
        (lambda o, x: o(0.1, math.nan, x), r"t: expected times in \[0, 1\], got nan to nan"),
        (
            lambda o, x: o(torch.zeros(2), 0.5, x),
            r"s: expected a time or one for each of 3 rows, got shape \(2,\)",
        ),
        (lambda o, x: o(0.1, 0.5, x[:, :1]), r"x: expected shape \(B, 2\), got \(3, 1\)"),
        (
            lambda o, x: FlowMapOracle(GaussianMixture(torch.eye(2), 1.0))(0.1, 0.5, x),
            "condition: expected labels that leave one component to each row",
        ),
        (
            lambda o, x: FlowMapOracle(
                o.mixture,
                None,
                GaussianMixture(torch.zeros(1, 2), torch.diag(torch.tensor([1.0, 2.0]))[None]),
            ),
            "source: expected a covariance that commutes",
        ),
        (
            lambda o, x: FlowMapOracle(o.mixture, None, GaussianMixture(torch.zeros(2, 2), 1.0)),
            r"source: expected one normal distribution on events \(2,\), got 2 on \(2,\)",
        ),
        (
            lambda o, x: FlowMapOracle(o.mixture, None, GaussianMixture(torch.zeros(1, 3), 1.0)),
            r"source: expected one normal distribution on events \(2,\), got 1 on \(3,\)",
        ),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(FlowMapOracle(TARGETS["normal"]), torch.zeros(3, 2))
    assert "\n" not in str(caught.value)
