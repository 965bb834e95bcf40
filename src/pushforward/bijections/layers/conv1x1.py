"""An invertible linear map of the channels, the same at every position."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...nn.checks import check_count
from ...tensors import Condition
from ..base import Bijection
from ..numerics.shapes import check_entries
from ..numerics.slopes import bounded

#: log-magnitudes of the diagonal stay within (-BOUND, BOUND)
BOUND = 5.0


class InvertibleConv1x1(Bijection):
    """y = P L U x at every position, for the vector x of its ``channels``.

    P is a permutation, L unit lower and U upper triangular.  It starts as a random rotation, drawn from
    PyTorch's global generator.  P and the signs of the diagonal of U are fixed; the logarithms of its
    magnitudes, whose sum times the number of positions is log|det|, are smoothly bounded by 5.  So it cannot
    become singular, and the inverse takes two triangular solves (Kingma & Dhariwal 2018, arXiv 1807.03039,
    section 3.2, eq. 10 and 11).

    Raises ValueError for fewer than one channel and points with another number of them.

    >>> layer = InvertibleConv1x1(3)
    >>> y, log_det = layer.forward_and_log_det(torch.randn(5, 3, 4, 4))
    >>> y.shape, bool(log_det.abs().max() < 1e-4)
    (torch.Size([5, 3, 4, 4]), True)
    """

    order: Tensor
    back: Tensor
    signs: Tensor

    def __init__(self, channels: int):
        super().__init__()
        check_count("channels", channels)
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))
        p, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        size = diagonal.abs().log().clamp(-0.9 * BOUND, 0.9 * BOUND)
        dtype = torch.get_default_dtype()
        self.lower = nn.Parameter(lower.tril(-1).to(dtype))
        self.upper = nn.Parameter(upper.triu(1).to(dtype))
        self.raw_log_diagonal = nn.Parameter((size / (1 - size.abs() / BOUND)).to(dtype))
        self.register_buffer("signs", diagonal.sign().to(dtype))
        # (P z)_i = z_order(i); kept with the weights, since it is drawn
        self.register_buffer("order", p.argmax(1))
        self.register_buffer("back", p.argmax(0))

    def _factors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """L, U and log|det| forward ``(B,)``, for points x."""
        channels = len(self.signs)
        check_entries(x, channels)
        log_diagonal = bounded(self.raw_log_diagonal.to(x.dtype), BOUND)
        eye = torch.eye(channels, dtype=x.dtype, device=x.device)
        lower = self.lower.to(x.dtype).tril(-1) + eye
        upper = self.upper.to(x.dtype).triu(1) + (self.signs.to(x.dtype) * log_diagonal.exp()).diag()
        log_det = (x.shape[2:].numel() * log_diagonal.sum()).expand(x.shape[0])
        return lower, upper, log_det

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        lower, upper, log_det = self._factors(x)
        matrix = (lower @ upper)[self.order]
        return (matrix @ x.flatten(2)).reshape(x.shape) if x.ndim > 2 else x @ matrix.mT, log_det

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        lower, upper, log_det = self._factors(y)
        z = y.reshape(*y.shape[:2], y.shape[2:].numel())[:, self.back]
        z = torch.linalg.solve_triangular(lower, z, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, z, upper=True).reshape(y.shape), -log_det
