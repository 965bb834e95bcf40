"""The Newton step of semidiscrete transport, from which points win and which come second."""

from __future__ import annotations

from collections import deque

import numpy as np

from .search import Winners


class Neighbours:
    """How the shares p move with the heights: a graph of best and second-best points of recent draws.

    dp_j / dh_k is minus the density at zero of the gap between j and k.  A draw with gap a estimates it by
    KAPPA / (2 a') where a' is the typical gap about its two points: the density at zero of a gap of
    mean m is 1 / (2 m) where it is uniform (on a line), 2 / (3 m) where it falls linearly (in a plane), 1 / m
    where exponentially (in many dimensions).
    """

    KAPPA = 0.75
    #: draws remembered, as a multiple of the number of points
    MEMORY = 48

    def __init__(self, count: int):
        self.count = count
        self.seen: deque[tuple[np.ndarray, np.ndarray, np.ndarray]] = deque()

    def add(self, winners: Winners) -> None:
        first, second, gap = (v.cpu().numpy() for v in (winners.first, winners.second, winners.gap))
        self.seen.append((first, second, gap))
        while len(self.seen) > 1 and sum(len(s[0]) for s in self.seen) > self.MEMORY * max(self.count, 1024):
            self.seen.popleft()

    def step(self, residual: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """The Newton step for ``residual`` b - p, its size in gaps, and which points were never near."""
        from scipy.sparse import coo_array, diags_array
        from scipy.sparse.csgraph import connected_components
        from scipy.sparse.linalg import cg

        i, j, gap = (np.concatenate(columns) for columns in zip(*self.seen))
        near = np.bincount(i, minlength=self.count) + np.bincount(j, minlength=self.count)
        reach = np.bincount(i, gap, self.count) + np.bincount(j, gap, self.count)
        typical = reach / np.maximum(near, 1) + 1e-300
        # pairs of far groups have wide gaps where their members have narrow ones, so each pair has its own
        key, pair, times = np.unique(
            np.minimum(i, j) * self.count + np.maximum(i, j), return_inverse=True, return_counts=True
        )
        i, j = np.divmod(key, self.count)
        common = np.sqrt(typical[i] * typical[j])
        scale = (np.bincount(pair, gap) + common) / (times + 1)
        weight = self.KAPPA * times / (2 * len(gap) * scale)
        edges = coo_array((weight, (i, j)), shape=(self.count, self.count)).tocsr()
        edges = edges + edges.T
        degree = edges.sum(1)
        # a point that wins far less than its share has weak links, but should not leap over its neighbours
        least = 0.3 * self.KAPPA * weights / np.where(near > 0, typical, 1.0)
        matrix = diags_array(np.where(degree > 0, np.maximum(degree, least), 1.0)).tocsr() - edges
        # mass can only move along the graph, so each connected part must sum to zero
        parts, part = connected_components(edges, directed=False)
        excess = np.bincount(part, residual, parts) / np.bincount(part, degree, parts).clip(1e-300)
        right = np.where(degree > 0, residual - degree * excess[part], 0.0)
        scaling = diags_array(1 / matrix.diagonal())
        step, _ = cg(matrix, right, rtol=0.03, maxiter=400, M=scaling)
        jump = np.abs(step[i] - step[j]) / np.maximum(scale, common)
        return step - step.mean(), float(np.quantile(np.repeat(jump, times), 0.98)), near == 0
