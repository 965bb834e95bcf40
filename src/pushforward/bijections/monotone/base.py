"""The abstract family of increasing maps: a map of one number for every vector of parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ..base import REAL_LINE, Domain


class Monotone(ABC):
    """Increasing maps y = f(x; p) of an interval onto an interval, with ``size`` parameters each.

    ``x`` has any shape; ``p``, real numbers without constraint, broadcasts to ``(size, *x.shape)``.  All
    zeros stand for the map that a flow starts from, the identity where the family has it.  The logarithm of
    the slope comes with the value, elementwise.  Forward is the cheap direction where they differ.
    """

    #: parameters per element
    size: int
    #: where the maps take their arguments, and where they put their values
    domain: Domain = REAL_LINE
    codomain: Domain = REAL_LINE

    #: activation that suits networks which give the parameters: kinks, where they do not become slopes
    activation: str = "relu"

    @property
    def rows_last(self) -> bool:
        """Whether x is best handed over with its rows last in memory, each parameter lying together.

        What is done with many parameters then runs along whole batches; for a few it is not worth it.
        """
        return self.size > 2

    @abstractmethod
    def forward_and_log_slope(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """``f(x; p)`` and ``log df/dx``, both shaped like x."""

    @abstractmethod
    def inverse_and_log_slope(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse and the logarithm of *its* slope, both shaped like y."""
