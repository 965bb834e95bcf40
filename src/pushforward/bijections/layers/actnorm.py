"""A scale and a shift for every channel, initialised so that they standardise the data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...nn.checks import check_count
from ...tensors import Condition
from ..base import Bijection
from ..numerics.shapes import check_entries
from ..numerics.slopes import bounded

#: log-scales stay within (-BOUND, BOUND), and are set from data to at most START of it
BOUND, START = 10.0, 0.9


class ActNorm(Bijection):
    """y_c = exp(a_c) (x_c + b_c), with learnt a and b for each of the ``channels`` of dimension 1.

    a = r / (1 + |r| / 10) for a free r, so that no scale diverges.  It is the identity until
    :meth:`initialise` is called with training rows.  Then each channel of its output has mean 0 and deviation
    1 over rows and positions, as far as the bound allows; a constant channel keeps its scale (Kingma &
    Dhariwal 2018, arXiv 1807.03039, section 3.1).

    Raises ValueError for fewer than one channel and points with another number of them.

    >>> layer = ActNorm(2)
    >>> x = torch.tensor([[1.0, 0.0], [3.0, 8.0]])
    >>> layer.initialise(x, inverse=False)
    tensor([[-1., -1.], [ 1.,  1.]])
    """

    def __init__(self, channels: int):
        super().__init__()
        check_count("channels", channels)
        self.raw_log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def _parameters_for(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-scale and shift to broadcast against x, and log|det| forward ``(B,)``."""
        channels = len(self.shift)
        check_entries(x, channels)
        log_scale = bounded(self.raw_log_scale.to(x.dtype), BOUND)
        positions = x.shape[2:].numel()
        over = (channels, *[1] * (x.ndim - 2))
        log_det = (positions * log_scale.sum()).expand(x.shape[0])
        return log_scale.reshape(over), self.shift.to(x.dtype).reshape(over), log_det

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        log_scale, shift, log_det = self._parameters_for(x)
        return (x + shift) * log_scale.exp(), log_det

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        log_scale, shift, log_det = self._parameters_for(y)
        return y * (-log_scale).exp() - shift, -log_det

    def set_from(self, x: Tensor, inverse: bool) -> None:
        self._parameters_for(x)  # which checks the shape
        dims = [0, *range(2, x.ndim)]
        mean, deviation = x.double().mean(dims), x.double().std(dims, correction=0)
        wanted = torch.where(deviation > 0, -deviation.log(), 0.0).clamp(-START * BOUND, START * BOUND)
        # forward: exp(a) (x + b); inverse: exp(-a) x - b
        log_scale = -wanted if inverse else wanted
        self.raw_log_scale.copy_(log_scale / (1 - log_scale.abs() / BOUND))
        self.shift.copy_(mean * wanted.exp() if inverse else -mean)
