"""Sylvester layers: several planar steps at once, in an orthonormal frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...nn.checks import check_count
from ...tensors import Condition
from ..base import Bijection
from ..numerics.reflections import reflect
from ..numerics.shapes import check_vectors
from ..numerics.slopes import STEEPEST, bounded, log_slope_of_step, undo_step


class Sylvester(Bijection):
    r"""y = x + Q R tanh(S Q^T x + b) on vectors of ``dim`` numbers; Q has ``rank`` orthonormal columns.

    R and S are upper triangular, so that log|det| = sum_i log(1 + R_ii S_ii tanh'(z_i)) with
    z = S Q^T x + b (van den Berg et al. 2018, arXiv 1803.05649), and Q is a product of ``rank`` reflections,
    their Householder variant.  S_ii = exp(s_i) and 1 + R_ii S_ii = exp(a_i) with s_i and a_i
    smoothly bounded to (-5, 5): invertible at any parameters.

    The inverse seeks z first: z + S R tanh(z) = S Q^T y + b is triangular too, so that it is solved from
    the last number up, each the root of one increasing function, bracketed.  The layer starts as the
    identity.  Raises ValueError for a ``dim`` below 1, a rank outside 1 to ``dim`` and events that are no
    vectors of ``dim`` numbers, :class:`InverseFailed` for values that are not finite.

    >>> Sylvester(3, rank=2).forward(torch.ones(1, 3))
    tensor([[1., 1., 1.]], grad_fn=...)
    """

    def __init__(self, dim: int, rank: int):
        super().__init__()
        check_count("dim", dim)
        check_count("rank", rank, 1, dim)
        self.dim, self.rank = dim, rank
        self.normals = nn.Parameter(torch.randn(rank, dim) / dim**0.5)
        self.outer, self.inner = (nn.Parameter(torch.zeros(rank, rank)) for _ in range(2))
        self.slopes, self.scales, self.bias = (nn.Parameter(torch.zeros(rank)) for _ in range(3))

    def _parts(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Q^T, R, S, b and log(1 + R_ii S_ii)."""
        axes = torch.eye(self.rank, self.dim, dtype=like.dtype, device=like.device)
        frame = reflect(axes, self.normals.to(like.dtype))
        log_slope = bounded(self.slopes.to(like.dtype), STEEPEST)
        scale = bounded(self.scales.to(like.dtype), STEEPEST).exp()
        outer = self.outer.to(like.dtype).triu(1) + torch.diag_embed(log_slope.expm1() / scale)
        inner = self.inner.to(like.dtype).triu(1) + torch.diag_embed(scale)
        return frame, outer, inner, self.bias.to(like.dtype), log_slope

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        check_vectors(x, self.dim)
        frame, outer, inner, bias, log_slope = self._parts(x)
        step = (x @ frame.mT @ inner.mT + bias).tanh()
        return x + step @ outer.mT @ frame, log_slope_of_step(step, log_slope).sum(-1)

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        check_vectors(y, self.dim)
        frame, outer, inner, bias, log_slope = self._parts(y)
        target = y @ frame.mT @ inner.mT + bias
        product = inner @ outer
        steps: list[Tensor] = []
        for i in reversed(range(self.rank)):
            moved = sum((product[i, j] * steps[self.rank - 1 - j] for j in range(i + 1, self.rank)), 0.0)
            steps.append(undo_step(target[:, i] - moved, log_slope[i]).tanh())
        step = torch.stack(steps[::-1], -1)
        return y - step @ outer.mT @ frame, -log_slope_of_step(step, log_slope).sum(-1)
