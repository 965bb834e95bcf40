"""Learnt linear maps by their triangular factors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...nn.checks import check_count
from ...tensors import Condition
from ..base import Bijection
from ..numerics.shapes import check_vectors
from ..numerics.slopes import STEEPEST, bounded
from .permutation import Permutation


class LULinear(Bijection):
    """y = P (L U x + b): L unit lower triangular, U upper triangular with diagonal exp(a), |a| < 5.

    log|det| = sum a, and the inverse is two triangular solves (Kingma & Dhariwal 2018, arXiv 1807.03039,
    section 3.2; Oliva et al. 2018, arXiv 1801.09819).  ``order`` is the fixed permutation P, as in
    :class:`Permutation`; None for none.  Apart from it the layer starts as the identity.  Raises
    ValueError for a ``dim`` below 1, an ``order`` that does not permute ``dim`` entries, and events that
    are no vectors of ``dim`` numbers.

    >>> LULinear(2, order=[1, 0]).forward_and_log_det(torch.tensor([[3.0, 4.0]]))
    (tensor([[4., 3.]], grad_fn=...), tensor([0.], grad_fn=...))
    """

    def __init__(self, dim: int, order: Tensor | Sequence[int] | None = None):
        super().__init__()
        check_count("dim", dim)
        self.permutation = Permutation(torch.arange(dim) if order is None else order)
        if len(self.permutation.order) != dim:
            raise ValueError(f"order: expected {dim} entries, got {len(self.permutation.order)}")
        self.dim = dim
        self.lower, self.upper = (nn.Parameter(torch.zeros(dim, dim)) for _ in range(2))
        self.diagonal, self.bias = (nn.Parameter(torch.zeros(dim)) for _ in range(2))

    def _factors(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """L less its diagonal, U, b and log|det|, which is the same for all rows."""
        log_scale = bounded(self.diagonal.to(like.dtype), STEEPEST)
        upper = self.upper.to(like.dtype).triu(1) + torch.diag_embed(log_scale.exp())
        log_det = log_scale.sum().expand(len(like))
        return self.lower.to(like.dtype).tril(-1), upper, self.bias.to(like.dtype), log_det

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        check_vectors(x, self.dim)
        lower, upper, bias, log_det = self._factors(x)
        middle = x @ upper.mT
        return self.permutation.forward(middle + middle @ lower.mT + bias), log_det

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        check_vectors(y, self.dim)
        lower, upper, bias, log_det = self._factors(y)
        y = self.permutation.inverse(y) - bias
        middle = torch.linalg.solve_triangular(lower, y.mT, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, middle, upper=True).mT, -log_det
