"""The semigroup loss of flow maps: one leap is two leaps of its parts."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from ...tensors import expand_time
from .base import MapLoss, MapRows, check_between

Between = Literal["midpoint", "uniform"]


class Semigroup(MapLoss):
    r"""X_{s,t} is X_{u,t} after X_{s,u}:

    .. math:: \operatorname{E} |v(s, t, x) - \operatorname{sg}[\tfrac{u - s}{t - s} v(s, u, x)
        + \tfrac{t - u}{t - s} v(u, t, X_{s,u}(x))]|^2

    Progressive self-distillation (Boffi et al. 2025, arXiv 2505.18825).  No derivative of the network is
    taken; what is known of short spans spreads to longer ones.

    diagonal: the share of rows that regress the velocity itself.  between: u is the "midpoint", or "uniform"
    between s and t.

    Raises ValueError for a share outside [0, 1] and another ``between``.

    >>> Semigroup(between="uniform").derivative
    False
    """

    derivative, all_spans = False, True

    def __init__(self, diagonal: float = 0.75, between: Between = "midpoint"):
        self.diagonal = check_between("diagonal", diagonal)
        if between not in get_args(Between):
            raise ValueError(f"between: expected {' or '.join(get_args(Between))}, got {between!r}")
        self.between: Between = between

    def errors(self, rows: MapRows) -> Tensor:
        share: Tensor | float = 0.5
        if self.between == "uniform":
            share = rows.uniform
        u = rows.s + share * (rows.t - rows.s)
        with torch.no_grad():
            first = rows.maps.target(rows.s, u, rows.x)
            there = rows.x + expand_time(u - rows.s, rows.x) * first
            second = rows.maps.target(u, rows.t, there)
            part = expand_time(share, rows.x) if isinstance(share, Tensor) else share
            target = part * first + (1 - part) * second
        return rows.mean_velocity() - target
