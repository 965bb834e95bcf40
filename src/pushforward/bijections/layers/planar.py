"""Planar layers: each point moves along one direction, by a function of its coordinate along another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...nn.checks import check_count
from ...tensors import Condition
from ..base import Bijection
from ..numerics.shapes import check_vectors
from ..numerics.slopes import STEEPEST, bounded, log_slope_of_step, undo_step


class Planar(Bijection):
    r"""y = x + v tanh(w . x + b) with w . v > -1 on vectors of ``dim`` numbers.

    log|det| = log(1 + (w . v) tanh'(w . x + b)) (Rezende & Mohamed 2015, arXiv 1505.05770, section 4.1).
    v is a free vector u moved along w such that w . v = exp(a) - 1 with a = w . u smoothly bounded to
    (-5, 5), so that the map is invertible at any parameters and the log-determinant no larger than 5; the
    paper bounds w . v on one side only.  The inverse is the root of one increasing function of one number,
    bracketed.  The layer starts as the identity.  Raises ValueError for a ``dim`` below 1 and for events
    that are no vectors of ``dim`` numbers, :class:`InverseFailed` for values that are not finite.

    >>> Planar(2).forward(torch.ones(1, 2))
    tensor([[1., 1.]], grad_fn=...)
    """

    def __init__(self, dim: int):
        super().__init__()
        check_count("dim", dim)
        self.dim = dim
        self.w = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.u, self.b = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(()))

    def _parts(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """w, v, b and the logarithm of 1 + w . v."""
        w, u, b = (p.to(like.dtype) for p in (self.w, self.u, self.b))
        product = (w * u).sum()
        log_slope = bounded(product, STEEPEST)
        # the numerator vanishes as |w|^2 does, and faster; at w = 0 it is 0 over something
        square = w.square().sum() + torch.finfo(like.dtype).tiny
        return w, u + (log_slope.expm1() - product) / square * w, b, log_slope

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        check_vectors(x, self.dim)
        w, v, b, log_slope = self._parts(x)
        step = (x @ w + b).tanh()
        return x + step[:, None] * v, log_slope_of_step(step, log_slope)

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        check_vectors(y, self.dim)
        w, v, b, log_slope = self._parts(y)
        step = undo_step(y @ w + b, log_slope).tanh()
        return y - step[:, None] * v, -log_slope_of_step(step, log_slope)
