"""Exact transport plans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import random
from .cost import check_table, moved_together, squared_distances
from .scaling import check_sums
from .simplex import simplex
from .sparse import assignment

#: From here on few candidate pairs are faster than all pairs.
SPARSE_ROWS = 640
#: What to do where a table of all pairs is too large.
FEWER = "take fewer rows, or as many on both sides without masses and masks, which need no table"


@dataclass(frozen=True)
class ExactPlan:
    """A transport plan kept as its pairs of positive mass, sorted by row and column.

    rows, columns: ``(P,)`` int64.  mass: ``(P,)`` float64 of sum 1.  shape: the numbers of rows and columns.
    cost: the mean cost sum_ij P_ij C_ij, a float.
    """

    rows: Tensor
    columns: Tensor
    mass: Tensor
    shape: tuple[int, int]
    cost: float

    @property
    def permutation(self) -> Tensor | None:
        """The column of each row, ``(n,)``, if every row and every column is in exactly one pair."""
        n, m = self.shape
        if n != m or len(self.rows) != n:
            return None
        index = torch.arange(n, device=self.rows.device)
        alone = torch.equal(self.rows, index) and torch.equal(self.columns.sort().values, index)
        return self.columns if alone else None

    def pairs(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count, 2)`` pairs of rows and columns; a permutation of ``count`` rows is returned as it is.

        Otherwise they are drawn from the plan: each pair has its distribution, and pairs and rows are spread
        as evenly as their masses allow.
        """
        every = torch.stack([self.rows, self.columns], 1)
        if count == len(self.rows) and self.permutation is not None:
            return every
        cumulative = self.mass.cumsum(0)
        start = random.uniform((1,), generator, torch.float64).to(self.mass.device)
        level = (torch.arange(count, device=start.device) + start) / count * cumulative[-1]
        # rounding may lift a level to the total, behind the last pair
        return every[torch.searchsorted(cumulative, level, right=True).clamp(max=len(every) - 1)]

    def dense(self) -> Tensor:
        """The plan as a float64 matrix ``(n, m)``."""
        plan = self.mass.new_zeros(self.shape)
        plan[self.rows, self.columns] = self.mass
        return plan


def exact(
    x: Tensor,
    y: Tensor,
    a: Tensor | None = None,
    b: Tensor | None = None,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
) -> ExactPlan:
    """The plan of least cost for |x_i - y_j|^2: min over plans P of sum_ij P_ij |x_i - y_j|^2.

    ``x`` is ``(n, *event)``, ``y`` ``(m, *event)``; ``a`` ``(n,)`` and ``b`` ``(m,)`` are masses of equal
    sums, which are divided by them (None: equal masses); with masks the cost is that of
    :func:`squared_distances`.  As many rows on both sides without masses give a permutation.  In one
    dimension rows are sorted; from 640 rows on a permutation is found by
    :func:`pushforward.plans.sparse.assignment`; below and otherwise the network simplex takes all pairs,
    :func:`pushforward.plans.simplex.simplex`.  The plan is exact, float64, on the device of ``x``.

    Raises ValueError for empty sides, events that differ, values that are not finite, masses that are
    negative, not finite, all zero or of unequal sums, masks that do not fit, and where a table of all pairs
    would take more than 256 MiB.  Peyre & Cuturi 2019, arXiv 1803.00567, section 3.5; Bonneel et al. 2011,
    doi 10.1145/2070781.2024192.

    >>> plan = exact(torch.tensor([[0.0], [5.0]]), torch.tensor([[6.0], [1.0]]))
    >>> plan.permutation.tolist(), plan.cost
    ([1, 0], 1.0)
    """
    for name, rows in (("x", x), ("y", y)):
        if rows.ndim < 1 or rows.numel() == 0:
            raise ValueError(f"{name}: expected at least one row, got shape {tuple(rows.shape)}")
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"x, y: expected equal events, got {tuple(x.shape[1:])} and {tuple(y.shape[1:])}")
    if x_mask is not None or y_mask is not None:
        check_table("x, y", len(x), len(y), FEWER)
        return exact_of_costs(squared_distances(x.detach(), y.detach(), x_mask, y_mask), a, b)
    p, q = (z.detach().reshape(len(z), -1).double().cpu() for z in (x, y))
    for name, rows in (("x", p), ("y", q)):
        if not bool(rows.isfinite().all()):
            raise ValueError(f"{name}: expected finite values")
    rows, columns, mass = _plan(p, q, a, b)
    cost = float(mass @ (p[rows] - q[columns]).square().sum(1))
    on = x.device
    return ExactPlan(rows.to(on), columns.to(on), mass.to(on), (len(x), len(y)), cost)


def exact_of_costs(cost: Tensor, a: Tensor | None = None, b: Tensor | None = None) -> ExactPlan:
    """The plan of least cost for any table of costs ``(n, m)``: min over plans P of sum_ij P_ij C_ij.

    Masses as in :func:`exact`; equal numbers of rows and columns without masses give a permutation.  By the
    network simplex of POT.  Raises ValueError for a table that is empty or not finite, and for masses as
    :func:`exact` does; RuntimeError where the plan is not found.

    >>> exact_of_costs(torch.tensor([[3.0, 1.0], [1.0, 0.0]])).columns
    tensor([1, 0])
    """
    if cost.ndim != 2 or cost.numel() == 0:
        raise ValueError(f"cost: expected (n, m), got shape {tuple(cost.shape)}")
    if not bool(cost.isfinite().all()):
        raise ValueError("cost: expected finite values")
    rows, columns, mass = _all_pairs(cost.detach().double().cpu(), a, b)
    on = cost.device
    least = float(mass @ cost.detach().cpu()[rows, columns].double())
    return ExactPlan(rows.to(on), columns.to(on), mass.to(on), (cost.shape[0], cost.shape[1]), least)


def _plan(x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and masses of the best plan between points ``(n, d)`` and ``(m, d)`` on the CPU."""
    (n, d), m = x.shape, len(y)
    if d == 1:
        return on_the_line(x[:, 0], y[:, 0], a, b)
    x, y = moved_together(x, y)
    if a is None and b is None and n == m >= SPARSE_ROWS:
        found = assignment(x.numpy(), y.numpy())
        if found is not None:
            return torch.arange(n), torch.from_numpy(found), torch.full((n,), 1 / n, dtype=torch.float64)
    check_table("x, y", n, m, FEWER)
    return _all_pairs(squared_distances(x, y), a, b)


def on_the_line(
    x: Tensor, y: Tensor, a: Tensor | None = None, b: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and masses of the plan between numbers ``(n,)`` and ``(m,)`` that keeps their order.

    It is the best one for every cost that is a convex function of the distance.

    >>> on_the_line(torch.tensor([5.0, 0.0]), torch.tensor([1.0]))
    (tensor([0, 1]), tensor([0, 0]), tensor([0.5000, 0.5000], dtype=torch.float64))
    """
    n, m = len(x), len(y)
    rows, columns = x.argsort(), y.argsort()
    if a is None and b is None:
        # where quantile functions jump, counted in whole 1 / (n m)
        upto = torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n
    else:
        first, second = (torch.from_numpy(mass) for mass in _masses(a, b, n, m))
        upto = first[rows].cumsum(0), second[columns].cumsum(0)
        upto = upto[0] / upto[0][-1], upto[1] / upto[1][-1]
    levels = torch.cat(upto).unique()
    mass = levels.diff(prepend=levels.new_zeros(1))
    levels, mass = levels[mass > 0], mass[mass > 0].double()
    # an interval ends at its level
    i, j = (torch.searchsorted(steps, levels).clamp(max=len(steps) - 1) for steps in upto)
    rows, columns = rows[i], columns[j]
    order = torch.from_numpy(np.lexsort((columns.numpy(), rows.numpy())))
    return rows[order], columns[order], mass[order] / mass.sum()


def _all_pairs(cost: Tensor, a: Tensor | None, b: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    n, m = cost.shape
    if a is None and b is None and n == m:
        # masses are counted in rows, that flows are whole numbers and free of rounding
        rows, columns, mass = simplex(cost.numpy(), np.ones(n), np.ones(n))
        rows, columns = rows[mass > 0.5], columns[mass > 0.5]
        assert np.array_equal(rows, np.arange(n)) and np.array_equal(np.sort(columns), rows)
        mass = np.ones(n)
    else:
        rows, columns, mass = simplex(cost.numpy(), *_masses(a, b, n, m))
    return torch.from_numpy(rows), torch.from_numpy(columns), torch.from_numpy(mass / mass.sum())


def _masses(a: Tensor | None, b: Tensor | None, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Masses that sum to 1; None: equal ones."""
    sides = []
    for name, mass, rows in (("a", a, n), ("b", b, m)):
        if mass is None:
            sides.append(np.full(rows, 1 / rows))
            continue
        if mass.shape != (rows,):
            raise ValueError(f"{name}: expected {rows} masses, got shape {tuple(mass.shape)}")
        values = mass.detach().double().cpu().numpy()
        if not (np.isfinite(values).all() and (values >= 0).all() and 0 < values.sum() < np.inf):
            raise ValueError(f"{name}: expected finite non-negative masses with a positive sum")
        sides.append(values / values.sum())
    if a is not None and b is not None:
        check_sums(a, b)
    return sides[0], sides[1]
