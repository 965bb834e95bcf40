"""Reduced costs of all pairs of two point sets, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from .cost import TABLE, squared_distances

Array = NDArray[np.float64]
Index = NDArray[np.int64]

#: Above this many dimensions a table of costs is cheaper than computing them again in every search.
TABLE_DIMENSIONS = 8
#: Most entries of a block.
BLOCK = 2**19
#: Rows further out than this many times the typical distance leave products of inner products no digits.
FAR = 30.0
#: The most pairs that one search finds per row, on average over a block.
MOST = 48


def typical_size(x: Array, y: Array) -> tuple[float, bool]:
    """A typical |x|^2 + |y|^2 that a few far rows do not affect, and whether there are such rows."""
    norms = (x * x).sum(1), (y * y).sum(1)
    scale = float(sum(np.median(norm) for norm in norms)) or float(sum(norm.mean() for norm in norms))
    return scale, max(float(norm.max()) for norm in norms) > FAR**2 * scale


class Costs:
    """c_ij = |x_i - y_j|^2 of points ``(n, d)`` and ``(m, d)``, a block of rows at a time."""

    def __init__(self, x: Array, y: Array):
        self.x, self.y = x, y
        self.shape = len(x), len(y)
        self.scale, self.far = typical_size(x, y)
        self.table = None
        if x.shape[1] > TABLE_DIMENSIONS and len(x) * len(y) <= TABLE:
            self.table = squared_distances(torch.from_numpy(x), torch.from_numpy(y)).numpy()

    def _factors(self, u: Array, v: Array) -> tuple[Array, Array]:
        # c_ij - u_i - v_j is the inner product of (-2 x, |x|^2 - u, 1) and (y, 1, |y|^2 - v)
        x, y = self.x, self.y
        left = np.column_stack([-2.0 * x, (x * x).sum(1) - u, np.ones(len(x))])
        right = np.column_stack([y, np.ones(len(y)), (y * y).sum(1) - v])
        return left, np.ascontiguousarray(right.T)

    def blocks(self, u: Array, v: Array) -> Iterator[tuple[int, Array]]:
        """First row and reduced costs c_ij - u_i - v_j of block after block, each in the same memory."""
        from scipy.spatial.distance import cdist  # takes a while, and who samples or scores does without

        n, m = self.shape
        step = max(1, BLOCK // m)
        memory = np.empty((min(n, step), m))
        left, right = self._factors(u, v) if self.table is None and not self.far else (self.x, self.y)
        for start in range(0, n, step):
            part = slice(start, start + step)
            block = memory[: min(step, n - start)]
            if self.table is not None or self.far:
                whole = cdist(left[part], right, "sqeuclidean") if self.table is None else self.table[part]
                np.subtract(whole, v, out=block)
                block -= u[part, None]
            elif left.shape[1] <= TABLE_DIMENSIONS + 2:
                # not a product of BLAS, whose threads wait for each other where others use the machine
                np.einsum("ik,kj->ij", left[part], right, out=block)
            else:
                np.matmul(left[part], right, out=block)
            yield start, block

    def of(self, rows: Index, columns: Index) -> Array:
        """Costs of single pairs."""
        if self.table is not None:
            return self.table[rows, columns]
        # from differences: the proof of a plan rests on them
        step = max(1, 2**22 // self.x.shape[1])
        parts = (slice(k, k + step) for k in range(0, len(rows), step))
        gaps = (self.x[rows[part]] - self.y[columns[part]] for part in parts)
        return np.concatenate([np.empty(0), *((gap * gap).sum(1) for gap in gaps)])

    def reduced(self, rows: Index, columns: Index, u: Array, v: Array) -> tuple[Array, Array]:
        """Reduced costs of single pairs, and what rounding may add to or take from each."""
        cost, first, second = self.of(rows, columns), u[rows], v[columns]
        rounding = 8 * np.finfo(float).eps * (cost + np.abs(first) + np.abs(second))
        return cost - first - second, rounding

    def row_minima(self, v: Array) -> Array:
        """min_j c_ij - v_j, ``(n,)``."""
        return np.concatenate([block.min(1) for _, block in self.blocks(np.zeros(self.shape[0]), v)])

    def column_minima(self, u: Array) -> Array:
        """min_i c_ij - u_i, ``(m,)``."""
        low = np.full(self.shape[1], np.inf)
        for _, block in self.blocks(u, np.zeros(self.shape[1])):
            np.minimum(low, block.min(0), out=low)
        return low

    def below(self, u: Array, v: Array, level: float) -> Index:
        """Pairs i m + j of reduced cost below ``level``; the lowest ones of a row where there are many."""
        m, found = self.shape[1], []
        for start, block in self.blocks(u, v):
            pairs = np.flatnonzero(block < level)
            if len(pairs) > MOST * len(block) and m > MOST:
                columns = np.argpartition(block, MOST, axis=1)[:, :MOST]
                low = np.take_along_axis(block, columns, 1) < level
                pairs = (columns + m * np.arange(len(block))[:, None])[low]
            found.append(pairs + start * m)
        return np.concatenate(found)
