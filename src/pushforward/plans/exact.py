"""Exact transport plans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import random
from .cost import squared_distances
from .sparse import assignment

#: From here on few candidate pairs are faster than all pairs.
SPARSE_ROWS = 640


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
        """The column of each row, ``(n,)``, where every row and every column stands in one pair alone."""
        n, m = self.shape
        if n != m or len(self.rows) != n:
            return None
        index = torch.arange(n, device=self.rows.device)
        alone = torch.equal(self.rows, index) and torch.equal(self.columns.sort().values, index)
        return self.columns if alone else None

    def pairs(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count, 2)`` pairs of rows and columns; a permutation of ``count`` rows is returned as it is.

        Otherwise they are drawn from the plan: each pair has its law, and pairs and rows are spread as
        evenly as their masses allow.
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

    ``x`` is ``(n, *event)``, ``y`` ``(m, *event)``; ``a`` ``(n,)`` and ``b`` ``(m,)`` are masses, which are
    divided by their sums (None: equal ones); with masks the cost is that of :func:`squared_distances`.
    As many rows on both sides without masses give a permutation: by sorting on the line, from 640 rows on
    by :func:`pushforward.plans.sparse.assignment`, below and otherwise by the network simplex over all
    pairs.  The plan is exact in each case, float64, on the device of ``x``.

    Raises ValueError for empty clouds, events that differ, values that are not finite, masses that are
    negative, not finite or all zero, and masks that do not fit.  Peyre & Cuturi 2019, arXiv 1803.00567,
    section 3.5; Bonneel et al. 2011, doi 10.1145/2070781.2024192.

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
    n, d = x.shape
    if a is None and b is None and n == len(y):
        columns = None
        if d == 1:
            columns = torch.empty(n, dtype=torch.int64)
            columns[x[:, 0].argsort()] = y[:, 0].argsort()
        elif n >= SPARSE_ROWS:
            found = assignment(x.numpy(), y.numpy())
            columns = None if found is None else torch.from_numpy(found)
        if columns is not None:
            return torch.arange(n), columns, torch.full((n,), 1 / n, dtype=torch.float64)
    return _all_pairs(squared_distances(x, y), a, b)


def _all_pairs(cost: Tensor, a: Tensor | None, b: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    import ot  # takes a second

    n, m = cost.shape
    permutes = n == m and a is None and b is None
    # masses of a permutation are counted in rows, that flows are whole numbers and free of rounding
    first, second = (
        np.full(k, 1.0 if permutes else 1 / k) if mass is None else _masses(name, mass, k)
        for name, mass, k in (("a", a, n), ("b", b, m))
    )
    # The simplex compares with absolute tolerances: costs of size 1 whatever the unit of the data.  What it
    # charges for mass that finds no pair derives from the largest cost: none may be negative.
    low = min(0.0, float(cost.min()))
    unit = np.exp2(np.frexp(float(cost.mean()) - low)[1])
    scaled = torch.sub(cost, low).div_(unit).numpy()
    flow, log = ot.emd(first, second, scaled, numItermax=10**9, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"the optimal plan was not found: {log['warning']}")
    used = np.flatnonzero(flow > 0.5 if permutes else flow)
    rows, columns = np.divmod(used, m)
    mass = flow.reshape(-1)[used]
    if permutes:
        assert np.array_equal(rows, np.arange(n)) and np.array_equal(np.sort(columns), rows)
        mass = np.ones(n)
    return torch.from_numpy(rows), torch.from_numpy(columns), torch.from_numpy(mass / mass.sum())


def _masses(name: str, mass: Tensor, rows: int) -> np.ndarray:
    """Masses that sum to 1."""
    if mass.shape != (rows,):
        raise ValueError(f"{name}: expected {rows} masses, got shape {tuple(mass.shape)}")
    values = mass.detach().double().cpu().numpy()
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise ValueError(f"{name}: expected finite non-negative masses with a positive sum")
    return values / values.sum()
