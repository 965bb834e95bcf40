"""Guidance of a model by a weaker version of itself."""

from __future__ import annotations

import torch
from torch import Tensor

from ...tensors import Condition
from ..base import AnyField, Field, as_field
from ..offers import Offered, offered
from .base import Guidance, Interval, check_interval, check_number, mixed, within


class Autoguidance(Guidance):
    """v = v_weaker + weight (v - v_weaker), both under the same condition.

    ``weaker`` is a field of the same path that was trained for less time, or is smaller: the difference
    points away from the errors that the two share (Karras et al. 2024, arXiv 2406.02507, eq. 4).  It needs no
    hidden conditions, and no conditions at all.  1 is the field itself.  Samples are sharper than the data
    and follow no density that has a simple form.

    interval: times at which it applies, elsewhere it is the field alone.  Raises ValueError for a weight that
    is not finite and an interval outside [0, 1].

    >>> from pushforward.fields import Guided
    >>> weaker = lambda t, x: torch.ones_like(x)
    >>> Guided(lambda t, x: 3 * torch.ones_like(x), Autoguidance(weaker, 2.0))(0.5, torch.zeros(1, 1))
    tensor([[5.]])
    """

    def __init__(self, weaker: AnyField, weight: float, interval: Interval = (0.0, 1.0)):
        super().__init__()
        self.weaker, self.weight = as_field(weaker, "weaker"), check_number(weight, "weight")
        self.interval = check_interval(interval)

    def forward(self, field: Field, t: Tensor, x: Tensor, condition: Condition | None) -> Tensor:
        own, inside = field(t, x, condition), within(self.interval, t, x)
        if inside is False:
            return own
        weak = self.weaker(t, x, condition)
        guided = weak + self.weight * (own - weak)
        return guided if inside is True else torch.where(inside, guided, own)

    def value_and_divergence(
        self, field: Field, t: Tensor, x: Tensor, condition: Condition | None, mask: Tensor | None = None
    ) -> Offered:
        own, inside = offered(field, t, x, condition, mask), within(self.interval, t, x)
        if inside is False or own is None:
            return own
        return mixed(self.weight, own, offered(self.weaker, t, x, condition, mask), inside)

    def extra_repr(self) -> str:
        return f"weight={self.weight:g}"
