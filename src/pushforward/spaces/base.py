"""The abstract space: what the columns of a table are, as points of a manifold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from ..bijections import Bijection
from ..manifolds import Manifold, manifold_of
from ..tensors import Condition, event_size


class Space(ABC):
    """How columns of numbers stand for points of a manifold.

    per: what densities are per, in the words of reports.
    """

    per: ClassVar[str] = "unit of volume"

    @abstractmethod
    def manifold(self, columns: int) -> Manifold:
        """The manifold of tables of so many columns.

        Raises ValueError for a number that does not go with it.
        """

    def chart(self, x: Tensor, names: Sequence[str]) -> Bijection:
        """From points of the manifold to rows of columns ``names``, given the training rows ``x`` ``(B, d)``.

        Densities are per volume of the manifold.  Its inverse raises ValueError for rows that are no points.
        """
        return Points(self.manifold(x.shape[1]))


class Points(Bijection):
    """The points of ``manifold`` themselves, row by row in columns; what is off it is refused.

    >>> import torch
    >>> from pushforward.manifolds import Sphere
    >>> Points(Sphere(2)).inverse(torch.tensor([[0.0, 0.0, 2.0]]))
    Traceback (most recent call last):
    ValueError: rows: expected points on Sphere(2), got 1 of 1 rows off it, by up to 1; the first is row 1
    """

    def __init__(self, manifold: Manifold | str):
        super().__init__()
        self.space = manifold_of(manifold) if isinstance(manifold, str) else manifold
        self.manifold = repr(self.space)

    def event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (event_size(shape),)

    def inverse_event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.space.event_shape

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: object = None
    ) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x.new_zeros(len(x))

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: object = None
    ) -> tuple[Tensor, Tensor]:
        points = self.space.check(y.reshape(-1, *self.space.event_shape), "rows")
        # what files round is put back onto it
        return self.space.project(points), y.new_zeros(len(y))
