"""Schedules, noise levels and paths against autograd in time, quadrature, and their own limits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.integrate import quad

from narrowing import known
from pushforward import entries, registry
from pushforward.paths import (
    Brownian,
    Constant,
    End,
    Follmer,
    Interpolant,
    Linear,
    LipmanOT,
    MapPath,
    Polynomial,
    Quadratic,
    SineSquared,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
)

DOUBLE = torch.float64
SCHEDULES: dict[str, Any] = {name: registry.create("path", name) for name in entries.SCHEDULES} | {
    "vp, beta_min 0": VariancePreserving(beta_min=0.0),
    "ve, clean": VarianceExploding(0.1, 5.0, clean=True),
    "polynomial, power 1/2": Polynomial(0.5),
}
# none with a parameter of 1, which would hide a power of it
OPTIONS = {"constant": "value=0.3", "brownian": "sigma=0.7", "quadratic": "scale=2.0", "sine": "scale=0.5"}
GAMMAS: dict[str, Any] = {
    name: registry.create("gamma", f"{name},{OPTIONS[name]}") for name in entries.GAMMAS
}
OPEN = {
    "vp": (False, True),
    "cosine": (False, True),
    "ddpm": (False, True),
    "follmer": (False, True),
    "ve, clean": (False, True),
    "polynomial, power 1/2": (True, False),
}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inside(*shape: int) -> torch.Tensor:
    return 0.01 + 0.98 * torch.rand(*shape, dtype=DOUBLE, generator=gen(9))


# -- derivatives -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, *GAMMAS.values()], ids=["none", *GAMMAS])
@pytest.mark.parametrize("name", list(SCHEDULES))
def test_velocity_is_the_time_derivative_of_the_path(name, gamma):
    path = Interpolant(SCHEDULES[name], gamma)
    x0, x1 = torch.randn(2, 20, 3, 2, dtype=DOUBLE, generator=gen())
    t = inside(20)

    def at(time):
        return path.sample(time, x0, x1, generator=gen(3)).x

    slope: Any = torch.func.jvp(at, (t,), (torch.ones_like(t),))[1]
    velocity = known(path.sample(t, x0, x1, generator=gen(3)).velocity)
    assert torch.allclose(velocity, slope, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("gamma", list(GAMMAS.values()), ids=list(GAMMAS))
@pytest.mark.parametrize("name", list(SCHEDULES))
def test_slopes_of_noise_by_autograd(name, gamma):
    path = Interpolant(SCHEDULES[name], gamma)
    t = inside(50)

    def values(time):
        c = path.coefficients(time)
        return 0.5 * c.gamma.square(), c.gamma, c.noise_scale

    slopes: Any = torch.func.jvp(values, (t,), (torch.ones_like(t),))[1]
    c = path.coefficients(t)
    for slope, truth in zip((c.gamma_d_gamma, c.d_gamma, c.d_noise_scale), slopes):
        assert torch.allclose(slope, truth, rtol=1e-10, atol=1e-10)


def test_the_integral_of_beta_is_that_of_quadrature():
    def beta(s, low, high):
        return low + (high - low) * s

    for low, high in ((0.1, 20.0), (0.0, 3.0), (2.0, 2.0)):
        t = torch.tensor([0.0, 0.3, 0.9, 1 - 1e-6], dtype=DOUBLE)
        alpha, sigma, *_ = VariancePreserving(low, high)(t)
        for i, s in enumerate((1 - t).tolist()):
            integral = quad(beta, 0, s, args=(low, high), epsabs=0, epsrel=1e-13)[0]
            assert float(alpha[i]) == pytest.approx(math.exp(-integral / 2), rel=1e-10)
            assert float(sigma[i]) == pytest.approx(math.sqrt(-math.expm1(-integral)), rel=1e-10)


# -- both ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedules_at_the_ends_are_their_limits(name):
    ends, near = torch.tensor([0.0, 1.0], dtype=DOUBLE), torch.tensor([1e-12, 1 - 1e-12], dtype=DOUBLE)
    exact, close = SCHEDULES[name](ends), SCHEDULES[name](near)
    for limit, value in zip(exact, close):
        assert not limit.isnan().any()
        finite = limit.isfinite()
        # a square root is 1e-6 away from its limit at a distance of 1e-12
        assert torch.allclose(value[finite], limit[finite], rtol=1e-5, atol=1e-5)
        assert (value[~finite].abs() > 1e3).all()
        assert torch.equal(value[~finite].sign(), limit[~finite].sign())
    slopes = torch.stack(exact[2:]).isfinite().all(0)
    expected = OPEN.get(name, (False, False))
    assert tuple((~slopes).tolist()) == expected == Interpolant(SCHEDULES[name]).open_ends


@pytest.mark.parametrize("name", list(GAMMAS))
def test_noise_levels_at_the_ends_are_their_limits(name):
    ends, near = torch.tensor([0.0, 1.0], dtype=DOUBLE), torch.tensor([1e-12, 1 - 1e-12], dtype=DOUBLE)
    exact, close = GAMMAS[name](ends), GAMMAS[name](near)
    for limit, value in zip(exact, close):
        finite = limit.isfinite()
        assert torch.allclose(value[finite], limit[finite], rtol=1e-5, atol=1e-5)
        assert torch.equal(value[~finite].sign(), limit[~finite].sign())
    assert exact[0].isfinite().all() and exact[2].isfinite().all()
    assert Interpolant(gamma=GAMMAS[name]).open_ends == ((name == "brownian",) * 2)
    path = Interpolant(Linear(), GAMMAS[name])
    if name != "brownian":
        limit, value = path.coefficients(ends).d_noise_scale, path.coefficients(near).d_noise_scale
        assert torch.allclose(value, limit, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("name", list(SCHEDULES))
def test_what_vanishes_at_an_end_is_exactly_zero_there(name, dtype):
    alpha, sigma, *_ = SCHEDULES[name](torch.tensor([0.0, 1.0], dtype=dtype))
    assert alpha.dtype == sigma.dtype == dtype
    assert float(alpha[1]) == 1.0
    left = {"lipman": pytest.approx(1e-4), "ve": pytest.approx(0.01), "edm": pytest.approx(0.002)}
    assert float(sigma[1]) == left.get(name, 0.0)
    # a diffusion of finite length leaves a little of the data
    if not name.startswith(("vp", "ve", "sub-vp", "ddpm", "edm")):
        assert float(alpha[0]) == 0.0 and float(sigma[0]) == 1.0
    for gamma in (Brownian(2.0), Quadratic(), SineSquared()):
        assert not gamma(torch.tensor([0.0, 1.0], dtype=dtype))[0].any()


@pytest.mark.parametrize("gamma", [0.0, 0.1, Brownian()], ids=["none", "constant", "brownian"])
@pytest.mark.parametrize("name", list(SCHEDULES))
def test_ends_state_the_law_at_both_ends(name, gamma):
    path = Interpolant(SCHEDULES[name], gamma)
    x0, x1 = torch.randn(2, 4, 2, dtype=DOUBLE, generator=gen())
    # within 2e-6 of its end a square root at 1e-12 from there
    for t, end in zip((1e-12, 1 - 1e-12), path.ends()):
        point = path.sample(torch.tensor(t, dtype=DOUBLE), x0, x1, generator=gen(1))
        z = 0.0 if point.noise is None else point.noise
        expected = end.source_scale * x0 + end.target_scale * x1 + end.noise_scale * z
        assert torch.allclose(point.x, expected, rtol=1e-5, atol=1e-5)


def test_ends_of_diffusions_name_what_is_left():
    start, stop = Interpolant(VariancePreserving()).ends()
    assert start.target_scale == pytest.approx(math.exp(-20.1 / 4)) and stop == End(0.0, 1.0, 0.0)
    start, stop = Interpolant(VarianceExploding(0.02, 30.0)).ends()
    assert (start.source_scale, start.target_scale) == (pytest.approx(30.0), 1.0)
    assert stop.source_scale == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("path", "end"),
    [
        (Interpolant(VariancePreserving()), 1),
        (Interpolant(Follmer()), 1),
        (Interpolant(Polynomial(0.5)), 0),
        (Interpolant(gamma=Brownian()), 0),
        (Interpolant(gamma=Brownian()), 1),
    ],
)
def test_infinite_velocities_are_refused(path, end):
    x = torch.zeros(3, 2)
    times = torch.tensor([0.5, float(end), 0.5])
    with pytest.raises(ValueError, match=f"t: the velocity of this path is infinite at t = {end}"):
        path.sample(times, x, x)
    other = 1 - end if not path.open_ends[1 - end] else 0.5
    assert known(path.sample(torch.tensor([0.5, other, 0.5]), x, x).velocity).isfinite().all()


@pytest.mark.parametrize("name", ["linear", "vp"])
def test_sampling_compiles_to_one_graph(name):
    path = Interpolant(SCHEDULES[name])
    x0, x1 = torch.randn(2, 4, 2, generator=gen())
    torch._dynamo.reset()
    compiled = torch.compile(lambda t: path.sample(t, x0, x1).velocity, fullgraph=True, backend="aot_eager")
    t = torch.tensor([0.1, 0.4, 0.6, 0.9])
    assert torch.allclose(known(compiled(t)), known(path.sample(t, x0, x1).velocity), atol=1e-6)


# -- antithetic pairs --------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", list(GAMMAS.values()), ids=list(GAMMAS))
def test_pairs_are_draws_with_opposite_noise(gamma):
    path = Interpolant(Trigonometric(), gamma)
    x0, x1 = torch.randn(2, 20, 3, dtype=DOUBLE, generator=gen())
    t = inside(20)
    point, pair = path.sample(t, x0, x1, generator=gen(3)), path.sample_pair(t, x0, x1, generator=gen(3))
    noise = known(pair.noise)
    assert torch.equal(noise, known(point.noise)) and torch.allclose(pair.plus, point.x, atol=1e-14)
    middle = Interpolant(Trigonometric()).sample(t, x0, x1)
    assert torch.allclose(0.5 * (pair.plus + pair.minus), middle.x, atol=1e-14)
    assert torch.allclose(pair.drift, known(middle.velocity), atol=1e-14)
    c = known(pair.coefficients)
    velocity = pair.drift + c.gamma_d_gamma / c.gamma * noise
    assert torch.allclose(velocity, known(point.velocity), rtol=1e-12, atol=1e-12)


def test_pairs_need_a_finite_drift_only():
    x = torch.ones(2, 1)
    pair = Interpolant(gamma=Brownian()).sample_pair(torch.tensor([0.0, 1.0]), x, 2 * x)
    assert torch.equal(pair.plus, torch.tensor([[1.0], [2.0]])) and torch.equal(pair.drift, x)
    with pytest.raises(ValueError, match="infinite at t = 1"):
        Interpolant(Follmer(), Brownian()).sample_pair(torch.tensor([0.0, 1.0]), x, x)


# -- any curve ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (5,), (5, 1, 1), (5, 3, 2)])
def test_a_linear_map_is_the_linear_path(shape):
    curve = MapPath(lambda t, x0, x1: (1 - t) * x0 + t * x1)
    x0, x1 = torch.randn(2, 5, 3, 2, dtype=DOUBLE, generator=gen())
    t = torch.rand(shape, dtype=DOUBLE, generator=gen(1))
    ours, truth = curve.sample(t, x0, x1), Interpolant().sample(t, x0, x1)
    assert torch.allclose(ours.x, truth.x, atol=1e-14)
    assert torch.allclose(known(ours.velocity), known(truth.velocity), atol=1e-14)
    assert curve.ends() == Interpolant().ends() and curve.open_ends == (False, False)
    with torch.inference_mode():
        velocity = known(curve.sample(t, x0, x1).velocity)
        assert torch.allclose(velocity, known(truth.velocity), atol=1e-14)


class Bent(torch.nn.Module):
    """A learnt curve: x_t = (1 - t) x0 + t x1 + t (1 - t) bend."""

    def __init__(self):
        super().__init__()
        self.bend = torch.nn.Parameter(torch.tensor([2.0, -1.0], dtype=DOUBLE))

    def forward(self, t, x0, x1):
        return (1 - t) * x0 + t * x1 + t * (1 - t) * self.bend


def test_a_learnt_curve_is_differentiated_in_its_parameters():
    curve = Bent()
    path = MapPath(curve)
    assert [p.shape for p in path.parameters()] == [(2,)]
    x0, x1 = torch.randn(2, 6, 2, dtype=DOUBLE, generator=gen())
    t = inside(6)
    point = path.sample(t, x0, x1)
    # d/d bend of the mean of |velocity|^2, where velocity = x1 - x0 + (1 - 2t) bend
    factor = (1 - 2 * t)[:, None]
    truth = 2 * (factor * (x1 - x0 + factor * curve.bend)).sum(0).detach()
    (gradient,) = torch.autograd.grad(known(point.velocity).square().sum(), list(path.parameters()))
    assert torch.allclose(gradient, truth, atol=1e-12)


def test_curves_are_held_to_their_ends():
    x0, x1 = torch.randn(2, 6, 2, generator=gen())
    MapPath(Bent().float()).check(x0, x1)
    late = MapPath(lambda t, x0, x1: (1 - t) * x0 + 0.9 * t * x1)
    with pytest.raises(ValueError, match=r"curve: expected 0 x0 \+ 1 x1 at t = 1"):
        late.check(x0, x1)
    MapPath(late.curve, (End(1, 0, 0), End(0, 0.9, 0))).check(x0, x1)
    with pytest.raises(ValueError, match=r"curve: expected rows of shape \(6, 2\), got \(6,\)"):
        MapPath(lambda t, x0, x1: (t * x1).sum(1)).sample(torch.rand(6), x0, x1)


# -- times by element, noise, mistakes ---------------------------------------------------------------


def test_operator_valued_times_move_each_element_by_its_own_time():
    t = torch.tensor([[0.0, 1.0]], dtype=DOUBLE)
    x0, x1 = torch.tensor([[1.0, 2.0]], dtype=DOUBLE), torch.tensor([[3.0, 4.0]], dtype=DOUBLE)
    assert torch.equal(Interpolant().sample(t, x0, x1).x, torch.tensor([[1.0, 4.0]], dtype=DOUBLE))
    with pytest.raises(ValueError, match="t: expected"):
        Interpolant().sample(torch.zeros(3), torch.zeros(2, 2), torch.zeros(2, 2))


def test_path_noise_has_the_stated_deviation():
    zeros = torch.zeros(100_000, 1, dtype=DOUBLE)
    for gamma, deviation in ((Constant(0.3), 0.3), (Brownian(2.0), 0.8), (SineSquared(), 0.345492)):
        path = Interpolant(Linear(), gamma)
        x = path.sample(torch.tensor(0.2, dtype=DOUBLE), zeros, zeros, generator=gen()).x
        # five standard errors of a standard deviation from 100,000 draws
        assert abs(float(x.std()) - deviation) < 5 * deviation / math.sqrt(2 * 100_000)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Constant(-1.0), "gamma: expected a number >= 0, got -1.0"),
        (lambda: Brownian(0.0), "sigma: expected a positive number, got 0.0"),
        (lambda: Quadratic(-2.0), "scale: expected a positive number, got -2.0"),
        (lambda: SineSquared(math.inf), "scale: expected a positive number, got inf"),
        (lambda: LipmanOT(-0.1), "sigma_min: expected a number of at least 0, got -0.1"),
        (lambda: VariancePreserving(2.0, 1.0), "got 2.0 and 1.0"),
        (lambda: VariancePreserving(0.0, 0.0), "beta_max > 0, got 0.0 and 0.0"),
        (lambda: VarianceExploding(0.0), "0 < sigma_min < sigma_max, got 0.0 and 50.0"),
        (lambda: VarianceExploding(2.0, 1.0), "got 2.0 and 1.0"),
        (lambda: Polynomial(0.0), "power: expected a positive number, got 0.0"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(build, says):
    with pytest.raises(ValueError, match=says):
        build()


def test_points_of_different_shapes_are_refused():
    for draw in (Interpolant().sample, Interpolant(gamma=0.1).sample_pair):
        with pytest.raises(ValueError, match=r"expected equal shapes, got \(4, 3\) and \(4, 2\)"):
            draw(torch.rand(4), torch.zeros(4, 3), torch.zeros(4, 2))
