"""The Eulerian loss of flow maps: a leap lands at the same point wherever on its trajectory it begins."""

from __future__ import annotations

from torch import Tensor

from .base import MapLoss, MapRows, check_between


class Eulerian(MapLoss):
    r"""X_{s,t}(x) stays the same while (s, x) moves with the velocity b = v(s, s, x):

    .. math:: \operatorname{E} |v(s, t, x) - \operatorname{sg}[b + (t - s) (\partial_s + b \cdot \nabla)
        v(s, t, x)]|^2

    which is |d/ds X_{s,t}|^2 with a target (sg) that is held constant.  Without a teacher this is the
    Eulerian self-distillation of Boffi et al. 2025, arXiv 2505.18825, which its authors report as unstable;
    with one the Eulerian map distillation of Boffi et al. 2024, arXiv 2406.07507.

    diagonal: the share of rows that regress the velocity itself.

    Raises ValueError for a share outside [0, 1].

    >>> Eulerian().derivative
    True
    """

    def __init__(self, diagonal: float = 0.75):
        self.diagonal = check_between("diagonal", diagonal)

    def errors(self, rows: MapRows) -> Tensor:
        b = rows.maps.velocity(rows.s, rows.x)
        value, change = rows.moved(b)
        return value - (b + rows.span * change)
