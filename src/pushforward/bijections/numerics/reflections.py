"""Products of reflections."""

from __future__ import annotations

import torch
from torch import Tensor


def paired_normals(count: int, dim: int) -> Tensor:
    """Random normals ``(count, dim)`` of which each two in a row agree, so that their reflections cancel."""
    normals = torch.randn(-(-count // 2), dim)
    return (normals / normals.norm(dim=1, keepdim=True)).repeat_interleave(2, 0)[:count].clone()


def reflect(x: Tensor, normals: Tensor) -> Tensor:
    """Rows ``(B, d)`` times the transpose of H_1 ... H_k, H_i having row i of ``normals`` for its normal."""
    gram = normals @ normals.mT
    triangle = gram.triu(1) + torch.diag_embed(0.5 * gram.diagonal(dim1=-2, dim2=-1))
    weights = torch.linalg.solve_triangular(triangle, normals @ x.mT, upper=True)
    return x - weights.mT @ normals
