"""A learnt increasing map for every element."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...nn.checks import check_kind, check_sizes
from ...tensors import Condition, sum_event
from ..base import Bijection
from ..monotone import Monotone, RationalQuadratic


class Elementwise(Bijection):
    """y_i = f(x_i; p_i) with learnt parameters p_i for every element of an event.

    Raises ValueError for sizes below 1 and a ``monotone`` that is none.

    >>> flow = Elementwise(2)
    >>> flow.forward_and_log_det(torch.ones(1, 2))
    (tensor([[1., 1.]], grad_fn=...), tensor([0.], grad_fn=...))
    """

    def __init__(self, event_shape: int | Sequence[int], monotone: Monotone | None = None):
        super().__init__()
        shape = check_sizes("event_shape", event_shape)
        self.monotone = RationalQuadratic() if monotone is None else monotone
        check_kind("monotone", self.monotone, Monotone)
        self.domain, self.codomain = self.monotone.domain, self.monotone.codomain
        self.parameters_of_elements = nn.Parameter(torch.zeros(self.monotone.size, *shape))

    def _p(self, x: Tensor) -> Tensor:
        return self.parameters_of_elements.to(x.dtype)[:, None]

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        y, log_slope = self.monotone.forward_and_log_slope(x, self._p(x))
        return y, sum_event(log_slope)

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        x, log_slope = self.monotone.inverse_and_log_slope(y, self._p(y))
        return x, sum_event(log_slope)
