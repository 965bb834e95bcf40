"""The network simplex of POT over all pairs, with a proof that its plan is optimal for the given costs."""

from __future__ import annotations

import warnings

import numpy as np

from .pricing import Array, Index

#: Pairs in use may cost more than their potentials say, on average, by this share of a typical reduced cost.
SLACK = 1e-8
#: Reduced costs are cut at this multiple of a typical one: a huge one would take digits from the others.
CUT = 1e6
#: Where the proof still fails, a share of the plan's typical cost that is worth a warning.
SHORT = 1e-6
#: How often potentials are corrected.
TURNS = 12


def simplex(cost: Array, a: Array, b: Array) -> tuple[Index, Index, Array]:
    """Rows, columns and masses of the pairs in use, sorted, of a plan of least cost.

    ``cost`` is a finite ``(n, m)``, ``a`` ``(n,)`` and ``b`` ``(m,)`` masses of equal sums.  Potentials u, v
    with u_i + v_j <= c_ij for all pairs, and equality for those in use, prove a plan optimal.  The potentials
    of the simplex are as large as the largest cost, so small differences are lost to rounding.  If the proof
    fails on the given costs, the problem is solved again with the reduced costs c - u - v, which have the
    same best plans, and so on.

    Raises RuntimeError where the simplex fails; a plan that may cost noticeably more than the
    best comes with a UserWarning.

    >>> rows, columns, mass = simplex(np.array([[3.0, 1.0], [1.0, 0.0]]), np.ones(2), np.ones(2))
    >>> columns
    array([1, 0])
    """
    # The simplex compares with absolute tolerances: costs of size 1 whatever the unit of the data.  What it
    # charges for mass that finds no pair derives from the largest cost: none may be negative.
    low = min(0.0, float(cost.min()))
    unit = float(np.exp2(np.frexp(float(cost.mean()) - low)[1]))
    flow, u = _solve((cost - low) / unit, a, b)
    u, taken, grow = unit * u, a > 0, 1.0
    best, least = flow, np.inf
    for _ in range(TURNS):
        u -= np.median(u)
        v = ((cost - u[:, None]) if taken.all() else (cost[taken] - u[taken, None])).min(0)
        rows, columns = np.nonzero(flow)
        mass, used = flow[rows, columns], cost[rows, columns]
        rounding = 16 * np.finfo(float).eps * (np.abs(used) + np.abs(u[rows]) + np.abs(v[columns]))
        gap = float(mass @ np.maximum(used - u[rows] - v[columns] - rounding, 0.0)) / float(mass.sum())
        if gap <= 1e-10 * np.median(used):  # mostly, and faster than what follows
            return rows, columns, mass
        reduced = cost - u[:, None]
        reduced -= v
        level = _typical(reduced, float(np.median(rounding)))
        if gap <= SLACK * level:
            return rows, columns, mass
        if gap < least:
            best, least = flow, gap
        slack = reduced.min(1)
        u, reduced = u + slack, reduced - slack[:, None]
        cut = CUT * grow * level
        flow, more = _solve(np.clip(reduced, 0.0, cut) / level, a, b)
        u = u + level * more
        grow = 1e3 * grow if reduced[flow > 0].max() > cut else 1.0
    rows, columns = np.nonzero(best)
    if least > SHORT * np.median(cost[rows, columns]):
        warnings.warn(
            f"a transport plan may cost {least:.2g} more than the best: its costs differ too much in size",
            UserWarning,
            stacklevel=2,
        )
    return rows, columns, best[rows, columns]


def _solve(cost: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """The plan of POT and its potentials of the rows."""
    import ot  # takes a second

    flow, log = ot.emd(a, b, cost, numItermax=10**9, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"the optimal plan was not found: {log['warning']}")
    return flow, np.array(log["u"])


def _typical(reduced: Array, rounding: float) -> float:
    """A low quantile of the reduced costs that are not zero, over a few rows; infinite where all are."""
    some = reduced[:: -(-len(reduced) // 64)]
    positive = some[some > rounding]
    return float(np.quantile(positive, 0.125)) if len(positive) else np.inf
