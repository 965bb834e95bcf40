"""The direct loss of flow maps: there and back, with the velocity of the pair on arrival."""

from __future__ import annotations

import torch
from torch import Tensor

from ...tensors import expand_time
from .base import MapLoss, MapRows, check_between
from .forward_mode import derivative


class TwoSided(MapLoss):
    r"""A leap away and back arrives where it began, with the velocity that is there:

    .. math:: \operatorname{E} |\partial_s X_{t,s}(y) - \dot x|^2 + |X_{t,s}(y) - x|^2, \qquad y = X_{s,t}(x)

    for x at s, and any t.  Nothing is held constant: of a map that is the inverse of itself backwards the
    first part is a regression on the velocities of pairs, whatever the leap (Boffi et al. 2024, arXiv
    2406.07507, eq. 3.4, for a map that runs both ways).

    diagonal: the share of rows with s = t, which regress the velocity alone.

    Raises ValueError for a share outside [0, 1].

    >>> TwoSided().needs_two_sided
    True
    """

    needs_two_sided = True

    def __init__(self, diagonal: float = 0.5):
        self.diagonal = check_between("diagonal", diagonal)

    def errors(self, rows: MapRows) -> Tensor:
        """The errors of velocities alone, those of places are in :meth:`losses`."""
        return self._both(rows)[0]

    def losses(self, rows: MapRows) -> Tensor:
        velocities, places = self._both(rows)
        return velocities.square() + places.square()

    def _both(self, rows: MapRows) -> tuple[Tensor, Tensor]:
        away = rows.x + rows.span * rows.mean_velocity()
        place, velocity = derivative(
            lambda s: away + expand_time(s - rows.t, away) * rows.maps.own(rows.t, s, away),
            (rows.s,),
            (torch.ones_like(rows.s),),
        )
        return velocity - rows.slope, place - rows.x
