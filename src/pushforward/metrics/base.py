"""The abstract metric: one number that compares a sample with rows of the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor

#: Which values are better; ``real``: those of real rows.
Better = Literal["low", "high", "real"]
#: The unit of a metric that is a distance: the report puts that of the rows in its place.
DISTANCE = "distance"


class Metric(ABC):
    """Compares a sample with held-out rows; a report has a line for every metric of the registry.

    label: its name in a table.  short: its name in a sentence of the headline; the headline leaves metrics
    without one out.  unit: :data:`DISTANCE`, ``share`` for shares that are shown in per cent, or any text.
    better: which values are better.  costly: whether fewer repetitions have to do.

    A metric is a function of its arguments alone: it changes neither these nor any global state, and gives a
    finite number.  It raises ValueError for an empty sample and for events that differ.

    >>> class MeanGap(Metric):
    ...     label, short, unit = "Distance of the means", "distance of the means", DISTANCE
    ...     def measure(self, x: Tensor, y: Tensor, seed: int = 0) -> float:
    ...         return float((x.mean(0) - y.mean(0)).norm())
    >>> import torch
    >>> MeanGap().measure(torch.zeros(4, 2), torch.ones(3, 2) * torch.tensor([3.0, 4.0]))
    5.0
    """

    label: str
    short: str = ""
    unit: str = ""
    better: Better = "low"
    costly: bool = False

    @abstractmethod
    def measure(self, x: Tensor, y: Tensor, seed: int = 0) -> float:
        """Number of a sample ``x`` ``(n, *event)`` and rows ``y`` ``(m, *event)``; draws use ``seed``."""
