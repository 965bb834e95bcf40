"""Kernel densities: a mixture of normal kernels, one around each row."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from .. import random
from ..inputs import as_points, check_matrices
from ..tensors import Condition, flatten_event
from .base import Source

#: Numbers of a table of distances that are held at once.
TABLE = 10_000_000


class Kernels(Source):
    """The equal-weight mixture (1/N) sum_i N(x_i, s_i^2 H + E) of rows x_i ``(N, *event)``: a Gaussian kernel
    density.

    covariance: H, ``(d, d)`` with d the number of elements of an event; two rows are compared in the
    coordinates in which H is the identity (Silverman 1986, section 4.2).  widths: s_i, ``(N,)``; None: 1 for
    every row.  noise: E, ``(d, d)``; None: none.  Raises ValueError for no rows, matrices of another shape,
    a covariance that is not positive definite and widths that are not positive.

    >>> Kernels(torch.zeros(5, 2), torch.eye(2)).log_prob(torch.zeros(1, 2))
    tensor([-1.8379])
    """

    rows: Tensor
    root: Tensor
    widths: Tensor
    noise: Tensor | None

    def __init__(
        self, rows: Tensor, covariance: Tensor, widths: Tensor | None = None, noise: Tensor | None = None
    ):
        super().__init__()
        rows = as_points(rows, "rows")
        self.event_shape = tuple(rows.shape[1:])
        d = math.prod(self.event_shape)
        for name, matrix in (("covariance", covariance), ("noise", noise)):
            if matrix is not None and matrix.shape != (d, d):
                raise ValueError(f"{name}: expected shape ({d}, {d}), got {tuple(matrix.shape)}")
        root = torch.linalg.cholesky(check_matrices(covariance, "covariance"))
        widths = rows.new_ones(len(rows)) if widths is None else widths
        if widths.shape != (len(rows),) or not bool(((widths > 0) & widths.isfinite()).all()):
            raise ValueError(f"widths: expected {len(rows)} positive numbers")
        self.register_buffer("rows", rows.reshape(len(rows), d))
        self.register_buffer("root", root)
        self.register_buffer("widths", widths)
        self.register_buffer("noise", noise)

    @classmethod
    def of_root(cls, rows: Tensor, root: Tensor, widths: Tensor | None, noise: Tensor | None) -> Self:
        """Kernels of the covariance root root^T, root lower triangular, as it is."""
        found = cls(rows, torch.eye(len(root), dtype=root.dtype), widths, noise)
        found.root = root
        return found

    @property
    def covariance(self) -> Tensor:
        """H, ``(d, d)``."""
        return self.root @ self.root.T

    def convolved(self, scale: float, noise: float) -> Self:
        rows = scale * self.rows.reshape(len(self.rows), *self.event_shape)
        before = torch.zeros_like(self.root) if self.noise is None else self.noise
        eye = torch.eye(len(self.root), dtype=self.root.dtype, device=self.root.device)
        after = scale**2 * before + noise**2 * eye
        return type(self)(rows, scale**2 * self.covariance, self.widths, after if bool(after.any()) else None)

    def affine(self, matrix: Tensor, offset: Tensor) -> Self:
        rows = (self.rows @ matrix.T + offset).reshape(-1, *self.event_shape)
        noise = None if self.noise is None else matrix @ self.noise @ matrix.T
        return type(self)(rows, matrix @ self.covariance @ matrix.T, self.widths, noise)

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        dtype, device = self.rows.dtype, self.rows.device
        u = random.uniform((n,), generator, torch.float64, device)
        chosen = (u * len(self.rows)).long()
        z = random.normal((n, self.rows.shape[1]), generator, dtype, device)
        axes, variances = self._axes()
        x = self.rows[chosen] + (z * variances[chosen].sqrt()) @ axes.T
        return x.reshape(n, *self.event_shape)

    def _axes(self) -> tuple[Tensor, Tensor]:
        """A ``(d, d)`` and v ``(N, d)``, ``(N, 1)`` where E is none: s_i^2 H + E = A diag(v_i) A^T."""
        squares = self.widths.square()[:, None]
        if self.noise is None:
            return self.root, squares
        # E in the coordinates where H is the identity
        half = torch.linalg.solve_triangular(self.root, self.noise, upper=False)
        inner = torch.linalg.solve_triangular(self.root, half.T, upper=False)
        values, turn = torch.linalg.eigh(0.5 * (inner + inner.T))
        return self.root @ turn, squares + values.clamp(min=0)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        kept, x = x.dtype, x if torch.finfo(x.dtype).bits >= 32 else x.float()
        axes, variances = (part.to(x) for part in self._axes())
        # whitened rows are near each other where the units of the columns are not
        centre = self.rows.to(x).mean(0)
        y, rows = (
            torch.linalg.solve(axes, (flatten_event(part) - centre).T).T for part in (x, self.rows.to(x))
        )
        d = rows.shape[1]
        volume = 0.5 * variances.log().expand(-1, d).sum(1)
        constant = math.log(len(rows)) + 0.5 * d * math.log(2 * math.pi) + torch.linalg.slogdet(axes)[1]
        parts = y.split(max(1, TABLE // variances.numel()))
        found = [(-0.5 * _distance(y, rows, variances) - volume).logsumexp(1) for y in parts]
        return (torch.cat(found) - constant).to(kept)


def _distance(y: Tensor, rows: Tensor, variances: Tensor) -> Tensor:
    """sum_j (y_j - x_ij)^2 / v_ij for ``y`` ``(B, d)`` and every row, ``(B, N)``."""
    if variances.shape[1] == 1:
        return squared(y, rows) / variances[:, 0]
    return ((y[:, None] - rows).square() / variances).sum(2)


def squared(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances ``(n, m)`` of rows ``(n, d)`` and ``(m, d)``; exact without gradients."""
    if torch.is_grad_enabled() and x.requires_grad:
        # the root in cdist has no slope at 0
        return (x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T).clamp(min=0)
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
