"""Rows of one side, points with their conditions, masks and weights, and batches of paired rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from .random import uniform
from .tensors import Condition, join_conditions, map_condition, to_tensor, valid_elements

__all__ = ["Batch", "Rows", "as_rows", "both_sides", "join_rows", "masses_of", "row_mean", "weight_of"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Rows:
    """Rows of one marginal: points ``(B, *event)`` with conditions, masks and weights.

    ``condition`` stays with its row when rows are paired; ``mask`` ``(B, ...)`` is True on valid elements of
    ``x``; ``weight`` ``(B,)`` is a non-negative mass per row.  Arrays become tensors.  Raises ValueError for
    a condition or mask of another length than ``x``.
    """

    x: Tensor
    condition: Condition | None = None
    mask: Tensor | None = None
    weight: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("x", "mask", "weight"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, to_tensor(value, name))
        if self.condition is not None and not isinstance(self.condition, Tensor | Mapping):
            object.__setattr__(self, "condition", to_tensor(self.condition, "condition"))
        if self.x.ndim == 0:
            raise ValueError("x: expected rows (B, *event), got a single number")
        named = self.condition if isinstance(self.condition, Mapping) else {"condition": self.condition}
        for name, part in {**named, "mask": self.mask}.items():
            if part is not None and part.shape[:1] != self.x.shape[:1]:
                raise ValueError(f"{name}: expected {len(self)} rows as x has, got shape {tuple(part.shape)}")

    def __len__(self) -> int:
        return self.x.shape[0]

    def take(self, index: Tensor) -> Rows:
        """The rows at ``index``, gathered once."""
        return _at(self, index, None if self.weight is None else self.weight[index])

    def thinned(self, generator: torch.Generator | None = None) -> Rows:
        """Rows drawn from the weighted distribution: each is kept with probability weight / largest weight.

        Without weights all stay.
        """
        if self.weight is None:
            return self
        chance = self.weight / self.weight.max()
        drawn = uniform((len(self),), generator, chance.dtype, chance.device) < chance
        kept = self.take(drawn.nonzero()[:, 0])
        return Rows(kept.x, kept.condition, kept.mask)

    def to(self, device: torch.device | str) -> Rows:
        """The same rows on ``device``."""
        return Rows(
            self.x.to(device),
            map_condition(lambda c: c.to(device), self.condition),
            None if self.mask is None else self.mask.to(device),
            None if self.weight is None else self.weight.to(device),
        )


def _made(cls: type[_T], **fields: Any) -> _T:
    """One of ``cls`` whose fields are parts of what was checked before."""
    made = object.__new__(cls)
    vars(made).update(fields)
    return made


def _at(rows: Rows, place: int | Tensor | slice, weight: Tensor | None) -> Rows:
    """Rows at ``place`` with other weights."""
    condition, mask = rows.condition, rows.mask
    if condition is not None:
        condition = map_condition(lambda c: c[place], condition)
    return _made(
        Rows, x=rows.x[place], condition=condition, mask=None if mask is None else mask[place], weight=weight
    )


@dataclass(frozen=True)
class Batch:
    """Paired rows: row i of every marginal belongs together.

    marginals: the source's rows, then the target's (more for several snapshots); plain tensors and
        arrays will do.
    weight: ``(B,)``, the weight of each pair, None for equal ones.
    normaliser: what the weighted sum of losses is divided by; None for the sum of the weights here.  On
        several processes it is the global sum of weights divided by their number.

    Raises ValueError for marginals of different lengths and a weight of another.
    """

    marginals: tuple[Rows, ...]
    weight: Tensor | None = None
    normaliser: Tensor | float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.marginals, Rows | Tensor) or len(self.marginals) == 0:
            raise ValueError(f"marginals: expected a tuple of rows, got a {type(self.marginals).__name__}")
        rows = tuple(
            part if isinstance(part, Rows) else Rows(to_tensor(part, f"marginals[{k}]"))
            for k, part in enumerate(self.marginals)
        )
        counts = [len(part) for part in rows]
        if len(set(counts)) > 1:
            raise ValueError(f"marginals: expected as many rows each, got {counts}")
        if self.weight is not None and self.weight.shape != (counts[0],):
            raise ValueError(f"weight: expected shape ({counts[0]},), got {tuple(self.weight.shape)}")
        object.__setattr__(self, "marginals", rows)

    @property
    def source(self) -> Rows:
        return self.marginals[0]

    @property
    def target(self) -> Rows:
        return self.marginals[-1]

    def __len__(self) -> int:
        return len(self.marginals[0])

    @property
    def mass(self) -> float:
        """The sum of the weights here."""
        return float(len(self)) if self.weight is None else float(self.weight.sum())

    def mean(self, per_sample: Tensor) -> Tensor:
        """sum_i w_i l_i over the global sum of w_i, for losses ``(B,)``."""
        if self.weight is not None:
            total = self.weight.sum() if self.normaliser is None else self.normaliser
            return (self.weight * per_sample).sum() / total
        return per_sample.mean() if self.normaliser is None else per_sample.sum() / self.normaliser

    @classmethod
    def at(cls, place: int, stacked: tuple[Rows, ...], normaliser: Tensor | float) -> Batch:
        """The batch at ``place`` of rows with a dimension of batches first, weighted as the target is."""
        weight = stacked[-1].weight
        return _made(
            cls,
            marginals=tuple(_at(rows, place, None) for rows in stacked),
            weight=None if weight is None else weight[place],
            normaliser=normaliser,
        )

    @classmethod
    def gathered(
        cls, x0: Tensor, target: Rows, at: Tensor | slice, weight: Tensor | None, normaliser: Tensor | float
    ) -> Batch:
        """Source points and the rows of ``target`` that go with them, weighted as pairs."""
        source = _made(Rows, x=x0, condition=None, mask=None, weight=None)
        return _made(cls, marginals=(source, _at(target, at, None)), weight=weight, normaliser=normaliser)

    def reduce(self, error: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to minimise and the detached errors of a :class:`Loss`, from errors ``(B, *event)``."""
        if self.weight is None and self.target.mask is None:
            # the mean of row means is the mean: one operation to differentiate instead of four
            share = 1.0 if self.normaliser is None else len(self) / self.normaliser
            value = error.mean()
            return value if share == 1.0 else value * share, error.detach()
        per_sample = row_mean(error, self.target.mask)
        return self.mean(per_sample), per_sample.detach()


def as_rows(x: Tensor | Rows) -> Rows:
    """``x`` as rows; a plain tensor or array may be given wherever rows are expected."""
    return x if isinstance(x, Rows) else Rows(x)


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Points and conditions of all ``parts``, one after the other."""
    x = parts[0].x if len(parts) == 1 else torch.cat([part.x for part in parts])
    return Rows(x, join_conditions(*(part.condition for part in parts)))


def both_sides(source: Tensor | Rows, target: Tensor | Rows) -> tuple[Rows, Rows]:
    """The rows of both sides, with the checks that all couplings share.

    Raises ValueError for a side without rows, events that differ, and weights that are negative, not
    finite or all zero.
    """
    sides = as_rows(source), as_rows(target)
    for name, rows in zip(("source", "target"), sides):
        if len(rows) == 0:
            raise ValueError(f"{name}: expected at least one row each, got shape {tuple(rows.x.shape)}")
        weight_of(f"{name}.weight", rows)
    if sides[0].x.shape[1:] != sides[1].x.shape[1:]:
        shapes = [tuple(rows.x.shape[1:]) for rows in sides]
        raise ValueError(
            f"source, target: expected equal events, got event shapes {shapes[0]} and {shapes[1]}"
        )
    return sides


def weight_of(name: str, rows: Rows) -> Tensor | None:
    """The weights of ``rows``, None if they have none.  Raises ValueError for unusable ones."""
    weight = rows.weight
    if weight is None:
        return None
    usable = weight.shape == (len(rows),) and bool(((weight >= 0) & weight.isfinite()).all())
    if not usable or not bool((weight > 0).any()):
        raise ValueError(f"{name}: expected {len(rows)} finite non-negative weights, not all of them zero")
    return weight


def masses_of(source: Rows, target: Rows) -> tuple[Tensor | None, Tensor | None]:
    """The weights of both sides in double precision, each divided by its sum: weights are relative."""
    weights = weight_of("source.weight", source), weight_of("target.weight", target)
    double = [None if w is None else w.double() for w in weights]
    first, second = (None if w is None else w / w.max() / (w / w.max()).sum() for w in double)
    return first, second


def row_mean(error: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over the valid elements of each row, ``(B, *event) -> (B,)``; a row without any counts 0."""
    if mask is None:
        return error.reshape(error.shape[0], -1).mean(1)
    valid = valid_elements(mask, error)
    total = torch.where(valid, error, 0.0).reshape(error.shape[0], -1).sum(1)
    return total / valid.reshape(error.shape[0], -1).sum(1).clamp(min=1)
