"""Rotations of space."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import random
from .base import Manifold, dot, length, ratio


def _hat(w: Tensor) -> Tensor:
    """The skew matrices ``(B, 3, 3)`` of vectors ``(B, 3)``: hat(w) u is the product w x u."""
    x, y, z = w.unbind(1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)


def _vee(matrix: Tensor) -> Tensor:
    """The inverse, of the skew part."""
    skew = (matrix - matrix.mT) / 2
    return torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], 1)


def _rotation(w: Tensor) -> Tensor:
    """The rotations about ``w`` ``(B, 3)`` by the angle |w|, by Rodrigues' formula."""
    angle, skew = length(w)[:, None, None], _hat(w)
    half = torch.sinc(angle / (2 * math.pi))
    one = torch.eye(3, dtype=w.dtype, device=w.device)
    return one + torch.sinc(angle / math.pi) * skew + half.square() / 2 * (skew @ skew)


def _of_quaternion(q: Tensor) -> Tensor:
    """The rotations of unit quaternions ``(B, 4)``, the real part first."""
    w, v = q[:, :1, None], q[:, 1:]
    one = torch.eye(3, dtype=q.dtype, device=q.device)
    return one + 2 * w * _hat(v) + 2 * _hat(v) @ _hat(v)


def _quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions, by the largest of the four components, which keeps the digits at every angle."""
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    trace, w = diagonal.sum(1, keepdim=True), 2 * _vee(matrix)
    # four times the products of component i with all four, row i of which is used where i is largest
    outer = matrix + matrix.mT - torch.diag_embed(2 * diagonal)
    corner = torch.diag_embed(1 + 2 * diagonal - trace) + outer
    rows = torch.cat([torch.cat([1 + trace, w], 1)[:, None], torch.cat([w[:, :, None], corner], 2)], 1)
    largest = rows.diagonal(dim1=1, dim2=2).argmax(1)
    q = rows[torch.arange(len(rows), device=rows.device), largest]
    return q / length(q)[:, None]


class SpecialOrthogonal(Manifold):
    """Rotations of space, SO(3), matrices ``(B, 3, 3)``; distances are angles.

    The metric tr(u^T v) / 2 does not change under rotations from the left and from the right; the uniform
    distribution, that of Haar, has the log-density -log(8 pi^2) = -4.369.

    >>> one, rate = torch.eye(3)[None], torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    >>> SpecialOrthogonal().distance(one, SpecialOrthogonal().exp(one, rate))
    tensor([1.])
    """

    def __init__(self) -> None:
        self.dim, self.event_shape = 3, (3, 3)
        self.log_volume = math.log(8 * math.pi**2)

    def project(self, x: Tensor) -> Tensor:
        """The nearest rotation.  Its derivative is right at rotations, where the flow takes it."""
        with torch.no_grad():
            u, _, vh = torch.linalg.svd(x.detach())
            sign = torch.linalg.det(u @ vh).sign()
            nearest = u @ torch.diag_embed(torch.stack([*[torch.ones_like(sign)] * 2, sign], 1)) @ vh
        # singular values of rotations are equal, so that the decomposition has no derivative: a step of
        # Newton and Schulz leaves the value and has that of the projection
        near = nearest + (x - x.detach())
        return 1.5 * near - 0.5 * near @ near.mT @ near

    def project_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return (v - x @ v.mT @ x) / 2

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return dot(u, v) / 2

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return x @ _rotation(_vee(x.mT @ v))

    def _vector(self, x: Tensor, y: Tensor) -> Tensor:
        """Axis times angle of the rotation that x needs from the right to become y."""
        q = _quaternion(x.mT @ y)
        size = length(q[:, 1:])
        angle = 2 * torch.atan2(size, q[:, 0].abs())
        return (torch.where(q[:, 0] < 0, -1.0, 1.0) * ratio(angle, size, 2.0))[:, None] * q[:, 1:]

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ _hat(self._vector(x, y))

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        return length(self._vector(x, y))

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        half = _rotation(self._vector(x, y) / 2)
        return x @ half @ x.mT @ v @ half

    def uniform(self, n: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
        q = random.normal((n, 4), generator, like.dtype, like.device)
        return _of_quaternion(q / length(q)[:, None])

    def origin(self, like: Tensor) -> Tensor:
        return torch.eye(3, dtype=like.dtype, device=like.device)[None]

    def cut(self, x: Tensor, y: Tensor) -> Tensor:
        return self.distance(x, y) > math.pi - torch.finfo(x.dtype).eps ** 0.5
