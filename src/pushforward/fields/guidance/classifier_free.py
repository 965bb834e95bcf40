"""Classifier-free guidance."""

from __future__ import annotations

import torch
from torch import Tensor

from ...tensors import Condition, flatten_event
from ..base import Field
from ..offers import Offered, offered
from .base import (
    Guidance,
    Interval,
    both_offered,
    check_interval,
    check_number,
    mixed,
    with_and_without,
    within,
)


class ClassifierFree(Guidance):
    """v = v_absent + weight (v_condition - v_absent), which overstates what the condition changes.

    Ho & Salimans 2022, arXiv 2207.12598, eq. 6, with weight = 1 + their w: 1 is the conditional field, 0 the
    unconditional one.  Both are evaluated in one call on a doubled batch.  Without a condition it is the
    unconditional field.

    Samples do **not** follow the tilted density p(x | c)^w p(x)^(1-w): its noisy marginals have another score
    than this mix of scores.  For N(mu, 1) under the condition and N(0, 1) without, on the linear path, x0
    ends at x0 + weight mu, which is N(weight mu, 1) and here, by chance, also the tilted density.

    weight: how far to go.  interval: times at which it applies, elsewhere the field is the conditional one,
    in one evaluation where a solver asks for a single time (Kynkaanniemi et al. 2024, arXiv 2404.07724).
    rescale: share, in [0, 1], of rescaling the guided velocity of each row to the deviation that the
    conditional one has over the elements of the event (Lin et al. 2023, arXiv 2305.08891, section 3.4).

    Raises ValueError for a weight that is not finite, an interval outside [0, 1] and a share outside [0, 1].

    >>> from pushforward.fields import Guided
    >>> field = lambda t, x, condition: torch.where(condition[:, None] < 0, 0.0, 1.0) * torch.ones_like(x)
    >>> early = Guided(field, ClassifierFree(3.0, interval=(0.0, 0.5)))
    >>> [early(t, torch.zeros(1, 1), torch.tensor([4])).item() for t in (0.2, 0.8)]
    [3.0, 1.0]
    """

    compares_absent, keeps_padding = True, True

    def __init__(self, weight: float = 2.0, interval: Interval = (0.0, 1.0), rescale: float = 0.0):
        super().__init__()
        self.weight, self.interval = check_number(weight, "weight"), check_interval(interval)
        self.rescale = check_number(rescale, "rescale")
        if not 0 <= rescale <= 1:
            raise ValueError(f"rescale: expected a share in [0, 1], got {rescale}")

    def forward(self, field: Field, t: Tensor, x: Tensor, condition: Condition | None) -> Tensor:
        inside = within(self.interval, t, x)
        if condition is None or self.weight == 1.0 or inside is False:
            return field(t, x, condition)
        conditional, absent = with_and_without(field, t, x, condition)
        guided = absent + self.weight * (conditional - absent)
        if self.rescale:
            guided = guided * (1 + self.rescale * (_deviations(conditional, guided) - 1))
        return guided if inside is True else torch.where(inside, guided, conditional)

    def value_and_divergence(
        self, field: Field, t: Tensor, x: Tensor, condition: Condition | None, mask: Tensor | None = None
    ) -> Offered:
        inside = within(self.interval, t, x)
        if condition is None or self.weight == 1.0 or inside is False:
            return offered(field, t, x, condition, mask)
        if self.rescale:  # by a factor that depends on x
            return None
        return mixed(self.weight, *both_offered(field, t, x, condition, mask), inside)

    def extra_repr(self) -> str:
        told = f"weight={self.weight:g}"
        if self.interval != (0.0, 1.0):
            told += f", interval=({self.interval[0]:g}, {self.interval[1]:g})"
        return told + (f", rescale={self.rescale:g}" if self.rescale else "")


def _deviations(wanted: Tensor, found: Tensor) -> Tensor:
    """The deviation over the elements of an event of ``wanted``, divided by that of ``found``, row by row.

    1 where there is nothing to compare: for events of one element, and where all elements are equal.
    """
    over, under = (flatten_event(value).std(1, correction=0) for value in (wanted, found))
    known = (over > 0) & (under > 0)
    ratio = torch.where(known, over, 1.0) / torch.where(known, under, 1.0)
    return ratio.reshape(-1, *[1] * (wanted.ndim - 1))
