"""Scores of outliers from three tail shares: of a joint density, and of single columns in two ways."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Columns",
    "Combined",
    "QUERIES",
    "TABLE",
    "Tail",
    "Values",
    "WEIGHTS",
    "WIDTHS",
]

Values = NDArray[np.float64]

#: Weights of the joint density, the columns' densities and the columns' tails; no reported figure uses the
#: splits on which they were chosen.
WEIGHTS = (0.5, 0.25, 0.25)
#: Widths of kernels that are tried, in deviations, and rows that are used for that.
WIDTHS, QUERIES = np.geomspace(0.01, 2.0, 24), 500
#: Numbers of a table that are held at once.
TABLE = 4_000_000


class Tail:
    """The log of the share of normal rows that score below a value, from ``scores`` ``(n,)`` of such rows.

    log((rank - 1/2) / n), linear between scores.  Below the lowest score it decreases by 1 for each distance
    between the quartiles, so that of two far rows the farther one has the lower score.

    >>> Tail(np.arange(10.0))(np.array([4.0, -9.0])).round(2)
    array([-0.8, -5. ])
    """

    def __init__(self, scores: Values, weight: Values | None = None):
        order = np.argsort(scores, kind="stable")
        self.scores = scores[order]
        w = np.ones(len(scores)) if weight is None else weight[order]
        self.logs = np.log((np.cumsum(w) - 0.5 * w) / w.sum())
        low, high = np.quantile(self.scores, [0.25, 0.75])
        self.scale = float(high - low) or 1.0

    def __call__(self, values: Values) -> Values:
        """``(B,)`` scores to logs of shares."""
        inside = np.interp(values, self.scores, self.logs)
        return inside - np.maximum(self.scores[0] - values, 0.0) / self.scale


class Columns:
    """The sum of the log-densities of all columns, each by a kernel density, as for independent columns.

    sum_j log (1/n) sum_i N(x_j; x_ij, h_j^2), with the width h_j of maximum likelihood for rows given all
    others.  It ignores how columns depend on each other, which few rows do not determine.

    rows: ``(n, d)``.  weight: ``(n,)``.  Constant columns are left out.

    >>> found = Columns(np.random.default_rng(0).normal(size=(500, 3)))
    >>> found(np.zeros((1, 3))).round(0)
    array([-3.])
    """

    def __init__(self, rows: Values, weight: Values | None = None):
        self.used = rows.std(0) > 0
        self.rows = rows[:, self.used]
        self.log_weight = np.zeros(len(rows)) if weight is None else np.log(np.maximum(weight, 1e-300))
        scales = self.rows.std(0)
        asked = np.arange(0, len(rows), max(1, len(rows) // QUERIES))[:QUERIES]
        self.widths = np.empty(self.rows.shape[1])
        for j in range(self.rows.shape[1]):
            found = [self._column(asked, j, scales[j] * h, own=True).mean() for h in WIDTHS]
            self.widths[j] = scales[j] * WIDTHS[int(np.argmax(found))]

    def __call__(self, x: Values) -> Values:
        """``(B, d)`` to ``(B,)`` nats."""
        return self._sum(x[:, self.used], own=False)

    def left_out(self) -> Values:
        """The rows themselves, each under all others, ``(n,)``."""
        return self._sum(np.arange(len(self.rows)), own=True)

    def tails(self, x: Values | None = None) -> Values:
        """sum_j log min(P(X_j <= x_j), P(X_j >= x_j)) of ``x`` ``(B, d)``, shares of the rows and of the row
        itself (Li et al. 2022, arXiv 2201.00382); None: of the rows, each among all others.
        """
        own, w = x is None, np.exp(self.log_weight)
        values = self.rows if x is None else x[:, self.used]
        # a row is among those below and above it already
        itself = np.zeros(len(values)) if own else np.full(len(values), w.mean())
        total = np.zeros(len(values))
        for j, column in enumerate(self.rows.T):
            order = np.argsort(column, kind="stable")
            mass = np.concatenate([[0.0], np.cumsum(w[order])])
            below = mass[np.searchsorted(column[order], values[:, j], side="right")]
            above = mass[-1] - mass[np.searchsorted(column[order], values[:, j], side="left")]
            total += np.log((np.minimum(below, above) + itself) / (mass[-1] + itself))
        return total

    def _sum(self, asked: NDArray[Any], own: bool) -> Values:
        parts = np.array_split(asked, max(1, len(asked) * len(self.rows) // TABLE))
        total = [
            sum(
                (self._column(part if own else part[:, j], j, h, own) for j, h in enumerate(self.widths)),
                start=np.zeros(len(part)),
            )
            for part in parts
        ]
        return np.concatenate(total)

    def _column(self, asked: NDArray[Any], j: int, width: float, own: bool) -> Values:
        """Log-densities in one column: of values, or of the rows ``asked`` each without itself (``own``)."""
        column = self.rows[:, j]
        values = column[asked] if own else asked
        terms = -0.5 * ((values[:, None] - column) / width) ** 2 + self.log_weight
        total = np.full(len(values), np.exp(self.log_weight).sum())
        if own:
            terms[np.arange(len(asked)), asked] = -np.inf
            total -= np.exp(self.log_weight[asked])
        top = terms.max(1)
        sums = np.exp(terms - top[:, None]).sum(1)
        return top + np.log(sums) - np.log(total * width) - 0.5 * math.log(2 * math.pi)


class Combined:
    """The mean of three logs of tail shares: of a joint density, of :class:`Columns`, of their tails.

    It is Fisher's combination of tests: with few rows a joint density of many columns is uncertain, and a row
    far out in one column is an outlier whatever the joint density is.

    scores: of normal rows that none of the three was fitted to, ``(3, n)``.  weight: of these rows.
    """

    def __init__(self, scores: Sequence[Values], weight: Values | None = None):
        self.shares = [Tail(values, weight) for values in scores]

    def __call__(self, scores: Sequence[Values]) -> Values:
        """Log of the mean tail share ``(B,)`` of scores ``(3, B)``; the lower, the more of an outlier."""
        logs = [share(values) for share, values in zip(self.shares, scores)]
        return np.average(logs, axis=0, weights=WEIGHTS)
