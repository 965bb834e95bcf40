"""The Lagrangian loss of flow maps: leaps move with the velocity where they land."""

from __future__ import annotations

import torch
from torch import Tensor

from ...tensors import expand_time
from .base import MapLoss, MapRows, check_between
from .forward_mode import derivative


class Lagrangian(MapLoss):
    r"""d/dt X_{s,t}(x) is the velocity at X_{s,t}(x):

    .. math:: \operatorname{E} |\partial_t X_{s,t}(x) - v(t, t, X_{s,t}(x))|^2

    The derivative is in t alone, one scalar, so that no gradient passes through a derivative in space.
    Without a teacher this is the Lagrangian self-distillation of Boffi et al. 2025, arXiv 2505.18825, with
    one the Lagrangian map distillation of Boffi et al. 2024, arXiv 2406.07507.

    diagonal: the share of rows that regress the velocity itself.

    Raises ValueError for a share outside [0, 1].

    >>> Lagrangian(diagonal=0.5).diagonal
    0.5
    """

    all_spans = True

    def __init__(self, diagonal: float = 0.75):
        self.diagonal = check_between("diagonal", diagonal)

    def errors(self, rows: MapRows) -> Tensor:
        landed, change = derivative(
            lambda t: rows.x + expand_time(t - rows.s, rows.x) * rows.maps.own(rows.s, t, rows.x),
            (rows.t,),
            (torch.ones_like(rows.t),),
        )
        return change - rows.maps.velocity(rows.t, landed.detach())
