"""Learnt rotations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...nn.checks import check_count
from ...tensors import Condition
from ..base import Bijection
from ..numerics.reflections import paired_normals, reflect
from ..numerics.shapes import check_vectors


class Orthogonal(Bijection):
    """y = Q x with Q = H_1 H_2 ... H_k, reflections H_i = I - 2 v_i v_i^T / |v_i|^2; volume is kept.

    k = ``dim`` reach every orthogonal matrix of determinant (-1)^k.  The layer starts as the identity, or
    for an odd k as one reflection.  The product is taken at once, in the compact form
    Q = I - V^T M^-1 V with M upper triangular (Tomczak & Welling 2016, arXiv 1611.09630; Joffrain et al.
    2006, doi 10.1145/1141885.1141886).  ``reflections`` None: ``dim``, one more where that is odd.
    Raises ValueError for sizes below 1 and events that are no vectors of ``dim`` numbers.

    >>> layer = Orthogonal(2, reflections=1)
    >>> _ = layer.normals.data.copy_(torch.tensor([[1.0, 1.0]]))
    >>> layer.forward_and_log_det(torch.tensor([[3.0, 4.0]]))
    (tensor([[-4., -3.]], grad_fn=...), tensor([0.]))
    """

    def __init__(self, dim: int, reflections: int | None = None):
        super().__init__()
        check_count("dim", dim)
        count = dim + dim % 2 if reflections is None else reflections
        check_count("reflections", count)
        self.dim = dim
        self.normals = nn.Parameter(paired_normals(count, dim))

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        check_vectors(x, self.dim)
        return reflect(x, self.normals.to(x.dtype)), x.new_zeros(len(x))

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        check_vectors(y, self.dim)
        # the inverse of a product of reflections is their product the other way round
        return reflect(y, self.normals.to(y.dtype).flip(0)), y.new_zeros(len(y))
