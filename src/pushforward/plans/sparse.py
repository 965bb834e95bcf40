"""Exact assignments from coarse to fine over few candidate pairs, with a proof that no pair is missing."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from .cost import TABLE
from .pricing import Array, Costs, Index, typical_size
from .search import partition

#: Coarsest problem, which is solved over all its pairs.
COARSE = 256
#: Candidate pairs per row at first.
FIRST = 16
#: Pairs of a reduced cost up to this share of the first candidates' largest are added early.
MARGIN = 0.25
#: Below minus this share of the typical squared norms a reduced cost is negative; pairs already among the
#: candidates, which the simplex has dealt with, may be less accurate.
TOLERANCE, SLACK = 1e-12, 1e-9
#: Reduced costs are cut at this multiple of the first candidates' largest, as the simplex works with absolute
#: tolerances.
CUT = 1e6


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
    where that does not end, and where some rows are so far apart that a table of all pairs does better, if
    one fits; if none does, a plan that is not proved the best comes with a UserWarning.

    Schmitzer 2016, arXiv 1510.05466, section 4, for the scales, though with a search in place of shields;
    Gottschlich & Schuhmacher 2014, doi 10.1371/journal.pone.0110214, for the short lists.

    >>> assignment(np.array([[0.0], [5.0]]), np.array([[6.0], [1.0]])).tolist()
    [1, 0]
    """
    # neither a shift nor the unit changes which plan is best, and POT knows absolute tolerances; by medians,
    # that a far row takes no digits from the others, and one shift for both sides, that near pairs stay near
    centre = np.median(x, axis=0)
    x, y = x - centre, y - centre
    size = max(np.median((z * z).sum(1)) for z in (x, y)) or max((z * z).sum(1).mean() for z in (x, y)) or 1.0
    unit = np.exp2(np.round(0.5 * np.log2(size)))
    far = typical_size(x, y)[1]
    if far and len(x) * len(y) <= TABLE:
        return None
    (levels_x, row_of_x), (levels_y, row_of_y) = _resolutions(x / unit), _resolutions(y / unit)
    plan, last, costs = None, None, None
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
    assert plan is not None and last is not None and costs is not None
    if far:
        _warn_of(costs, plan)
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
    if whole and min(n, m) >= COARSE and level < 10 * SLACK * costs.scale and n * m <= TABLE:
        return None  # distances within clumps are too small beside those between them
    unit = max(level, 1e-6 * costs.scale) or 1.0
    pairs, grow, plan = _merged(costs.below(u, v, level), start), 1.0, None
    for turn in range(40):
        i, j = np.divmod(pairs, m)
        # reduced costs have the same best plan as costs, and being small keep its potentials accurate
        table, rounding = costs.reduced(i, j, u, v)
        # none negative: POT derives from the largest what it charges for mass that finds no pair
        low = table.min()
        table = np.minimum((table - low) / unit, CUT * grow)
        flow, log = ot.emd(
            a.astype(float),
            b.astype(float),
            coo_matrix((table, (i, j)), shape=(n, m)),
            numItermax=10**9,
            log=True,
        )
        u, v = u + unit * log["u"] + low, v + unit * log["v"]
        reduced, rounding = costs.reduced(i, j, u, v)
        if log["warning"] is not None:
            return None
        proved = bool((reduced >= -SLACK * costs.scale - rounding).all())
        mass = np.rint(flow.data).astype(np.int64)
        in_use = flow.row.astype(np.int64)[mass > 0] * m + flow.col[mass > 0]
        plan = Plan(u, v, in_use, mass[mass > 0])
        # pairs that are nearly missing come too: the next potentials may need them
        near = costs.below(u, v, MARGIN * level)
        near = near[~np.isin(near, pairs, kind="sort")]
        missed, rounding = costs.reduced(*np.divmod(near, m), u, v)
        missing = np.count_nonzero(missed < -TOLERANCE * costs.scale - rounding)
        over, rounding = costs.reduced(*np.divmod(in_use, m), u, v)
        proved = proved and bool((over <= SLACK * costs.scale + rounding).all())
        if proved and (missing == 0 or (not whole and missing < n / 20)):
            return plan
        grow = 1.0 if proved else min(1e3 * grow, 1e30)
        # pairs far from use are let go, at first: later they might come and go for ever
        kept = pairs[reduced < 2 * level] if turn < 20 else pairs
        pairs = _merged(kept, start, in_use, near)
    return plan if costs.far else None


def _warn_of(costs: Costs, plan: Plan) -> None:
    """Warn where the potentials of a plan do not prove that it is the best."""
    rows, columns = np.divmod(plan.pairs, costs.shape[1])
    u = costs.row_minima(plan.v)
    over, rounding = costs.reduced(rows, columns, u, plan.v)
    gap = float(plan.mass @ np.maximum(over - rounding, 0.0)) / float(plan.mass.sum())
    if gap > SLACK * costs.scale:
        warnings.warn(
            f"a transport plan costs up to {gap / costs.scale:.2g} of a typical squared distance more than "
            "the best, because far rows leave too few digits for the others",
            UserWarning,
            stacklevel=2,
        )
