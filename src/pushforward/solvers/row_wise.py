"""Velocities that may be called with some of their rows alone, and what is left of a batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..tensors import Condition, map_condition
from .problems import Velocity

#: A batch is cut to the rows that are left when these are no more than this part of it, and it has not fewer.
SHARE, FEWEST = 0.8, 32


class RowWise:
    """A velocity of independent rows, which adaptive solvers call with the rows that have not arrived.

    Without it they call a velocity with all rows until the last one has arrived, because a function may
    hold what belongs to its rows.  This one says that it does not, save for the ``condition``, whose rows
    go with those of the state.  Where rows need different numbers of steps, that saves half of the
    work and more.  The rows of a matrix product depend on their number in the last bit, and so does the
    solution.

    velocity: ``(t, x) -> dx/dt``, or ``(t, x, condition) -> dx/dt`` with a condition.
    condition: tensors with a row for each of the state or one for all, or None.

    >>> import torch
    >>> from pushforward.solvers import Dopri5
    >>> rates = torch.tensor([[1.0], [100.0]])
    >>> decay = RowWise(lambda t, x, rate: -rate * x, rates)
    >>> Dopri5().solve(decay, torch.ones(2, 1), 0.0, 1.0).nfe
    tensor([ 32, 278])
    """

    def __init__(self, velocity: Any, condition: Condition | None = None):
        self.velocity, self.condition = velocity, condition

    def __call__(self, t: Tensor, x: Any) -> Any:
        return self.velocity(t, x) if self.condition is None else self.velocity(t, x, self.condition)

    def some(self, rows: Tensor) -> RowWise:
        """The velocity of the rows with these numbers."""
        some = map_condition(lambda c: c if len(c) == 1 else c[rows], self.condition)
        return RowWise(self.velocity, some)


class Remaining:
    """The rows of a batch that have not arrived.  They are all rows where the velocity has no ``some``."""

    def __init__(self, velocity: Velocity, free: bool):
        self.some = getattr(velocity, "some", None) if free else None
        self.index: Tensor | None = None
        self.whole: tuple[Tensor, ...] = ()

    def fewer(self, count: int, size: int) -> bool:
        """Whether ``count`` rows of ``size`` are better taken alone."""
        return self.some is not None and size >= FEWEST and count <= SHARE * size

    def keep(self, rows: Tensor, *values: Tensor) -> tuple[Velocity, tuple[Tensor, ...]]:
        """Go on with some of the rows: their velocity, and what each of the ``values`` is for them."""
        assert self.some is not None
        self.whole = self.all(*values)
        self.index = rows if self.index is None else self.index[rows]
        return self.some(self.index), tuple(value[rows] for value in values)

    def all(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The values of all rows, those that have left as they were then."""
        if self.index is None:
            return values
        index = self.index
        return tuple(whole.index_copy(0, index, value) for whole, value in zip(self.whole, values))
