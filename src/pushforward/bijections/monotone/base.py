"""What a family of increasing maps is: a map of one number for every vector of parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ..base import REAL_LINE, Domain


class Monotone(ABC):
    """Increasing maps y = f(x; p) of an interval onto an interval, with ``size`` parameters each.

    ``x`` has any shape; ``p``, real numbers without constraint, broadcasts to ``(size, *x.shape)``: the
    parameters come first, so that each lies together in memory for all of x.  All zeros stand for the map
    that a flow starts from, the identity where the family has it.  The logarithm of the slope comes with
    the value, elementwise.  Forward is the cheap direction where they differ.
    """

    #: parameters per element
    size: int
    #: where the maps take their arguments, and where they put their values
    domain: Domain = REAL_LINE
    codomain: Domain = REAL_LINE

    @abstractmethod
    def forward_and_log_slope(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """``f(x; p)`` and ``log df/dx``, both shaped like x."""

    @abstractmethod
    def inverse_and_log_slope(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse and the logarithm of *its* slope, both shaped like y."""


def bounded(raw: Tensor, bound: float) -> Tensor:
    """raw / (1 + |raw| / bound): smooth, within (-bound, bound), of slope 1 at 0."""
    return raw / (1 + raw.abs() / bound)
