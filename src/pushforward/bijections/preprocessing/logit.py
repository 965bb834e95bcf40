"""The sigmoid, from the line to an interval; its inverse is the logit of RealNVP's preprocessing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...nn.checks import check_number, check_rate
from ...tensors import Condition, every, sum_event
from ..base import REAL_LINE, Bijection, Domain


class Sigmoid(Bijection):
    """y = low + (high - low) * (sigmoid(x) - margin) / (1 - 2 margin): data in an interval become real.

    With ``u = (y - low) / (high - low)`` the inverse is ``logit(margin + (1 - 2 margin) u)``; ``margin``
    keeps the two ends of the interval from extremes (Dinh et al. 2017, arXiv 1605.08803, section 4.1, use
    .05).  The inverse of an end, or of what rounding takes there, is that of the nearest number inside: in
    single precision ``sigmoid(x)`` is 1 from x = 17 on, and comes back as 16.6 with margin 0.

    Raises ValueError for ``low >= high``, ends that are not finite, a margin outside [0, 1/2), and for data
    outside the interval or no numbers.  An infinite x goes to an end, its log-determinant to minus infinity.

    >>> Sigmoid(0.0, 16.0).inverse(torch.tensor([[8.0]]))
    tensor([[0.]])
    """

    def __init__(self, low: float = 0.0, high: float = 1.0, margin: float = 0.0):
        super().__init__()
        self.low, self.high = check_number("low", low), check_number("high", high)
        if not low < high:
            raise ValueError(f"low, high: expected low < high, got {low} and {high}")
        self.margin = check_rate("margin", margin, 0.5)
        overhang = (self.high - self.low) * self.margin / (1 - 2 * self.margin)
        self.domain, self.codomain = REAL_LINE, Domain(self.low - overhang, self.high + overhang)

    def _log_slope(self, x: Tensor) -> Tensor:
        """log dy/dx, elementwise."""
        width = torch.tensor((self.high - self.low) / (1 - 2 * self.margin), dtype=x.dtype, device=x.device)
        return F.logsigmoid(x) + F.logsigmoid(-x) + width.log()

    def untouched(self, entries: Tensor, inverse: bool = False) -> Tensor | None:
        return entries

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        unit = (torch.sigmoid(x) - self.margin) / (1 - 2 * self.margin)
        y = self.low + (self.high - self.low) * unit
        # rounding may put it outside
        return y.clamp(self.codomain.low, self.codomain.high), sum_event(self._log_slope(x))

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        low, high = self.codomain.low, self.codomain.high
        if not every((y >= low) & (y <= high)):
            raise ValueError(
                f"y: expected values in [{low:g}, {high:g}], got [{y.min().item():g}, {y.max().item():g}]"
            )
        unit = (y - self.low) / (self.high - self.low)
        share, number = self.margin + (1 - 2 * self.margin) * unit, torch.finfo(y.dtype)
        x = torch.logit(share.clamp(number.tiny, 1 - number.eps / 2))
        return x, -sum_event(self._log_slope(x))
