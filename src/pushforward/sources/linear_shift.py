"""A distribution whose mean is linear in the condition."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from .. import random
from ..tensors import Condition, flatten_event
from .base import Source


def features(condition: Condition, classes: Sequence[int]) -> Tensor:
    """Conditions as numbers ``(B, k)`` in float64: labels one-hot, others as they are; absent ones are NaN.

    classes: for each entry of ``condition`` its number of labels, 0 for numbers.  Raises ValueError for
    entries that do not fit.
    """
    parts = _entries(condition)
    if len(parts) != len(classes):
        raise ValueError(f"condition: expected {len(classes)} entries, got {len(parts)}")
    columns = []
    for part, count in zip(parts, classes):
        if not isinstance(part, Tensor) or part.is_floating_point() != (count == 0):
            raise ValueError("condition: expected labels as integers and numbers as floats")
        if count == 0:
            columns.append(flatten_event(part.double()))
            continue
        if len(part) and int(part.max()) >= count:
            raise ValueError(f"condition: expected labels below {count}, got {int(part.max())}")
        hot = one_hot(part.long().clamp(min=0), count).double()
        columns.append(torch.where((part < 0)[:, None], torch.nan, hot))
    return torch.cat(columns, 1)


def _entries(condition: Condition) -> list[Tensor]:
    """The entries of a condition in the order of their names."""
    if isinstance(condition, Mapping):
        return [condition[name] for name in sorted(condition)]
    return [condition]


def count_classes(condition: Condition) -> tuple[int, ...]:
    """What :func:`features` takes as ``classes``, from the labels that occur."""
    parts = _entries(condition)
    for part in parts:
        if not isinstance(part, Tensor):
            raise ValueError(f"condition: expected tensors, got {type(part).__name__}")
    return tuple(0 if part.is_floating_point() else int(part.max()) + 1 for part in parts)


class LinearShift(Source):
    """x = B f(c) + e with e drawn from ``noise`` and f(c) the condition as numbers, see :func:`features`.

    slope: B, ``(d, k)``.  classes: for each entry of the condition its number of labels, 0 for numbers.
    known: f(c) of some rows, ``(m, k)``; where the condition is absent one of these is drawn, and the density
    is the mean over them.  Raises ValueError where a condition is absent and none is known.

    >>> from pushforward.sources import Normal
    >>> LinearShift(Normal(1), torch.ones(1, 1)).log_prob(torch.tensor([[2.0]]), torch.tensor([2.0]))
    tensor([-0.9189])
    """

    slope: Tensor
    known: Tensor

    def __init__(
        self, noise: Source, slope: Tensor, classes: Sequence[int] = (0,), known: Tensor | None = None
    ):
        super().__init__()
        self.event_shape, self.noise, self.classes = noise.event_shape, noise, tuple(classes)
        self.register_buffer("slope", slope)
        self.register_buffer("known", slope.new_empty(0, slope.shape[1]) if known is None else known)

    def convolved(self, scale: float, noise: float) -> Self:
        return type(self)(self.noise.convolved(scale, noise), scale * self.slope, self.classes, self.known)

    def affine(self, matrix: Tensor, offset: Tensor) -> Self:
        return type(self)(self.noise.affine(matrix, offset), matrix @ self.slope, self.classes, self.known)

    def _known(self) -> Tensor:
        if len(self.known) == 0:
            raise ValueError("condition: expected one, this source is known under conditions alone")
        return self.known

    def _shift(self, numbers: Tensor, like: Tensor) -> Tensor:
        return (numbers.to(self.slope) @ self.slope.T).reshape(len(numbers), *self.event_shape).to(like)

    def _numbers(self, condition: Condition | None, rows: int) -> Tensor:
        """f(c) ``(rows, k)``, NaN where absent."""
        if condition is None:
            return self.slope.new_full((rows, self.slope.shape[1]), torch.nan)
        found = features(condition, self.classes)
        if found.shape != (rows, self.slope.shape[1]):
            raise ValueError(
                f"condition: expected {rows} rows of {self.slope.shape[1]} numbers, got {tuple(found.shape)}"
            )
        return found.to(self.slope)

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        numbers = self._numbers(condition, n)
        absent = numbers.isnan().any(1)
        if bool(absent.any()):
            known = self._known()
            u = random.uniform((n,), generator, torch.float64, known.device)
            numbers = torch.where(absent[:, None], known[(u * len(known)).long()].to(numbers), numbers)
        x = self.noise.sample(n, None, generator)
        return x + self._shift(numbers, x)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        numbers = self._numbers(condition, len(x))
        absent = numbers.isnan().any(1)
        out = self.noise.log_prob(x - self._shift(torch.where(absent[:, None], 0.0, numbers), x))
        if bool(absent.any()):
            each = [self.noise.log_prob(x - self._shift(row[None], x)) for row in self._known()]
            out = torch.where(absent, torch.stack(each).logsumexp(0) - math.log(len(each)), out)
        return out
