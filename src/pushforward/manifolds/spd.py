"""Symmetric matrices that are positive definite."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..nn.checks import check_count
from ..tensors import sum_event
from .base import Manifold
from .hyperbolic import _log_sinhc


def _function(matrix: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of symmetric matrices, by their eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * function(values)[:, None]) @ vectors.mT


def _factor(x: Tensor) -> Tensor:
    """L of x = L L^T, by Cholesky; NaN where x is not positive definite, as trial steps may be."""
    root, failed = torch.linalg.cholesky_ex(x)
    return torch.where((failed > 0)[:, None, None], torch.nan, root)


def _within(root: Tensor, y: Tensor) -> Tensor:
    """L^-1 y L^-T."""
    half = torch.linalg.solve_triangular(root, y, upper=False)
    return torch.linalg.solve_triangular(root, half.mT, upper=False)


class SPD(Manifold):
    """Symmetric positive definite n x n matrices, with the affine-invariant metric tr(A^-1 u A^-1 v).

    It does not change when A becomes M A M^T (Pennec, Fillard & Ayache 2006, doi
    10.1007/s11263-005-3222-z).  Densities are per volume of that metric.  Raises ValueError unless n is at
    least 1.

    >>> one = torch.eye(2)[None]
    >>> SPD(2).distance(one, torch.e * one)  # the length of (1, 1), the logarithms of the eigenvalues
    tensor([1.4142])
    """

    def __init__(self, n: int = 2):
        check_count("n", n)
        self.n, self.dim, self.event_shape = n, n * (n + 1) // 2, (n, n)

    def __repr__(self) -> str:
        return f"SPD({self.n})"

    def project(self, x: Tensor) -> Tensor:
        """The symmetric part; what is not positive definite stays so, and :meth:`check` refuses it."""
        return (x + x.mT) / 2

    def off(self, x: Tensor) -> Tensor:
        """How far from symmetric a matrix is, or how far its least eigenvalue is below 0."""
        skew = (x - x.mT).abs().flatten(1).amax(1) / 2
        least = torch.linalg.eigvalsh(self.project(x))[:, 0]
        return torch.where(least > 0, skew, torch.maximum(skew, 1 - least))

    def project_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return (v + v.mT) / 2

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return sum_event(torch.linalg.solve(x, u) * torch.linalg.solve(x, v).mT)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        # by L L^T = x in place of the square root, which is the same map and takes no eigenvalues of x
        root = _factor(x)
        return self.project(root @ _function(_within(root, v), torch.exp) @ root.mT)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        root = _factor(x)
        return self.project(root @ _function(_within(root, y), torch.log) @ root.mT)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        values = torch.linalg.eigvalsh(_within(_factor(x), y))
        return torch.linalg.vector_norm(values.log(), dim=1)

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        root = _factor(x)
        half = _function(_within(root, y), torch.sqrt)
        carry = torch.linalg.solve_triangular(root, root @ half, upper=False, left=False)
        return carry @ v @ carry.mT

    def uniform(self, n: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
        raise self._infinite()

    def origin(self, like: Tensor) -> Tensor:
        return torch.eye(self.n, dtype=like.dtype, device=like.device)[None]

    def from_embedded(self, x: Tensor, w: Tensor) -> Tensor:
        """L w L^T with x = L L^T, as long by the metric as the symmetric part of ``w``."""
        root = _factor(x)
        return root @ self.project(w) @ root.mT

    def log_scale(self, x: Tensor) -> Tensor:
        """By coordinates that are orthonormal for tr(u v)."""
        return -(self.n + 1) / 2 * torch.linalg.slogdet(x).logabsdet

    def exp_log_det(self, v: Tensor) -> Tensor:
        values = torch.linalg.eigvalsh(v)
        i, j = torch.triu_indices(self.n, self.n, 1)
        return _log_sinhc((values[:, i] - values[:, j]).abs() / 2).sum(1)
