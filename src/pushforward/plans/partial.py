"""Exact transport of a part of the mass."""

from __future__ import annotations

import torch
from torch import Tensor

from .exact import ExactPlan, exact_of_costs
from .scaling import masses


def partial(cost: Tensor, mass: float, a: Tensor | None = None, b: Tensor | None = None) -> ExactPlan:
    """min sum_ij P_ij C_ij over P >= 0 of the given mass with P 1 <= a and P^T 1 <= b.

    ``cost`` is ``(n, m)``, ``mass`` a share of the smaller of the two sums.  Without masses ``a`` ``(n,)``
    and ``b`` ``(m,)`` every row and every column counts one and round(mass min(n, m)) pairs are matched, at
    least one, none of them twice.  Solved as a full problem with a further row and column of cost 0 that take
    what is left over (Caffarelli & McCann 2010, doi 10.4007/annals.2010.171.673; Chapel et al. 2020, arXiv
    2002.08276).  The plan returned has sum 1.

    Raises ValueError for a mass outside (0, 1], a cost that is not finite, and masses that are negative,
    not finite or without a sum.

    >>> plan = partial(torch.tensor([[0.0, 5.0], [5.0, 7.0]]), 0.5)
    >>> plan.rows, plan.columns
    (tensor([0]), tensor([0]))
    """
    if not 0 < mass <= 1:
        raise ValueError(f"mass: expected a share above 0 and at most 1, got {mass}")
    if cost.ndim != 2 or cost.numel() == 0 or not bool(cost.isfinite().all()):
        raise ValueError(f"cost: expected a finite (n, m), got shape {tuple(cost.shape)}")
    n, m = cost.shape
    table = (cost.detach() - cost.min()).double()
    counted = a is None and b is None
    first, second = masses(a, table, -2, "a"), masses(b, table, -1, "b")
    if counted:
        first, second = torch.ones_like(first), torch.ones_like(second)
    least = min(float(first.sum()), float(second.sum()))
    amount = max(1.0, round(mass * min(n, m))) if counted else mass * least
    rest_rows, rest_columns = float(first.sum()) - amount, float(second.sum()) - amount

    # the further row and column may not take from each other
    forbidden = 1.0 + 2.0 * table.max()
    wide = torch.nn.functional.pad(table, (0, 1, 0, 1))
    wide[-1, -1] = forbidden
    rest = table.new_tensor([max(rest_columns, 0.0), max(rest_rows, 0.0)])
    plan = exact_of_costs(wide, torch.cat([first, rest[:1]]), torch.cat([second, rest[1:]]))
    inner = (plan.rows < n) & (plan.columns < m)
    rows, columns, moved = plan.rows[inner], plan.columns[inner], plan.mass[inner]
    if counted:
        # masses of rows are whole numbers but for rounding, and the simplex keeps them so
        whole = (moved * (n + rest[0])).round()
        rows, columns, moved = rows[whole > 0], columns[whole > 0], whole[whole > 0]
        assert len(rows) == amount and bool((moved == 1).all())
    moved = moved / moved.sum()
    total = float(moved @ cost.detach()[rows, columns].double())
    return ExactPlan(rows, columns, moved, (n, m), total)
