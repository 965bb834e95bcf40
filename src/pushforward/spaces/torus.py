"""Angles, in radians or degrees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from ..bijections import Bijection
from ..manifolds import Manifold, Torus
from ..tensors import Condition
from .base import Space
from .sphere import turned


class Turns(Bijection):
    """Angles in [0, 2 pi) to numbers of which ``period`` is a whole turn, in [low, low + period).

    Inwards any number is taken.  Densities are per unit of the numbers.

    >>> import torch
    >>> Turns(360.0, -180.0).inverse(torch.tensor([[-90.0, 450.0]])).round(decimals=4)
    tensor([[4.7124, 1.5708]])
    """

    def __init__(self, period: float = 2 * math.pi, low: float = 0.0):
        super().__init__()
        self.period, self.low = period, low

    @property
    def box(self) -> list[tuple[float, float]]:
        """The range of both columns of a pair."""
        return [(self.low, self.low + self.period)] * 2

    def _log_det(self, x: Tensor) -> Tensor:
        return x.new_full((len(x),), x.shape[1] * math.log(self.period / (2 * math.pi)))

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: object = None
    ) -> tuple[Tensor, Tensor]:
        return turned(x * (self.period / (2 * math.pi)), self.low, self.period), self._log_det(x)

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: object = None
    ) -> tuple[Tensor, Tensor]:
        # whole turns are taken off in the unit of the numbers, in which they are exact
        return turned(y, 0.0, self.period) * (2 * math.pi / self.period), -self._log_det(y)


class TorusSpace(Space):
    """The torus: every column is an angle, of ``unit`` radians or degrees.

    Whole turns do not matter.  Samples are from half a turn below 0 to half above it where data are below 0,
    else from 0 to a whole turn.  Densities are per radian, or degree, of every column.
    """

    per = "unit of every angle"

    def __init__(self, unit: Literal["radians", "degrees"] = "radians"):
        self.period = 360.0 if unit == "degrees" else 2 * math.pi

    def manifold(self, columns: int) -> Manifold:
        return Torus(columns)

    def chart(self, x: Tensor, names: Sequence[str]) -> Bijection:
        return Turns(self.period, -self.period / 2 if bool((x < 0).any()) else 0.0)
