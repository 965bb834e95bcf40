"""MeanFlow and improved MeanFlow: regression on the velocities of pairs, corrected to mean velocities."""

from __future__ import annotations

from torch import Tensor

from .base import MapLoss, MapRows, check_between

#: What is added to squared errors before the power of the adaptive weight.
ADDED = 1e-3


class MeanFlow(MapLoss):
    r"""The mean velocity by the MeanFlow identity along the velocity of the pair (dx/ds):

    .. math:: \operatorname{E} w \, |v(s, t, x) - \operatorname{sg}[\dot x + (t - s)
        (\partial_s + \dot x \cdot \nabla) v(s, t, x)]|^2, \qquad
        w = \operatorname{sg}[(|r|^2 + 10^{-3})^{-p}]

    The velocity of the pair enters linearly, so that the mean of the target is right although it is not the
    velocity; it adds variance (Geng et al. 2025, arXiv 2505.13447, with noise at time 1: u(z, r, t) there is
    -v(1 - t, 1 - r, z) here).

    diagonal: the share of rows with s = t, there 1 minus the ratio.  power: p of the adaptive weight, r the
    error of a row; 0 for equal weights.

    Raises ValueError for a share or a power outside [0, 1].

    >>> MeanFlow(power=0.75).power
    0.75
    """

    def __init__(self, diagonal: float = 0.75, power: float = 0.0):
        self.diagonal = check_between("diagonal", diagonal)
        self.power = check_between("power", power)

    def errors(self, rows: MapRows) -> Tensor:
        value, change = rows.moved(rows.slope)
        return value - (rows.slope + rows.span * change)

    def weight(self, squares: Tensor) -> Tensor | None:
        return (squares + ADDED) ** -self.power if self.power else None
