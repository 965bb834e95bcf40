"""alpha-Flow: from regression on trajectories to MeanFlow, by a step that shrinks as training goes on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...tensors import expand_time
from .base import MapLoss, MapRows, check_between

#: Steepness of the descent of alpha, and what of it is cut off at both ends (arXiv 2510.20771, section 4).
STEEPNESS, CUT = 25.0, 5e-3


class AlphaFlow(MapLoss):
    r"""A leap is a first step along the velocity of the pair, and the leap from there:

    .. math:: \operatorname{E} \alpha^{-1} |v(s, t, x) - \operatorname{sg}[\alpha \dot x + (1 - \alpha)
        v(u, t, x + (u - s) \dot x)]|^2, \qquad u = s + \alpha (t - s)

    alpha = 1 regresses straight lines, alpha = 1/2 is a shortcut, and for alpha to 0 the gradient is that of
    MeanFlow.  No derivative of the network is taken.  alpha falls from 1 to ``least`` along a sigmoid of the
    progress of training (Zhang et al. 2025, arXiv 2510.20771).

    diagonal: the share of rows with s = t.  least: the last alpha.  middle: the progress, in [0, 1], at which
    alpha is halfway.

    Raises ValueError for a number outside [0, 1], and a ``least`` of 0, at which there is no step.

    >>> AlphaFlow().alpha(0, 100), round(AlphaFlow(least=0.1).alpha(100, 100), 2)
    (1.0, 0.1)
    """

    derivative = False

    def __init__(self, diagonal: float = 0.5, least: float = 0.05, middle: float = 0.5):
        self.diagonal = check_between("diagonal", diagonal)
        self.least, self.middle = check_between("least", least), check_between("middle", middle)
        if self.least == 0:
            raise ValueError(
                "least: expected a number above 0, at which alpha-Flow takes no step; MeanFlow does"
            )

    def alpha(self, index: int, total: int) -> float:
        """alpha after ``index`` of ``total`` steps."""
        fallen = 1 / (1 + math.exp(STEEPNESS * (self.middle - index / max(1, total))))
        fallen = 0.0 if fallen < CUT else 1.0 if fallen > 1 - CUT else fallen
        return 1 - (1 - self.least) * fallen

    def errors(self, rows: MapRows) -> Tensor:
        alpha = self.alpha(rows.step.index, rows.step.total)
        u = rows.s + alpha * (rows.t - rows.s)
        target = rows.slope
        if alpha < 1:
            with torch.no_grad():
                there = rows.x + expand_time(u - rows.s, rows.x) * rows.slope
                target = alpha * target + (1 - alpha) * rows.maps.target(u, rows.t, there)
        return (rows.mean_velocity() - target) * alpha**-0.5
