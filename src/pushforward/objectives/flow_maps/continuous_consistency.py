"""Consistency in continuous time: leaps to the data, corrected along the trajectory."""

from __future__ import annotations

import torch
from torch import Tensor

from ...tensors import expand_time, sum_event
from ..base import Step
from .base import At, MapLoss, MapRows, check_between

#: What is added to the norm of a tangent before it is divided by that (arXiv 2410.11081, section 4.1).
ADDED = 0.1


class ContinuousConsistency(MapLoss):
    r"""X_{s,1}(x) stays the same along a trajectory, by steps of bounded length against its change:

    .. math:: \operatorname{E} |v(s, 1, x) - \operatorname{sg}[v(s, 1, x) + g / (|g| + 0.1)]|^2, \qquad
        g = \dot x - v(s, 1, x) + r (1 - s) (\partial_s + \dot x \cdot \nabla) v(s, 1, x)

    where g is the derivative of X_{s,1}(x) along (1, dx/ds) and r rises from 0 to 1 in the first share of
    training.  This is the Eulerian loss with all leaps to t = 1, with the tangent normalised (sCM, Lu & Song
    2025, arXiv 2410.11081, with the linear path in place of its trigonometric one).  A bounded g has the mean
    0 only where g is symmetric around 0, so that from data the map comes near to the exact one; from a
    teacher, whose g has no noise, it may be the exact one.

    warmup: that share of training.

    Raises ValueError for a share outside [0, 1].

    >>> ContinuousConsistency(warmup=0.2).rise(10, 100)
    0.5
    """

    diagonal = 0.0
    two_sided = False
    to_data = True

    def __init__(self, warmup: float = 0.1):
        self.warmup = check_between("warmup", warmup)

    def rise(self, index: int, total: int) -> float:
        """r after ``index`` of ``total`` steps."""
        return min(1.0, index / (self.warmup * total)) if self.warmup > 0 else 1.0

    def times(self, a: Tensor, b: Tensor, at: At, step: Step) -> tuple[Tensor, Tensor]:
        return at(a), torch.ones_like(a)

    def errors(self, rows: MapRows) -> Tensor:
        value, change = rows.moved(rows.slope)
        held = value.detach()
        tangent = rows.slope - held + self.rise(rows.step.index, rows.step.total) * rows.span * change
        length = expand_time(sum_event(tangent.square()).sqrt(), tangent)
        return value - (held + tangent / (length + ADDED))
