"""Improved MeanFlow: the tangent is the map's own velocity."""

from __future__ import annotations

from torch import Tensor

from .base import MapLoss, MapRows, check_between


class ImprovedMeanFlow(MapLoss):
    r"""Regression on the velocity of the pair by the map's own estimate of the velocity (iMF):

    .. math:: \operatorname{E} |V - \dot x|^2, \qquad V = v(s, t, x) - (t - s) \operatorname{sg}[(\partial_s
        + v(s, s, x) \cdot \nabla) v(s, t, x)]

    :class:`MeanFlow` differentiates along the velocity of the pair, whose noise the derivative magnifies;
    here the direction is v(s, s, x), and the target does not depend on the network (Geng et al. 2025,
    arXiv 2512.02012).

    diagonal: the share of rows with s = t.

    Raises ValueError for a share outside [0, 1].

    >>> ImprovedMeanFlow().diagonal
    0.5
    """

    def __init__(self, diagonal: float = 0.5):
        self.diagonal = check_between("diagonal", diagonal)

    def errors(self, rows: MapRows) -> Tensor:
        value, change = rows.moved(rows.maps.velocity(rows.s, rows.x))
        return value - (rows.slope + rows.span * change)
