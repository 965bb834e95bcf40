"""What tests of manifolds share: one of every kind, and pairs of points where formulas lose digits.

The distances of these pairs are known: from 50 digits of mpmath, or by how the pairs are made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from pushforward.manifolds import (
    SPD,
    Euclidean,
    Lorentz,
    Manifold,
    Poincare,
    Product,
    Simplex,
    SpecialEuclidean,
    SpecialOrthogonal,
    Sphere,
    Torus,
)
from pushforward.random import seeded

DOUBLE = torch.float64
ZERO = torch.zeros((), dtype=DOUBLE)
CASES: dict[str, Manifold] = {
    "euclidean": Euclidean(3),
    "sphere": Sphere(2),
    "sphere-4": Sphere(4),
    "torus": Torus(2),
    "poincare": Poincare(3),
    "lorentz": Lorentz(3),
    "rotations": SpecialOrthogonal(),
    "rigid": SpecialEuclidean(),
    "spd": SPD(3),
    "simplex": Simplex(3),
    "product": Product(Sphere(2), Poincare(2), SPD(2), Torus(1)),
}

#: Two points ``(n, *event)`` each, and their distances ``(n,)``.
Pairs = tuple[Tensor, Tensor, Tensor]
SMALL = (1e-12, 1e-8, 1e-4)


def points(space: Manifold, n: int = 200, seed: int = 0, like: Tensor = ZERO) -> Tensor:
    return space.draw(n, seeded(seed, "points"), like)


def tangents(space: Manifold, x: Tensor, seed: int = 1) -> Tensor:
    """Tangent vectors of length 0.5, short of every cut locus."""
    v = space.project_tangent(x, torch.randn(x.shape, generator=seeded(seed, "v"), dtype=x.dtype))
    return 0.5 * v / space.norm(x, v).reshape(-1, *[1] * (x.ndim - 1))


def digits(distance: Callable[[list[Any], list[Any]], Any], x: Tensor, y: Tensor) -> Pairs:
    """The pairs with their distances from 50 digits."""
    with mpmath.workdps(50):
        rows = zip(x.tolist(), y.tolist())
        found = [float(distance([mpmath.mpf(a) for a in p], [mpmath.mpf(b) for b in q])) for p, q in rows]
    return x, y, torch.tensor(found, dtype=DOUBLE)


def _dot(p: list[Any], q: list[Any]) -> Any:
    return mpmath.fsum(a * b for a, b in zip(p, q))


def _angle(p: list[Any], q: list[Any]) -> Any:
    return mpmath.acos(_dot(p, q) / mpmath.sqrt(_dot(p, p) * _dot(q, q)))


def on_sphere() -> Pairs:
    """Near each other, and near antipodes."""
    x = points(Sphere(2), len(SMALL))
    v = 2 * tangents(Sphere(2), x) * torch.tensor(SMALL, dtype=DOUBLE)[:, None]
    near = torch.cat([x + v, -x + v])
    return digits(_angle, torch.cat([x, x]), near / near.norm(dim=1, keepdim=True))


def on_torus() -> Pairs:
    """Half a turn apart, up to little, and across the seam."""

    def turns(p: list[Any], q: list[Any]) -> Any:
        rest = [mpmath.fmod(a - b, 2 * mpmath.pi) for a, b in zip(p, q)]
        return mpmath.sqrt(mpmath.fsum(min(abs(r), 2 * mpmath.pi - abs(r)) ** 2 for r in rest))

    x = torch.tensor([[0.1, 3.0], [1e-9, 6.2], [2.0, 0.0], [0.0, 1e-300]], dtype=DOUBLE)
    y = torch.tensor(
        [[0.1 + math.pi - 1e-9, 3.0], [6.283185, 1e-3], [2.0 + 1e-12, 6.28], [3.0, 0.0]]
    ).double()
    return digits(turns, x, y)


def in_ball() -> Pairs:
    """Near the boundary: from the centre, beside each other, and from a side to the other."""

    def hyperbolic(p: list[Any], q: list[Any]) -> Any:
        gap = [a - b for a, b in zip(p, q)]
        return mpmath.acosh(1 + 2 * _dot(gap, gap) / ((1 - _dot(p, p)) * (1 - _dot(q, q))))

    depth = torch.tensor([1e-2, 1e-3, 1e-4], dtype=DOUBLE)[:, None]
    edge = torch.tensor([[0.6, 0.0, 0.8]], dtype=DOUBLE) * (1 - depth)
    beside = torch.tensor([[0.8, 0.0, 0.6]], dtype=DOUBLE) * (1 - 2 * depth)
    far = torch.tensor([[0.0, 0.95, 0.0]], dtype=DOUBLE)
    x, y = torch.cat([0 * edge, edge, far]), torch.cat([edge, beside, -far])
    return digits(hyperbolic, x, y)


def on_hyperboloid() -> Pairs:
    """Far from each other, and near each other."""

    def above(x: Tensor) -> Tensor:
        return torch.cat([(1 + x.square().sum(1, keepdim=True)).sqrt(), x], 1)

    def minkowski(p: list[Any], q: list[Any]) -> Any:
        # the first number as the others want it, which a double rounds
        first = [mpmath.sqrt(1 + _dot(a[1:], a[1:])) for a in (p, q)]
        return mpmath.acosh(first[0] * first[1] - _dot(p[1:], q[1:]))

    x = torch.tensor([[0.0, 0, 0], [30.0, 0, 10], [0.5, 0, 0.1], [0.5, 0, 0.1]], dtype=DOUBLE)
    y = torch.tensor([[1e4, 20, 0], [-40.0, 0, 5], [0.5, 1e-4, 0.1], [-0.5, 0, 1]], dtype=DOUBLE)
    return digits(minkowski, above(x), above(y))


def of_rotations() -> Pairs:
    """Turned by next to nothing, by nearly half a turn, and by half a turn."""
    angles = torch.tensor([*SMALL, *(math.pi - a for a in SMALL), math.pi], dtype=DOUBLE)
    x = points(SpecialOrthogonal(), len(angles))
    axes = np.random.default_rng(0).normal(size=(len(angles), 3))
    axes *= angles.numpy()[:, None] / np.linalg.norm(axes, axis=1, keepdims=True)
    return x, x @ torch.from_numpy(Rotation.from_rotvec(axes).as_matrix()), angles


def of_matrices() -> Pairs:
    """Eigenvalues up to e^8 apart: A A^T and A diag(e^l) A^T are |l| apart."""
    logs = torch.tensor([[8.0, -1.0, 0.0], [1e-6, 0, -1e-6], [3.0, 3.0, 3.0], [-7.0, 2.0, 1e-3]]).double()
    a = torch.randn(4, 3, 3, generator=seeded(0), dtype=DOUBLE) + 2 * torch.eye(3, dtype=DOUBLE)
    y = a @ torch.diag_embed(logs.exp()) @ a.mT
    return a @ a.mT, (y + y.mT) / 2, logs.norm(dim=1)


def of_shares() -> Pairs:
    """Next to the edge, where shares are nearly 0, and from one corner to another."""

    def rao(p: list[Any], q: list[Any]) -> Any:
        roots = [[mpmath.sqrt(a) for a in r] for r in (p, q)]
        return 2 * _angle(*roots)

    x = torch.tensor([[1e-12, 1e-6, 0.5, 0.5], [1.0, 1e-15, 1e-15, 0], [0.25] * 4], dtype=DOUBLE)
    y = torch.tensor(
        [[1e-6, 1e-12, 0.4, 0.6], [1e-15, 1.0, 0, 1e-15], [0.25 + 1e-9, 0.25 - 1e-9, 0.25, 0.25]]
    )
    return digits(rao, x / x.sum(1, keepdim=True), (y.double() / y.double().sum(1, keepdim=True)))


def of_vectors() -> Pairs:
    x = torch.tensor([[1e8, 0, 0], [0.0, 0, 0]], dtype=DOUBLE)
    return x, x + torch.tensor([[3.0, 4.0, 0.0]], dtype=DOUBLE), torch.full((2,), 5.0, dtype=DOUBLE)


def of_products() -> Pairs:
    """Those of each, one after the other: squares add up."""
    each = [on_sphere(), of_rotations()]
    x, y = (torch.cat([part[i][:6].flatten(1) for part in each], 1) for i in (0, 1))
    return x, y, torch.hypot(*(part[2][:6] for part in each))


#: By the class: a manifold, and pairs at its ends.
ENDS: dict[str, tuple[Manifold, Callable[[], Pairs]]] = {
    "Euclidean": (Euclidean(3), of_vectors),
    "Sphere": (Sphere(2), on_sphere),
    "Torus": (Torus(2), on_torus),
    "Poincare": (Poincare(3), in_ball),
    "Lorentz": (Lorentz(3), on_hyperboloid),
    "SpecialOrthogonal": (SpecialOrthogonal(), of_rotations),
    "SPD": (SPD(3), of_matrices),
    "Simplex": (Simplex(3), of_shares),
    "Product": (Product(Sphere(2), SpecialOrthogonal()), of_products),
}
