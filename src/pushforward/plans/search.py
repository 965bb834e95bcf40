"""Exact search for the point with the largest h_j + <x, y_j>."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

#: Up to this many dimensions bounds on groups of points rule out nearly all of them.
FEW_DIMENSIONS = 4
#: Elements of a table of scores that is held at once.
TABLE = 1 << 22
#: Rows whose bounds are computed at once.
TILE = 2048


class Winners(NamedTuple):
    """The best point of each row, its score, and where asked for the second and how far it lies below."""

    first: Tensor
    score: Tensor
    second: Tensor
    gap: Tensor


class Search(ABC):
    """Finds argmax_j h_j + <x, y_j> among the rows of ``points`` ``(N, d)``.

    With h_j = g_j - |y_j|^2 / 2 that is the row of least |x - y_j|^2 / 2 - g_j.  ``heights`` h ``(N,)`` are
    set by :meth:`update` and may change often.
    """

    @abstractmethod
    def update(self, heights: Tensor) -> None:
        """Set the heights."""

    @abstractmethod
    def query(self, x: Tensor, runner_up: bool = False) -> Winners:
        """The winners for rows ``x`` ``(B, d)``; ``second`` and ``gap`` are empty unless ``runner_up``."""


def make_search(points: Tensor) -> Search:
    """The faster search for points ``(N, d)``."""
    few = points.shape[1] <= FEW_DIMENSIONS and len(points) > 2 * TangentSearch.GROUP
    return TangentSearch(points) if few else DenseSearch(points)


def partition(points: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Split rows ``depth`` times at the median of their widest extent: an order, and 2^depth + 1 bounds.

    Part k holds the rows ``order[bounds[k]:bounds[k + 1]]``; parts differ by at most one row.

    >>> partition(np.array([[3.0], [1.0], [2.0], [0.0]]), 1)
    (array([3, 1, 2, 0]), array([0, 2, 4]))
    """
    count = len(points)
    order, bounds = np.arange(count), np.array([0, count])
    assert 2**depth <= count
    for _ in range(depth):
        z, starts = points[order], bounds[:-1]
        widest = (np.maximum.reduceat(z, starts) - np.minimum.reduceat(z, starts)).argmax(1)
        part = np.repeat(np.arange(len(starts)), np.diff(bounds))
        order = order[np.lexsort((z[np.arange(count), widest[part]], part))]
        bounds = np.sort(np.concatenate([bounds, (bounds[:-1] + bounds[1:]) // 2]))
    return order, bounds


def _two_best(scores: Tensor, runner_up: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Best score and column, second score and column of each row; overwrites ``scores``."""
    best, index = scores.max(1)
    if not runner_up or scores.shape[1] < 2:
        return best, index, torch.full_like(best, -math.inf), index
    # two passes are faster than a general topk
    scores.scatter_(1, index[:, None], -math.inf)
    other, second = scores.max(1)
    return best, index, other, second


class DenseSearch(Search):
    """All scores by matrix products in single precision; near ties are settled in double precision.

    For many dimensions, where nothing can be ruled out.
    """

    def __init__(self, points: Tensor):
        self.points = points
        self.single = points.float()
        self.reach = float(points.norm(dim=1).max())
        self.update(points.new_zeros(len(points)))

    def update(self, heights: Tensor) -> None:
        # only differences of heights count, and small ones lose fewer digits
        self.shift = heights.double().median()
        self.heights = heights.double() - self.shift
        self.largest = float(self.heights.abs().max())

    def query(self, x: Tensor, runner_up: bool = False) -> Winners:
        rows = max(1, TABLE // len(self.points))
        parts = [self._chunk(part, runner_up) for part in x.split(rows)]
        return Winners(*(torch.cat(column) for column in zip(*parts)))

    def _chunk(self, x: Tensor, runner_up: bool) -> Winners:
        scores = torch.addmm(self.heights.float(), x.float(), self.single.T)
        # rounding grows with the lengths of the vectors; this bounds what is seen in practice several times
        slack = 8 * torch.finfo(torch.float32).eps * (x.norm(dim=1) * self.reach + self.largest)
        best, index = scores.max(1)
        near = (scores >= (best - slack)[:, None]).nonzero()
        if len(near) > len(x):
            tied = near[:, 0].bincount(minlength=len(x))[near[:, 0]] > 1
            row, column = near[tied].unbind(1)
            exact = self.heights[column] + (x[row].double() * self.points[column].double()).sum(1)
            row, place = row.unique_consecutive(return_inverse=True)
            table = torch.full((len(row), int(place.bincount().max())), -math.inf).to(exact)
            start = torch.searchsorted(place, torch.arange(len(row), device=x.device))
            offset = torch.arange(len(place), device=x.device) - start[place]
            table[place, offset] = exact
            index[row] = column[start + table.argmax(1)]
        winner = self.points[index].double()
        score = self.heights[index] + (x.double() * winner).sum(1)
        if not runner_up:
            return Winners(index, score + self.shift, index[:0], score[:0])
        scores.scatter_(1, index[:, None], -math.inf)
        value, second = scores.max(1)
        gap = (score - value.double()).clamp(min=0.0)
        return Winners(index, score + self.shift, second, gap)


class TangentSearch(Search):
    """Bounds on groups of neighbouring points, after which a few groups are looked at in full.

    For a group with bounding box m +- w and any reference u, max_j h_j + <x, y_j> is at most
    max_j (h_j + <u, y_j>) + <x - u, m> + sum_k |x_k - u_k| w_k.  With u = -(slope of h over the group)
    the first term is nearly equal over the group, so that the bound is tight where the group can win.  A
    tree of lifted points (y_j, sqrt(2 max g - 2 g_j)) answers the same question, but prunes little when
    potentials vary.  In double precision.
    """

    GROUP = 384

    def __init__(self, points: Tensor):
        self.count, self.dim = points.shape
        depth = max(0, math.ceil(math.log2(self.count / self.GROUP)))
        order, bounds = partition(points.detach().cpu().double().numpy(), depth)
        self.device = points.device
        size = int(np.diff(bounds).max())
        # a group that is one short repeats its last row, which changes no maximum
        place = np.minimum(bounds[:-1, None] + np.arange(size), bounds[1:, None] - 1)
        self.rows = torch.from_numpy(order[place]).to(self.device)
        self.twin = torch.from_numpy(np.arange(size) >= np.diff(bounds)[:, None]).to(self.device)
        self.points = points.double()[self.rows]
        low, high = self.points.amin(1), self.points.amax(1)
        self.middle, self.width = 0.5 * (low + high), 0.5 * (high - low)
        self.extent = self.dim * float((self.middle.abs() + self.width).amax())
        self.update(points.new_zeros(self.count))

    def update(self, heights: Tensor) -> None:
        self.shift = heights.double().median()
        h = (heights.double() - self.shift)[self.rows]
        y = self.points - self.middle[:, None]
        spread = y - y.mean(1, keepdim=True)
        square = spread.transpose(1, 2) @ spread
        ridge = 1e-9 * square.diagonal(dim1=1, dim2=2).sum(1) + 1e-300
        square = square + ridge[:, None, None] * torch.eye(self.dim, device=self.device, dtype=h.dtype)
        self.tangent = -torch.linalg.solve(square, (spread.transpose(1, 2) @ h[..., None])).squeeze(-1)
        self.level = (h + (y * self.tangent[:, None]).sum(2)).amax(1)
        self.heights = h.masked_fill(self.twin, -math.inf)

    def query(self, x: Tensor, runner_up: bool = False) -> Winners:
        if not len(x):
            none = torch.zeros(0, dtype=torch.int64, device=x.device)
            return Winners(none, self.shift.new_zeros(0), none, self.shift.new_zeros(0))
        # neither the bounds of all groups nor the scores of one may take much memory
        rows = max(1, min(2 * TABLE // len(self.rows), 4 * TABLE // self.rows.shape[1]))
        parts = [self._chunk(part, runner_up) for part in x.double().split(rows)]
        return Winners(*(torch.cat(column) for column in zip(*parts)))

    def _bounds(self, x: Tensor) -> Tensor:
        """Upper bounds on the best score of each row in each group, ``(groups, B)``, in single precision."""
        level, middle = self.level.float(), self.middle.float()
        tangent, width = self.tangent.float(), self.width.float()
        bound = torch.empty(len(level), len(x), device=x.device)
        # a tile stays in the cache, while the loop over groups wants many rows at once
        for rows, tile in zip(x.float().split(TILE), bound.split(TILE, 1)):
            torch.addmm(level[:, None], middle, rows.T, out=tile)
            for k in range(self.dim):
                reach = (rows[:, k] - tangent[:, k, None]).abs_()
                tile.addcmul_(reach, width[:, k, None])
        # rounding must not rule out a winner
        terms = level.abs().amax() + (x.abs().amax(1) + tangent.abs().amax()) * self.extent
        return bound.add_(16 * torch.finfo(torch.float32).eps * terms.float())

    def _chunk(self, x: Tensor, runner_up: bool) -> Winners:
        bound = self._bounds(x)
        best = x.new_full((len(x),), -math.inf)
        other = best.clone()
        index = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        second = index.clone()
        floor = other if runner_up else best
        # the most promising group of each row first: what it finds rules out most of the others
        first = bound.argmax(0)
        order = first.argsort()
        counts = first.bincount(minlength=len(self.rows)).tolist()
        for turn in range(2):
            if turn == 0:
                groups = order.split(counts)
            else:
                bound[first, torch.arange(len(x), device=x.device)] = -math.inf
                group, row = (bound > floor).nonzero().unbind(1)
                groups = row.split(group.bincount(minlength=len(self.rows)).tolist())
            for k, row in enumerate(groups):
                if turn:
                    row = row[bound[k, row] > floor[row]]
                if not len(row):
                    continue
                scores = torch.addmm(self.heights[k], x[row], self.points[k].T)
                a, i, b, j = _two_best(scores, runner_up)
                i, j = self.rows[k, i], self.rows[k, j]
                old, old_index = best[row], index[row]
                won = a > old
                best[row], index[row] = torch.where(won, a, old), torch.where(won, i, old_index)
                if runner_up:
                    # second of all: the better of the loser of the two winners and both seconds
                    loser = torch.where(won, old, a), torch.where(won, old_index, i)
                    inner = torch.where(won, b, other[row]), torch.where(won, j, second[row])
                    better = loser[0] > inner[0]
                    other[row] = torch.where(better, loser[0], inner[0])
                    second[row] = torch.where(better, loser[1], inner[1])
        if not runner_up:
            return Winners(index, best + self.shift, index[:0], best[:0])
        return Winners(index, best + self.shift, second, best - other)
