"""Velocities of states that carry integrals along their path, such as a log-determinant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

#: Slopes ``(t, state) -> tuple`` of all entries of a state, or of the first ones.
Slopes = Callable[[Tensor, Any], tuple[Tensor, ...]]


class WithIntegrals:
    """dx/dt = f(t, x) and dy/dt = g(t, x): the velocity of a state (x, y) with an integral along the path.

    A method whose step leaves out one of its stages, b_i = 0, needs no g there.  Solvers then evaluate f
    alone, with the same result: at one of two stages of Midpoint, one of six of Dopri5, four of thirteen
    of Dopri8.

    whole: ``(t, (x, y)) -> (f, g)``; x and y may be several tensors each.
    leading: ``(t, (x, y)) -> (f,)``.

    >>> import torch
    >>> from pushforward.solvers import Midpoint
    >>> area = WithIntegrals(lambda t, state: (-state[0], state[0][:, 0]), lambda t, state: (-state[0],))
    >>> Midpoint(steps=10).solve(area, (torch.ones(1, 1), torch.zeros(1)), 0.0, 1.0).x
    (tensor([[0.3685]]), tensor([0.6315]))
    """

    def __init__(self, whole: Slopes, leading: Slopes):
        self.whole, self.leading = whole, leading

    def __call__(self, t: Tensor, state: Any) -> tuple[Tensor, ...]:
        return self.whole(t, state)
