"""A path along any curve, with its velocity by forward-mode differentiation in time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..tensors import expand_time
from .base import End, Path, PathPoint

Curve = Callable[[Tensor, Tensor, Tensor], Tensor]


class MapPath(Path):
    """x_t = curve(t, x0, x1) for any curve that torch can differentiate in t.

    ``curve`` takes t as a scalar, or in a shape that broadcasts against the rows ``(B, *event)``, and
    returns rows; if it is a Module, its parameters belong to the path, and x and velocity can be
    differentiated with respect to them.  ``ends`` states the distributions at t = 0 and 1: by default
    curve(0, x0, x1) = x0 and curve(1, x0, x1) = x1, which :meth:`check` verifies on points.

    >>> arc = MapPath(lambda t, x0, x1: (1 - t**2) * x0 + t**2 * x1)
    >>> point = arc.sample(torch.tensor(0.5), torch.zeros(1, 2), torch.ones(1, 2))
    >>> point.x, point.velocity
    (tensor([[0.2500, 0.2500]]), tensor([[1., 1.]]))
    """

    def __init__(self, curve: Curve, ends: tuple[End, End] | None = None):
        super().__init__()
        self.curve = curve
        self._ends = ends or (End(1.0, 0.0, 0.0), End(0.0, 1.0, 0.0))

    def sample(self, t: Tensor, *points: Tensor, generator: torch.Generator | None = None) -> PathPoint:
        """x_t and its velocity; raises ValueError if the curve returns another shape than the rows'."""
        x0, x1 = points
        time = expand_time(t, x1)
        # indexed, since with an auxiliary value the result would be a triple
        both = torch.func.jvp(lambda s: self.curve(s, x0, x1), (time,), (torch.ones_like(time),))
        x, velocity = both[0], both[1]
        if x.shape != x1.shape:
            raise ValueError(f"curve: expected rows of shape {tuple(x1.shape)}, got {tuple(x.shape)}")
        return PathPoint(t, x, (x0, x1), velocity)

    def ends(self) -> tuple[End, End]:
        return self._ends

    def check(self, x0: Tensor, x1: Tensor) -> None:
        """Raise ValueError if the curve does not start and end as ``ends`` states."""
        for t, end in zip((0.0, 1.0), self._ends):
            reached = self.curve(torch.full((), t, dtype=x1.dtype, device=x1.device), x0, x1)
            stated = end.source_scale * x0 + end.target_scale * x1
            error = float((reached - stated).abs().max().detach())
            # half the digits: enough for a formula in floating point, too few for a wrong one
            if not error <= torch.finfo(x1.dtype).eps ** 0.5 * (1 + float(stated.abs().max())):
                raise ValueError(
                    f"curve: expected {end.source_scale:g} x0 + {end.target_scale:g} x1 at t = {t:g}, "
                    f"got points up to {error:.3g} away"
                )
