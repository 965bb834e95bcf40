"""A normal kernel around each of many rows: a kernel density that can be drawn from."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from .. import random
from ..tensors import Condition
from .base import Source

#: Numbers of a table of distances that are held at once.
TABLE = 10_000_000


class Kernels(Source):
    """The equal-weight mixture (1/N) sum_i N(x_i, H) of rows x_i ``(N, *event)``: a Gaussian kernel density.

    covariance: H, ``(d, d)`` with d the number of elements of an event; two rows are compared in the
    coordinates in which H is the identity.  Silverman 1986, section 4.2.  Raises ValueError for no rows, a
    covariance of another shape and one that is not positive definite.

    >>> Kernels(torch.zeros(5, 2), torch.eye(2)).log_prob(torch.zeros(1, 2))
    tensor([-1.8379])
    """

    rows: Tensor
    root: Tensor

    def __init__(self, rows: Tensor, covariance: Tensor):
        super().__init__()
        if len(rows) == 0:
            raise ValueError("rows: expected at least one row")
        self.event_shape = tuple(rows.shape[1:])
        d = math.prod(self.event_shape)
        if covariance.shape != (d, d):
            raise ValueError(f"covariance: expected shape ({d}, {d}), got {tuple(covariance.shape)}")
        root, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed):
            raise ValueError("covariance: expected a positive definite matrix")
        self.register_buffer("rows", rows.reshape(len(rows), d))
        self.register_buffer("root", root)

    @classmethod
    def of_root(cls, rows: Tensor, root: Tensor) -> Self:
        """Kernels of the covariance root root^T, root lower triangular, as it is."""
        found = cls(rows, torch.eye(len(root), dtype=root.dtype))
        found.root = root
        return found

    @property
    def covariance(self) -> Tensor:
        """H, ``(d, d)``."""
        return self.root @ self.root.T

    def convolved(self, scale: float, noise: float) -> Self:
        eye = torch.eye(len(self.root), dtype=self.root.dtype, device=self.root.device)
        rows = scale * self.rows.reshape(len(self.rows), *self.event_shape)
        return type(self)(rows, scale**2 * self.covariance + noise**2 * eye)

    def affine(self, matrix: Tensor, offset: Tensor) -> Self:
        rows = (self.rows @ matrix.T + offset).reshape(-1, *self.event_shape)
        return type(self)(rows, matrix @ self.covariance @ matrix.T)

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        dtype, device = self.rows.dtype, self.rows.device
        u = random.uniform((n,), generator, torch.float64, device)
        z = random.normal((n, self.rows.shape[1]), generator, dtype, device)
        x = self.rows[(u * len(self.rows)).long()] + z @ self.root.T
        return x.reshape(n, *self.event_shape)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        root = self.root.to(x)
        # whitened rows are near each other where the units of the columns are not
        centre = self.rows.to(x).mean(0)
        y, rows = (
            torch.linalg.solve_triangular(root, (part.reshape(len(part), -1) - centre).T, upper=False).T
            for part in (x, self.rows.to(x))
        )
        constant = (
            math.log(len(rows)) + 0.5 * rows.shape[1] * math.log(2 * math.pi) + root.diagonal().log().sum()
        )
        parts = y.split(max(1, TABLE // len(rows)))
        return torch.cat([(-0.5 * squared(part, rows)).logsumexp(1) for part in parts]) - constant


def squared(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances ``(n, m)`` of rows ``(n, d)`` and ``(m, d)``; exact without gradients."""
    if torch.is_grad_enabled() and x.requires_grad:
        # the root in cdist has no slope at 0
        return (x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T).clamp(min=0)
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
