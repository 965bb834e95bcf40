"""Batches without data, which have only a number of rows."""

from __future__ import annotations

import torch

from ..nn.checks import check_count
from ..objectives import Batch
from ..rows import Rows
from .batches import Batches


class NoData(Batches):
    """``size`` rows per step without points, for objectives that draw their own points.

    :class:`~pushforward.objectives.ReverseKL` is one.  Raises ValueError for a size below 1.

    >>> len(NoData(8)(0))
    8
    """

    def __init__(self, size: int):
        check_count("size", size)
        self.size = size

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The rows of process ``rank`` of ``world``."""
        start, stop = self.rows(rank, world)
        return Batch((Rows(torch.empty(stop - start, 0)),), None, self.size / world)
