"""Manifolds against geoopt, SciPy and closed forms, and flows on them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import eigvalsh, expm
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from manifold_cases import CASES, DOUBLE, ENDS, ZERO, points, tangents
from pushforward import ContinuousFlow, Dopri5, Euler, Rows, load, save
from pushforward.fields import OnManifold
from pushforward.manifolds import (
    SPD,
    Euclidean,
    Lorentz,
    Manifold,
    Poincare,
    Product,
    Simplex,
    SpecialOrthogonal,
    Sphere,
    Torus,
)
from pushforward.manifolds.texts import MANIFOLDS
from pushforward.nn import MLP
from pushforward.objectives import Batch, GeodesicMatching, Step
from pushforward.paths import GeodesicPath
from pushforward.random import seeded
from pushforward.sources import ManifoldBase

everywhere = pytest.mark.parametrize("space", CASES.values(), ids=CASES.keys())
COMPACT = {name: space for name, space in CASES.items() if space.log_volume is not None}


def close(a: Tensor, b: Any, atol: float = 1e-10, rtol: float = 1e-10) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), atol=atol, rtol=rtol)


@everywhere
def test_log_is_the_inverse_of_exp_and_as_long_as_the_distance(space: Manifold) -> None:
    x, y = points(space), points(space, seed=2)
    close(space.exp(x, space.log(x, y)), y, 1e-9)
    close(space.norm(x, space.log(x, y)), space.distance(x, y), 1e-9)
    close(space.distance(y, x), space.distance(x, y), 1e-9)
    if not isinstance(space, Simplex | Torus):  # geodesics run over the edge; angles may turn
        v = tangents(space, x)
        close(space.log(x, space.exp(x, v)), v, 1e-8, 1e-8)
    close(space.distance(x, x), torch.zeros(len(x)), 1e-7)


@everywhere
def test_projections_keep_what_is_there_and_transport_keeps_lengths(space: Manifold) -> None:
    x, y = points(space), points(space, seed=2)
    close(space.project(x), x)
    space.check(x)
    v, w = tangents(space, x), tangents(space, x, 3)
    close(space.project_tangent(x, v), v)
    carried = space.transport(x, y, v), space.transport(x, y, w)
    close(space.project_tangent(y, carried[0]), carried[0], 1e-9)
    close(space.inner(y, *carried), space.inner(x, v, w), 1e-9, 1e-8)
    # there and back
    close(space.transport(y, x, carried[0]), v, 1e-8, 1e-8)


@everywhere
def test_single_precision_and_no_gradient_at_a_loss(space: Manifold) -> None:
    x = points(space, like=torch.zeros(()))
    y = points(space, seed=2, like=torch.zeros(()))
    assert x.dtype == torch.float32
    exact = space.distance(x.double(), y.double())
    found = space.distance(x, y)
    assert found.dtype == torch.float32
    # distances have a third of the digits of single precision, 1e-7, where hyperbolic points are far out
    close(found, exact.float(), 2e-3, 2e-3)
    same = points(space, 5).requires_grad_()
    (slope,) = torch.autograd.grad(space.log(same, points(space, 5, 2)).sum(), same)
    assert bool(slope.isfinite().all())


@everywhere
def test_the_velocity_of_a_path_is_its_derivative(space: Manifold) -> None:
    x0, x1 = points(space, 50), points(space, 50, seed=2)
    path, t, h = GeodesicPath(space), 0.3, 1e-5
    point = path.sample(torch.tensor(t, dtype=DOUBLE), x0, x1)
    ahead, behind = (path.sample(torch.tensor(t + s, dtype=DOUBLE), x0, x1).x for s in (h, -h))
    rate = (ahead - behind) / (2 * h)
    if isinstance(space, Torus):  # over 2 pi
        rate = space.log(behind, ahead) / (2 * h)
    assert point.velocity is not None
    if isinstance(space, Product):  # over 2 pi in its circle
        rate = torch.where(rate.abs() > 1e3, point.velocity, rate)
    close(point.velocity, rate, 1e-6, 1e-5)  # of central differences with h = 1e-5
    one = path.sample(torch.tensor(1.0, dtype=DOUBLE), x0, x1)
    close(one.x, x1, 1e-9)
    assert one.velocity is not None
    close(space.norm(x1, one.velocity), space.distance(x0, x1), 1e-8)


def concrete(cls: type[Manifold]) -> set[type[Manifold]]:
    """The classes of manifolds below ``cls``."""
    return {cls} if not cls.__subclasses__() else set().union(*map(concrete, cls.__subclasses__()))


def test_every_manifold_has_a_text_a_case_and_pairs_at_its_ends() -> None:
    made = {cls.__name__ for cls in concrete(Manifold)}
    assert made == set(MANIFOLDS) == {type(space).__name__ for space in CASES.values()} == set(ENDS)


@pytest.mark.parametrize("name", ENDS)
def test_near_antipodes_half_turns_and_boundaries(name: str) -> None:
    """Against 50 digits, or what the pairs are made of."""
    space, pairs = ENDS[name]
    x, y, distance = pairs()
    for end in (x, y):
        space.check(end)
    close(space.distance(x, y), distance)
    v = space.log(x, y)
    close(space.norm(x, v), distance)
    # a double at a radius of 1e4 on the hyperboloid has no more digits than this, nor the length of a vector
    close(space.exp(x, v), y, 1e-7 if name == "Lorentz" else 1e-10)
    close(space.norm(y, space.transport(x, y, v)), distance, 1e-10, 1e-7 if name == "Lorentz" else 1e-10)
    close(space.transport(x, y, v), -space.log(y, x), 1e-7, 1e-7)


def test_against_geoopt() -> None:
    geoopt = pytest.importorskip("geoopt")
    peers = {
        "sphere": geoopt.Sphere(),
        "poincare": geoopt.PoincareBall(),
        "lorentz": geoopt.Lorentz(),
        "spd": geoopt.SymmetricPositiveDefinite(),
    }
    for name, peer in peers.items():
        space = CASES[name]
        x, y = points(space, 50), points(space, 50, seed=2)
        if name == "poincare":  # geoopt holds points 1e-5 inside of the boundary
            x, y = 0.9 * x, 0.9 * y
        v = tangents(space, x)
        close(space.exp(x, v), peer.expmap(x, v), 1e-10, 1e-9)
        close(space.log(x, y), peer.logmap(x, y), 1e-9, 1e-8)
        close(space.distance(x, y), peer.dist(x, y), 1e-9)
        if name != "sphere":  # where geoopt projects, which is shorter
            close(space.transport(x, y, v), peer.transp(x, y, v), 1e-9, 1e-8)


def test_rotations_against_scipy_up_to_half_a_turn() -> None:
    space, rng = SpecialOrthogonal(), np.random.default_rng(0)
    axes = rng.normal(size=(60, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    for angle in (1e-12, 1e-6, 1.0, math.pi - 1e-6, math.pi - 1e-12, math.pi):
        turn = torch.from_numpy(Rotation.from_rotvec(angle * axes).as_matrix())
        one = torch.eye(3, dtype=DOUBLE).expand(60, 3, 3)
        close(space.distance(one, turn), [angle] * 60, 1e-12)
        close(space.exp(one, space.log(one, turn)), turn, 1e-12)
    skew = space.log(one, points(space, 60))
    for row, found in zip(skew, space.exp(one, skew)):
        close(found, expm(row.numpy()), 1e-12)
    a, b, c = points(space, 60), points(space, 60, 2), points(space, 60, 4)
    for moved in (space.distance(c @ a, c @ b), space.distance(a @ c, b @ c)):
        close(moved, space.distance(a, b), 1e-12)


def test_matrices_against_scipy_and_under_congruence() -> None:
    space = SPD(3)
    x, y = points(space, 20), points(space, 20, 2)
    for a, b, found in zip(x, y, space.distance(x, y)):
        close(found, np.linalg.norm(np.log(eigvalsh(b.numpy(), a.numpy()))))
    m = torch.randn(3, 3, generator=seeded(0), dtype=DOUBLE)
    close(space.distance(m @ x @ m.T, m @ y @ m.T), space.distance(x, y), 1e-9)


def test_the_ends_of_the_sphere_and_of_the_ball() -> None:
    sphere, x = Sphere(2), torch.tensor([[0.0, 0.0, 1.0]], dtype=DOUBLE)
    for angle in (1e-9, math.pi - 1e-9):
        y = torch.tensor([[math.sin(angle), 0.0, math.cos(angle)]], dtype=DOUBLE)
        close(sphere.distance(x, y), [angle], 1e-15)
        close(sphere.exp(x, sphere.log(x, y)), y, 1e-14)
    ball = Poincare(2)
    for depth in (1e-3, 1e-6, 1e-9):
        y = torch.tensor([[1 - depth, 0.0]], dtype=DOUBLE)
        close(ball.distance(torch.zeros_like(y), y), [math.log((2 - depth) / depth)], 1e-6)
        close(ball.exp(torch.zeros_like(y), ball.log(torch.zeros_like(y), y)), y, 1e-12)


@pytest.mark.parametrize("space", [Poincare(2), Lorentz(2), SPD(2)], ids=repr)
def test_a_wrapped_normal_integrates_to_one(space: Manifold) -> None:
    """By importance: draws of one deviation under the density of another."""
    x = points(space, 40_000)
    weight = (space.base_log_prob(x, 0.7) - space.base_log_prob(x)).exp()
    assert abs(float(weight.mean()) - 1) < 4 * float(weight.std()) / 200  # four standard errors
    # a volume form that is wrong in a factor would cancel above: the disc of radius r has 2 pi (cosh r - 1)
    if space.dim == 2:
        inside = space.distance(space.origin(x).expand_as(x), x) < 1
        area = (inside / space.base_log_prob(x).exp()).mean()
        error = float((inside / space.base_log_prob(x).exp()).std()) / 200
        assert abs(float(area) - 2 * math.pi * (math.cosh(1) - 1)) < 4 * error


def test_volumes_and_invariance_of_uniform_draws() -> None:
    for space, volume in ((Sphere(2), 4 * math.pi), (Sphere(3), 2 * math.pi**2), (Torus(3), 8 * math.pi**3)):
        assert space.log_volume == pytest.approx(math.log(volume))
    turns, fixed = points(SpecialOrthogonal(), 20_000), points(SpecialOrthogonal(), 1, 7)
    for moved in (turns, fixed @ turns, turns @ fixed):
        # all moments of first order vanish; each entry has the variance 1 / 3
        assert float(moved.mean(0).abs().max()) < 4.5 * (1 / 3 / 20_000) ** 0.5
        # the angle has the density (1 - cos a) / pi, and the mean pi / 2 + 2 / pi
        angle = SpecialOrthogonal().distance(torch.eye(3, dtype=DOUBLE).expand_as(moved), moved)
        assert abs(float(angle.mean()) - math.pi / 2 - 2 / math.pi) < 4 * float(angle.std()) / 20_000**0.5


def up(t: Tensor, x: Tensor) -> Tensor:
    return torch.tensor([0.0, 0.0, 1.0], dtype=x.dtype).expand_as(x)


def test_the_gradient_flow_of_the_height() -> None:
    """dz/dt = 1 - z^2, so that z_1 = tanh(artanh z_0 + 1)."""
    space = Sphere(2)
    solver = Dopri5(rtol=1e-11, atol=1e-11)
    flow = ContinuousFlow(OnManifold(up, space), solver, ManifoldBase(space).double())
    x0 = points(space, 50)
    x, log_det = flow.push_and_log_det(x0)
    z0, z1 = x0[:, 2], x[:, 2]
    close(z1, (z0.atanh() + 1).tanh(), 1e-8)
    close(-log_det, ((1 - z0**2) / (1 - z1**2)).log(), 1e-8)
    close(flow.log_prob(x), -math.log(4 * math.pi) - log_det, 1e-8)
    close(flow.pull(x), x0, 1e-8)
    path = flow.trajectory(x0, [0.0, 0.5, 1.0]).path
    assert path is not None
    close(path.norm(dim=-1), torch.ones(3, 50), 1e-12)


def test_without_the_projection_inside_the_divergence_is_wrong() -> None:
    space, x = Sphere(2), points(Sphere(2), 20)
    exact = ContinuousFlow(lambda t, x: x, source=ManifoldBase(space)).divergence
    inside = OnManifold(up, space)

    def outside(t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
        return space.project_tangent(x, up(t, x))

    close(exact(inside, ZERO, x, None, None)[1], -2 * x[:, 2])
    close(exact(outside, ZERO, x, None, None)[1], -4 * x[:, 2])


class Turned(nn.Module):
    """A vector field of a network's kind: smooth, and of no symmetry."""

    def forward(self, t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
        flat = x.flatten(1)
        return (0.5 * (2 * flat.roll(1, 1) + t.reshape(-1, 1)).sin() + 0.3 * (3 * flat).tanh()).reshape(
            x.shape
        )


@pytest.mark.parametrize(
    "name", ["sphere", "torus", "poincare", "lorentz", "rotations", "spd", "simplex", "product"]
)
def test_the_density_of_a_flow_integrates_to_one(name: str, tmp_path: Path) -> None:
    """By importance over draws of the base: with a wrong divergence or volume the mean is not 1."""
    space = CASES[name]
    source = ManifoldBase(space).double()
    field = OnManifold(Turned(), space)
    flow = ContinuousFlow(field, Dopri5(rtol=1e-4, atol=1e-5), source)
    flow = flow.replace(interval=(0.0, 0.5))
    x = points(space, 1500)
    weight = (flow.log_prob(x) - source.log_prob(x)).exp()
    assert float(weight.std()) > 0.01, "a field that does nothing shows nothing"
    assert abs(float(weight.mean()) - 1) < 4 * float(weight.std()) / 1500**0.5
    drawn, log_p = flow.sample_and_log_prob(50, generator=seeded(3))
    close(flow.log_prob(drawn), log_p, 1e-3, 1e-3)  # of the solver


def test_a_rotation_of_the_torus_keeps_the_density() -> None:
    flow = ContinuousFlow(lambda t, x: 0 * x + 2.0, source=ManifoldBase(Torus(3)).double())
    x = points(Torus(3), 10)
    close(flow.log_prob(x), [-3 * math.log(2 * math.pi)] * 10)
    close(flow.push(x), (x + 2) % (2 * math.pi), 1e-6)


def test_a_trained_field_finds_a_distribution_and_is_kept_in_a_file(tmp_path: Path) -> None:
    space = Sphere(2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        field = OnManifold(MLP(3, width=32, depth=2), space)
    source, objective = ManifoldBase(space), GeodesicMatching(space)
    models, optimiser = nn.ModuleDict({"field": field}), torch.optim.Adam(field.parameters(), 3e-3)

    def data(n: int, seed: int) -> Tensor:
        z = torch.randn(n, 3, generator=seeded(seed, "data"))
        return space.project(torch.tensor([0.0, 0.0, 1.0]) + 0.3 * z)

    for step in range(400):
        rows = Rows(source.sample(256, generator=seeded(step, "source"))), Rows(data(256, step))
        loss = objective.loss(models, Batch(rows), Step(step, 400, generator=seeded(step, "t")))
        optimiser.zero_grad()
        loss.value.backward()
        optimiser.step()
    flow = ContinuousFlow(field.requires_grad_(False), Dopri5(), source)
    found, real = flow.sample(2000, generator=seeded(1)), data(2000, 10_000)
    # a uniform distribution has the mean height 0, and log-density -2.53
    assert abs(float(found[:, 2].mean() - real[:, 2].mean())) < 0.03
    assert float(flow.log_prob(real[:500]).mean()) > -1.0
    save(flow, tmp_path / "flow.safetensors")
    again = load(tmp_path / "flow.safetensors")
    assert bool((again.log_prob(real[:5]) == flow.log_prob(real[:5])).all())


def test_fixed_steps_are_put_back_onto_the_manifold() -> None:
    """Ten of Euler about an axis: what leaves the sphere turns the less, and the end is twice as far off."""
    space = Sphere(2)

    def turn(t: Tensor, x: Tensor) -> Tensor:
        return torch.linalg.cross(torch.tensor([0.0, 2.0, 1.0], dtype=x.dtype).expand_as(x), x)

    flow = ContinuousFlow(OnManifold(turn, space), Euler(steps=10), ManifoldBase(space).double())
    x0 = points(space, 200)
    exact = torch.from_numpy(Rotation.from_rotvec([0.0, 2.0, 1.0]).apply(x0.numpy()))
    found = space.distance(flow.push(x0), exact).max()
    left = flow.solver.solve(replace(flow.problem(), retract=None), x0, 0.0, 1.0).x
    assert float(space.off(left).max()) > 0.1
    assert float(found) < 0.6 * float(space.distance(space.project(left), exact).max())
    # states along with log-determinants are put back too
    assert torch.equal(flow.push_and_log_det(x0)[0], flow.push(x0))
    # and between the nodes of a torus nothing jumps
    ring = ContinuousFlow(lambda t, x: 0 * x + 4.0, Euler(steps=3), ManifoldBase(Torus(1)).double())
    angles, times = torch.tensor([[0.0], [3.0], [6.2]], dtype=DOUBLE), torch.linspace(0, 1, 8, dtype=DOUBLE)
    path = ring.trajectory(angles, times).path
    assert path is not None
    close(path, (angles + 4 * times[:, None, None]) % (2 * math.pi), 1e-12)


def test_antipodal_pairs_are_moved_and_counted() -> None:
    path, x = GeodesicPath(Sphere(2)), points(Sphere(2), 10)
    point = path.sample(
        torch.tensor(0.5, dtype=DOUBLE), x, torch.cat([-x[:3], x[3:].roll(1, 0)]), generator=seeded(0)
    )
    assert path.moved == 3
    assert bool(point.x.isfinite().all())
    close(point.x.norm(dim=1), torch.ones(10))


@pytest.mark.parametrize(
    ("space", "rows", "told"),
    [
        (
            Sphere(2),
            [[0.0, 0, 1], [0, 0, 1.5]],
            r"x: expected points on Sphere\(2\), got 1 of 2 .* 0.5; .* row 2",
        ),
        (SPD(2), [[[1.0, 0], [0, -1]]], r"x: expected points on SPD\(2\), got 1 of 1 rows"),
        (SPD(2), [[[1.0, 0.5], [0, 1]]], r"x: expected points on SPD\(2\), got 1 of 1 rows"),
        (Poincare(2), [[1.0, 1.0]], r"x: expected points on Poincare\(2\), got 1 of 1 rows"),
        (Simplex(1), [[0.7, 0.7]], r"x: expected points on Simplex\(1\), got 1 of 1 rows"),
        (Sphere(2), [[0.0, 1.0]], r"x: expected points on Sphere\(2\), shape \(rows, 3\), got \(1, 2\)"),
    ],
)
def test_points_off_a_manifold_are_refused(space: Manifold, rows: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        space.check(torch.tensor(rows))
    if len(rows[0]) == space.event_shape[0]:
        with pytest.raises(ValueError, match=told):
            ContinuousFlow(lambda t, x: 0 * x, source=ManifoldBase(space)).log_prob(torch.tensor(rows))


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="n: expected an integer of at least 1"):
        Sphere(0)
    with pytest.raises(ValueError, match="parts: expected at least one manifold"):
        Product()
    with pytest.raises(ValueError, match=r"Euclidean\(2\): the volume is infinite"):
        Euclidean(2).uniform(3, None, ZERO)
    with pytest.raises(ValueError, match="manifold: expected a Manifold"):
        ManifoldBase(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"x0: expected points on Sphere\(2\), got shape \(1, 2\)"):
        GeodesicPath(Sphere(2)).sample(ZERO, torch.zeros(1, 2), torch.zeros(1, 3))
