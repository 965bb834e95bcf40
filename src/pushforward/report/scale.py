"""In what distances between rows are measured."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..bijections import Bijection
from ..manifolds import Manifold

#: Deviations from the median beyond which values of a table count as if they were there.
OUT = 20.0


class Scale:
    """Puts rows into the units of distances: columns of tables are divided by their deviation.

    train: the training rows ``(n, *event)``, of which deviations are taken.  columns: whether numbers of a
    row are columns, each of a unit of its own; those of images keep theirs.

    >>> Scale(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))(torch.tensor([[1.0, 5.0]]))
    tensor([[0.7071, 5.0000]], dtype=torch.float64)
    """

    def __init__(self, train: Tensor, columns: bool = True):
        self.train, self.columns = train, columns

    @cached_property
    def span(self) -> tuple[Tensor, Tensor]:
        """The least and largest that a value of a column counts as: :data:`OUT` deviations off the median.

        Without that a single row far out would set the deviation of its column.
        """
        low, middle, high = (
            torch.from_numpy(row)
            for row in np.quantile(self.train.double().numpy(), [0.25, 0.5, 0.75], axis=0)
        )
        wide = torch.where(high > low, OUT * (high - low) / 1.349, torch.inf)
        return middle - wide, middle + wide

    @cached_property
    def deviation(self) -> Tensor | None:
        """Deviations of the columns of a table, 1 for constant columns; None for other rows."""
        if self.train.ndim != 2 or not self.columns:
            return None
        x = self.train.double().clamp(*self.span)
        # powers of two round nothing, and squares of what is left do not overflow
        _, power = x.abs().amax(0).frexp()
        found = x.ldexp(-power).std(0).ldexp(power)
        # the rounding of the mean is no deviation
        return torch.where(found > 1e-12 * x.abs().amax(0), found, 1.0)

    def __call__(self, x: Tensor) -> Tensor:
        """Rows in float64, columns of tables in their deviations and values clamped to :attr:`span`."""
        return x.double() if self.deviation is None else x.double().clamp(*self.span) / self.deviation


class Chords:
    """Puts points of a ``manifold`` into coordinates whose distances have no seam: chords on a sphere.

    Lengths of geodesics would not do: on rotations the energy distance by them can be negative.

    train: the training rows ``(n, d)``.  chart: from points to rows.
    """

    def __init__(self, train: Tensor, manifold: Manifold, chart: Bijection):
        self.train, self.manifold, self.chart = train, manifold, chart

    @property
    def span(self) -> tuple[Tensor, Tensor]:
        """No bounds: no row is far out."""
        low = torch.full(self.train.shape[1:], -torch.inf, dtype=torch.float64)
        return low, -low

    def __call__(self, x: Tensor) -> Tensor:
        """Rows in float64, in embedded coordinates."""
        return self.manifold.embed(self.chart.inverse(x.double())).flatten(1)
