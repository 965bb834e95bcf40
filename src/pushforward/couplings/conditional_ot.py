"""Minibatch optimal transport that keeps conditions independent of the source."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..plans.exact import exact, exact_of_costs
from ..rows import Rows, both_sides, masses_of
from .base import Coupling, Pairing
from .conditions import Sides, classes, compare
from .minibatch_ot import MinibatchOT
from .sinkhorn import costs


class ConditionalOT(Coupling):
    """The exact plan of the batch for |x0 - x1|^2 + w C(c0, c1), with c0 the condition a source row carries.

    Plans that ignore conditions make p(x0 | c) differ from p(x0), so a flow that starts from p(x0) under a
    given c misses the data (Cheng & Schwing 2025, arXiv 2503.10636).  Here source rows carry conditions too,
    those of the target's rows as a rule, and prefer partners of like conditions.

    Labels, integers ``(B,)``, are not mixed: a target row is paired with a source row of its own label as far
    as the counts allow, which is the plan for an infinite w.  For other conditions C is the squared distance,
    in mappings summed over the entries, and w is such that row i finds, on average, the share ``ratio`` of
    the other candidates of its label no dearer than the one of its own condition,

        #{(i, j): M_ij + w C_ij <= M_io + w C_io} = ratio #{(i, j)},    M_ij = |x0_i - x1_j|^2,  j not o,

    where o is the target row whose condition is closest to that of source row i, row i itself where it is
    among the closest.  Every pair has a w from which on it no longer counts, so w is a quantile of those.
    If conditions repeat and no w reaches the share, w is the largest of these values; if every w gives less
    than the share, w is 0.  ``weight`` sets w instead, for labels too (C = 1 for different ones).  Without
    conditions this is :class:`MinibatchOT`.

    A condition whose first dimensions are those of the mask of its rows, as in sequences, is compared on
    the valid elements.  ``info`` holds the ``cost`` of the pairs in M, the ``weight`` w and, where there are
    labels, the share ``same`` of pairs of equal ones.

    Raises ValueError for a ratio outside (0, 1), a weight that is negative or not finite, conditions on one
    side only or of different kinds, and values that are not finite.

    >>> source = Rows(torch.tensor([[0.0], [1.0]]), condition=torch.tensor([0, 1]))
    >>> target = Rows(torch.tensor([[0.9], [0.1]]), condition=torch.tensor([0, 1]))
    >>> ConditionalOT().pair(source, target).indices[:, 1], MinibatchOT().pair(source, target).indices[:, 1]
    (tensor([0, 1]), tensor([1, 0]))
    """

    keeps_condition = True

    def __init__(self, ratio: float = 0.02, weight: float | None = None):
        if not 0 < ratio < 1:
            raise ValueError(f"ratio: expected a share between 0 and 1, got {ratio}")
        if weight is not None and not 0 <= weight < math.inf:
            raise ValueError(f"weight: expected a finite non-negative number or None, got {weight}")
        self.ratio, self.weight = float(ratio), weight

    def pair(
        self, source: Rows | Tensor, target: Rows | Tensor, generator: torch.Generator | None = None
    ) -> Pairing:
        source, target = both_sides(source, target)
        weights = masses_of(source, target)
        labels, others = compare(source, target)
        if not labels and not others:
            return MinibatchOT().pair(source, target, generator)
        first, second = classes(labels, source, target)
        w = math.inf if self.weight is None else self.weight
        if others and self.weight is None:
            apart = torch.stack([costs(*pair) for pair in others]).sum(0)
            w = critical_weight(costs(source, target), apart, first[:, None] == second, self.ratio)
        points = _joined(source, target, others, w)

        count = max(len(source), len(target))
        if not labels:
            plan = exact(points[0].x, points[1].x, *weights, points[0].mask, points[1].mask)
            indices = plan.pairs(count, generator)
        elif self.weight is None and weights == (None, None) and _equal_counts(first, second):
            indices = _class_by_class(points, first, second)
        else:
            table = costs(*points)
            if self.weight is not None:
                price, unlike = self.weight, sum((a[:, None] != b).double() for a, b in labels)
            else:
                # dearer than all that the shift of a pair to its own label could save along the way
                price, unlike = float(table.max()) * (min(table.shape) + 1), first[:, None] != second
            indices = exact_of_costs(table + price * unlike, *weights).pairs(count, generator)
        return Pairing(indices, info=_info(source, target, indices, w, first, second))


def critical_weight(distance: Tensor, apart: Tensor, allowed: Tensor, ratio: float) -> float:
    """The w for which M_ij + w C_ij <= M_io + w C_io holds for the share ``ratio`` of the allowed j not o.

    distance M, apart C, allowed: ``(n, m)``.  o is the allowed column of least C, on the diagonal if it can.
    """
    apart = torch.where(allowed, apart, math.inf)
    least = apart.amin(1)
    # what differs by rounding alone is alike
    near = 1e-9 * float(apart[allowed].mean()) if bool(allowed.any()) else 0.0
    own = apart.argmin(1)
    k = torch.arange(min(apart.shape), device=apart.device)
    own[k] = torch.where(apart[k, k] <= least[k] + near, k, own[k])
    others = allowed.scatter(1, own[:, None], False)
    gain = distance.gather(1, own[:, None]) - distance
    excess = apart - least[:, None]
    no_dearer = others & (gain >= 0)
    always = int((no_dearer & (excess <= near)).sum())
    falling = (gain / excess)[no_dearer & (excess > near)].sort(descending=True).values
    room = math.floor(ratio * int(others.sum())) - always
    if room >= len(falling):
        return 0.0
    if room <= 0:
        return float(falling[0]) * (1 + 1e-6) if len(falling) else 0.0
    return 0.5 * float(falling[room - 1] + falling[room])


def _joined(source: Rows, target: Rows, others: list[Sides], w: float) -> Sides:
    """Points whose squared distance is |x0 - x1|^2 + w C, with the masks of their parts."""
    sides = []
    masked = any(rows.mask is not None for pair in [(source, target), *others] for rows in pair)
    for side in (0, 1):
        parts = [(source, target)[side], *(pair[side] for pair in others)]
        scales = [1.0, *(math.sqrt(w) for _ in others)]
        x = torch.cat(
            [s * rows.x.detach().double().reshape(len(rows), -1) for s, rows in zip(scales, parts)], 1
        )
        mask = torch.cat([_flat_mask(rows) for rows in parts], 1) if masked else None
        sides.append(Rows(x, mask=mask))
    return sides[0], sides[1]


def _flat_mask(rows: Rows) -> Tensor:
    if rows.mask is None:
        return torch.ones_like(rows.x.reshape(len(rows), -1), dtype=torch.bool)
    mask = rows.mask.reshape(*rows.mask.shape, *([1] * (rows.x.ndim - rows.mask.ndim)))
    return mask.expand_as(rows.x).reshape(len(rows), -1)


def _equal_counts(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first.sort().values, second.sort().values)


def _class_by_class(points: Sides, first: Tensor, second: Tensor) -> Tensor:
    """The best pairs within each class, sorted by source row."""
    column = torch.empty_like(first)
    for label in first.unique():
        rows, columns = (first == label).nonzero().flatten(), (second == label).nonzero().flatten()
        own = points[0].take(rows), points[1].take(columns)
        plan = exact(own[0].x, own[1].x, None, None, own[0].mask, own[1].mask)
        column[rows[plan.rows]] = columns[plan.columns]
    return torch.stack([torch.arange(len(column), device=column.device), column], 1)


def _info(
    source: Rows, target: Rows, indices: Tensor, w: float, first: Tensor, second: Tensor
) -> dict[str, Any]:
    """Figures of the pairs."""
    rows, columns = indices.unbind(1)
    pairs = _joined(source.take(rows), target.take(columns), [], 0.0)
    error = (pairs[0].x - pairs[1].x).square()
    if pairs[0].mask is not None and pairs[1].mask is not None:
        error = torch.where(pairs[0].mask & pairs[1].mask, error, 0.0)
    same = float((first[rows] == second[columns]).double().mean())
    return {"cost": float(error.sum(1).mean()), "weight": w, "same": same}
