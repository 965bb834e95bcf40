"""Rows of one side: points with their conditions, masks and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .random import uniform
from .tensors import Condition, join_conditions, map_condition, to_tensor

__all__ = ["Rows", "as_rows", "both_sides", "join_rows", "masses_of", "weight_of"]


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
        return Rows(
            self.x[index],
            map_condition(lambda c: c[index], self.condition),
            None if self.mask is None else self.mask[index],
            None if self.weight is None else self.weight[index],
        )

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
