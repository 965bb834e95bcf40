"""Exact assignments from coarse to fine over few candidate pairs, with a proof that no pair is missing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .pricing import Array, Costs, Index
from .search import partition

#: Coarsest problem, which is solved over all its pairs.
COARSE = 256
#: Candidate pairs per row at first.
FIRST = 16
#: Pairs of a reduced cost up to this share of the first candidates' largest are added early.
MARGIN = 0.25
#: Below minus this share of the mean squared norms a reduced cost is negative; pairs already among the
#: candidates, which the simplex has dealt with, may be less accurate.
TOLERANCE, SLACK = 1e-12, 1e-9


class Level(NamedTuple):
    """A resolution: ``points`` ``(k, d)`` of whole ``masses`` ``(k,)``; ``group``: the point of each unit."""

    points: Array
    masses: Index
    group: Index


class Plan(NamedTuple):
    """Potentials of rows and columns, and the pairs i m + j in use with their whole masses."""

    u: Array
    v: Array
    pairs: Index
    mass: Index


def assignment(x: Array, y: Array) -> Index | None:
    """The permutation s that minimises sum_i |x_i - y_s(i)|^2 for rows ``(n, d)``, repeated or not.

    Points that neighbour each other are merged and the small problem is solved; its potentials say which
    pairs of the next finer problem can matter.  Among these the network simplex finds the best plan and new
    potentials u, v.  A search over all pairs then finds those with |x_i - y_j|^2 < u_i + v_j: none proves
    by duality that no plan is better, others are added and the problem is solved again.  None is returned
    where that does not end.

    Schmitzer 2016, arXiv 1510.05466, section 4, for the scales, though with a search in place of shields;
    Gottschlich & Schuhmacher 2014, doi 10.1371/journal.pone.0110214, for the short lists.

    >>> assignment(np.array([[0.0], [5.0]]), np.array([[6.0], [1.0]])).tolist()
    [1, 0]
    """
    # neither a shift of one side nor the unit changes which plan is best, and POT knows absolute tolerances
    x, y = x - x.mean(0), y - y.mean(0)
    unit = np.sqrt(max((x * x).sum(1).mean(), (y * y).sum(1).mean())) or 1.0
    (levels_x, row_of_x), (levels_y, row_of_y) = _resolutions(x / unit), _resolutions(y / unit)
    plan, last = None, None
    for source, target in zip(levels_x, levels_y, strict=True):
        costs = Costs(source.points, target.points)
        if plan is None or last is None:
            plan = _all_pairs(costs, source.masses, target.masses)
        else:
            m = len(target.points)
            match = _units(plan, *(level.masses for level in last))
            start = _merged(source.group * m + target.group[match])
            v = Costs(last[0].points, target.points).column_minima(plan.u)
            whole = source is levels_x[-1]
            plan = _refine(costs, source.masses, target.masses, v, start, whole)
        if plan is None:
            return None
        last = source, target
    assert plan is not None and last is not None
    match = _units(plan, last[0].masses, last[1].masses)
    columns = np.empty(len(x), np.int64)
    columns[row_of_x] = row_of_y[match]
    return columns


def _resolutions(x: Array) -> tuple[list[Level], Index]:
    """Levels from coarse to the distinct points of ``x``, and the row that each unit of mass stands for.

    A coarse point is the mean of a block of neighbours.  The masses are numbers of rows, so that flows are
    whole numbers and free of rounding; repeated rows are one point, as ties between them would be many.
    """
    points, where, count = np.unique(x, axis=0, return_inverse=True, return_counts=True)
    # counted in rows, that both sides have as many levels: a level finer than the points is the points
    depths = list(range(round(np.log2(len(x) / 4)), 5, -2))[::-1]
    depths = [d for k, d in enumerate(depths) if k + 1 == len(depths) or 2 ** depths[k + 1] > COARSE]
    deepest = int(np.log2(len(points)))
    order, bounds = partition(points, deepest)
    points, count = points[order], count[order]
    levels = []
    for depth in depths:
        starts = bounds[:-1][:: 2 ** max(0, deepest - depth)]
        mass = np.add.reduceat(count, starts)
        means = np.add.reduceat(points * count[:, None], starts) / mass[:, None]
        levels.append(Level(means, mass, np.repeat(np.arange(len(starts)), mass)))
    levels.append(Level(points, count, np.repeat(np.arange(len(points)), count)))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return levels, np.argsort(rank[where.reshape(-1)], kind="stable")


def _all_pairs(costs: Costs, a: Index, b: Index) -> Plan | None:
    import ot  # takes a second

    n, m = costs.shape
    table = costs.of(np.repeat(np.arange(n), m), np.tile(np.arange(m), n)).reshape(n, m)
    flow, log = ot.emd(a.astype(float), b.astype(float), table, numItermax=10**9, log=True)
    pairs = np.flatnonzero(flow)
    return Plan(log["u"], log["v"], pairs, np.rint(flow.reshape(-1)[pairs]).astype(np.int64))


def _units(plan: Plan, a: Index, b: Index) -> Index:
    """The plan unit by unit: which unit of the target each unit of the source goes to."""
    rows, columns = np.divmod(plan.pairs, len(b))

    def places(first: Index, second: Index) -> Index:
        """Where the units of each pair begin when the pairs are sorted."""
        order = np.lexsort((second, first))
        begin = np.empty_like(order)
        begin[order] = np.cumsum(plan.mass[order]) - plan.mass[order]
        return begin

    of = np.repeat(np.arange(len(rows)), plan.mass)
    within = np.arange(len(of)) - np.repeat(np.cumsum(plan.mass) - plan.mass, plan.mass)
    assert plan.mass.sum() == a.sum() == b.sum()
    match = np.empty(len(of), np.int64)
    match[places(rows, columns)[of] + within] = places(columns, rows)[of] + within
    return match


def _merged(*parts: Index) -> Index:
    """Sorted without repeats; np.unique is slow where keys are near multiples of each other."""
    pairs = np.sort(np.concatenate(parts))
    return pairs[np.append(True, pairs[1:] != pairs[:-1])]


def _refine(costs: Costs, a: Index, b: Index, v: Array, start: Index, whole: bool) -> Plan | None:
    """The best plan, from potentials ``v`` of the columns and the pairs ``start`` of some plan.

    Where ``whole`` is False a few pairs may be missing still.
    """
    import ot  # takes a second
    from scipy.sparse import coo_matrix

    n, m = costs.shape
    u = costs.row_minima(v)
    v = costs.column_minima(u)
    rows = np.linspace(0, n - 1, min(n, 256)).astype(np.int64)
    few = np.concatenate([block.copy() for _, block in Costs(costs.x[rows], costs.y).blocks(u[rows], v)])
    level = float(np.quantile(few, min(1.0, FIRST / m)))
    unit = max(level, 1e-6 * costs.scale) or 1.0
    pairs = _merged(costs.below(u, v, level), start)
    for turn in range(40):
        i, j = np.divmod(pairs, m)
        # reduced costs have the same best plan as costs, and being small keep its potentials accurate
        reduced = costs.of(i, j) - u[i] - v[j]
        # none negative: POT derives from the largest what it charges for mass that finds no pair
        low = reduced.min()
        table = coo_matrix(((reduced - low) / unit, (i, j)), shape=(n, m))
        flow, log = ot.emd(a.astype(float), b.astype(float), table, numItermax=10**9, log=True)
        du, dv = unit * log["u"] + low, unit * log["v"]
        u, v, reduced = u + du, v + dv, reduced - du[i] - dv[j]
        if log["warning"] is not None or reduced.min() < -SLACK * costs.scale:
            return None
        used = np.rint(flow.data).astype(np.int64)
        in_use = flow.row.astype(np.int64)[used > 0] * m + flow.col[used > 0]
        # pairs that are nearly missing come too: the next potentials may need them
        near = costs.below(u, v, MARGIN * level)
        near = near[~np.isin(near, pairs, kind="sort")]
        i, j = np.divmod(near, m)
        missing = np.count_nonzero(costs.of(i, j) - u[i] - v[j] < -TOLERANCE * costs.scale)
        if missing == 0 or (not whole and missing < n / 20):
            return Plan(u, v, in_use, used[used > 0])
        # pairs far from use are let go, at first: later they might come and go for ever
        kept = pairs[reduced < 2 * level] if turn < 20 else pairs
        pairs = _merged(kept, start, in_use, near)
    return None
