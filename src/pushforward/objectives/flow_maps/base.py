"""What the losses of flow maps share: the rows that they see, and forward-mode derivatives of the map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ... import random
from ...tensors import expand_time
from ..base import Step
from .forward_mode import derivative

#: the time at which the distribution function of times has a value
At = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Maps:
    """What a loss may ask, under the conditions of its rows.

    own: v(s, t, x) of the map that is trained.  target: that of the same map, or of its moving average, for
    targets.  velocity: the velocity (t, x) that the map should follow, without gradients: that of a teacher,
    or v(t, t, x) of ``target``.  taught: whether there is a teacher.
    """

    own: Callable[[Tensor, Tensor, Tensor], Tensor]
    target: Callable[[Tensor, Tensor, Tensor], Tensor]
    velocity: Callable[[Tensor, Tensor], Tensor]
    taught: bool = False


@dataclass(frozen=True)
class MapRows:
    """Rows with two times each, as a :class:`MapLoss` sees them.

    maps: what is trained, and what it should follow.
    s, t: ``(B,)``.  x: the points at s.  slope: their velocities, ``(B, *event)``: those of the pairs, whose
    mean given x is the velocity, or those of a teacher.
    pair: the points of the same pairs at other times ``(B,)``, with the same noise.
    uniform: a draw on [0, 1) for each row.  step: the state of training.
    """

    maps: Maps
    s: Tensor
    t: Tensor
    x: Tensor
    slope: Tensor
    pair: Callable[[Tensor], Tensor]
    uniform: Tensor
    step: Step

    @property
    def span(self) -> Tensor:
        """t - s, in a shape that multiplies rows."""
        return expand_time(self.t - self.s, self.x)

    def mean_velocity(self) -> Tensor:
        """v(s, t, x) of the map that is trained."""
        return self.maps.own(self.s, self.t, self.x)

    def ahead(self, r: Tensor) -> Tensor:
        """The rows at the times ``r`` ``(B,)``: those of their pairs, or of a teacher by a step of Heun's
        method along its velocity."""
        if not self.maps.taught:
            return self.pair(r)
        h = expand_time(r - self.s, self.x)
        there = self.maps.velocity(r, self.x + h * self.slope)
        return self.x + h * (self.slope + there) / 2

    def moved(self, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """v(s, t, x), and its derivative while (s, x) moves by (1, tangent); only the first has gradients.

        The derivative is taken in a call of its own without gradients: kept in the graph it would double the
        memory for nothing.
        """
        value = self.mean_velocity()
        with torch.no_grad():
            change = derivative(
                lambda s, x: self.maps.own(s, self.t, x),
                (self.s, self.x),
                (torch.ones_like(self.s), tangent),
            )[1]
        return value, change


class MapLoss(ABC):
    """How a flow map learns to leap: errors of rows with two times s and t.

    diagonal: the share of rows that have s = t and regress the velocity v(t, t, x) itself, where a loss is
    not told another.  derivative: whether it differentiates the network in forward mode.
    all_spans: whether leaps of all lengths are trained equally often; of two draws of times hardly any leaps
    from end to end, which is what one step does.
    two_sided: whether it can train s > t too.  needs_two_sided: whether it has to.  to_data: whether all its
    leaps end at t = 1, so that of the map X_{s,1} alone is known, see
    :class:`~pushforward.flows.ConsistencyFlow`.
    steps: the numbers of equal steps whose leaps it trains; None for any.
    """

    diagonal: float = 0.75
    derivative: ClassVar[bool] = True
    all_spans: ClassVar[bool] = False
    two_sided: ClassVar[bool] = True
    needs_two_sided: ClassVar[bool] = False
    to_data: ClassVar[bool] = False
    steps: tuple[int, ...] | None = None
    #: whether its targets are better built from the moving average of the weights
    averaged: bool = False

    def times(self, a: Tensor, b: Tensor, at: At, step: Step) -> tuple[Tensor, Tensor]:
        """The times s and t of rows, from draws ``a`` and ``b`` of U[0, 1]; ``at`` is the time at a quantile.

        They are two draws in rising order, or, with ``all_spans``, the span in quantiles is uniform on
        [0, 1], and its place on what is left.
        """
        if self.all_spans:
            start = a * (1 - b)
            return at(start), at(start + b)
        return at(torch.minimum(a, b)), at(torch.maximum(a, b))

    @abstractmethod
    def errors(self, rows: MapRows) -> Tensor:
        """Errors ``(B, *event)`` whose squares are minimised."""

    def losses(self, rows: MapRows) -> Tensor:
        """What is minimised, ``(B, *event)`` or ``(B,)``: the squares of :meth:`errors`, or else."""
        return self.errors(rows).square()

    def weight(self, squares: Tensor) -> Tensor | None:
        """Weights of rows by their mean squared errors ``(B,)``; None for equal ones."""
        return None


def uniform(like: Tensor, step: Step) -> Tensor:
    """Draws on [0, 1), one for each row, also where not all are used: those of a row are its own."""
    return random.uniform((len(like),), step.generator, like.dtype, like.device)


def check_between(name: str, value: float, low: float = 0.0, high: float = 1.0) -> float:
    """``value``, or a ValueError unless it is a number in [low, high]."""
    if isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, got {value}")
    return float(value)
