"""Potentials of semidiscrete transport by stochastic Newton ascent on the dual."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .heights import first_heights, refine_heights
from .newton import Neighbours
from .search import FEW_DIMENSIONS, Winners, make_search, partition

#: Draws ``(n, d)`` of the distribution that is to be divided.
Draw = Callable[[int], Tensor]
#: Elements of draws held at once.
BATCH = 1 << 24
#: Told after each step: iteration, points at this level, chi-square of the current potentials.
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Ascent:
    """Heights h ``(N,)`` in float64 with the figures of the search for them."""

    heights: Tensor
    chi_square: float
    cost: float
    iterations: int
    draws: int
    seconds: float
    converged: bool


def chi_square(counts: Tensor, weights: Tensor) -> float:
    """Unbiased estimate of sum_j (p_j - b_j)^2 / b_j from how often each of N points won B draws.

    (1 / (B (B - 1))) sum_j (n_j^2 - n_j) / b_j - 1, with ``counts`` n ``(N,)`` and ``weights`` b ``(N,)``
    that sum to one.  Its standard deviation is about sqrt(2 N) / B where p = b.  Raises ValueError for fewer
    than two draws, and weights that are not positive or do not sum to one.

    >>> chi_square(torch.tensor([2, 0]), torch.tensor([0.5, 0.5]))
    1.0
    """
    n = counts.double()
    total = float(n.sum())
    if total < 2:
        raise ValueError(f"counts: expected at least two draws, got {total:g}")
    if not abs(float(weights.double().sum()) - 1) < 1e-6 or not bool((weights > 0).all()):
        raise ValueError(f"weights: expected positive numbers of sum one, got sum {float(weights.sum()):g}")
    return float(((n * n - n) / weights.double()).sum()) / (total * (total - 1)) - 1


class _Level:
    """The ascent on one set of points."""

    #: the least number of draws of a step
    LEAST = 4096

    def __init__(self, draw: Draw, points: Tensor, weights: Tensor, heights: Tensor):
        self.draw, self.points, self.weights, self.heights = draw, points, weights, heights.double().clone()
        self.search = make_search(points)
        self.graph = Neighbours(len(points))
        self.chi, self.began, self.draws, self.settled = math.inf, math.inf, 0, 0
        self.won = torch.zeros_like(weights)
        self.sums = torch.zeros_like(points) if points.shape[1] <= FEW_DIMENSIONS else None
        self.averages: list[tuple[Tensor, float]] = []

    def batches(self, size: int) -> Iterator[Tensor]:
        """``size`` draws, in pieces that fit into memory."""
        self.draws += size
        most = max(1, BATCH // self.points.shape[1])
        for start in range(0, size, most):
            yield self.draw(min(most, size - start))

    def step(self) -> None:
        """Draw, count, and move the heights; once steps are small, average them."""
        count = len(self.points)
        # the noise of the counts has chi-square N / size, which should stay below that of the heights
        size = max(self.LEAST, int(count * min(8.0, max(1.0, 4 / max(self.chi, 1e-9)))))
        self.search.update(self.heights)
        counts, some = torch.zeros_like(self.weights), None
        if self.sums is not None:
            self.sums, self.won = 0.5 * self.sums, 0.5 * self.won
        found: list[Winners] = []
        for x in self.batches(size):
            found.append(self.search.query(x, runner_up=True))
            index = found[-1].first
            counts += index.bincount(minlength=count)
            some = x[: 2 * count] if some is None else some
            if self.sums is not None:
                self.sums.index_add_(0, index, x)
                self.won += index.bincount(minlength=count)
        assert some is not None
        self.chi = chi_square(counts, self.weights)
        if count == 1:
            return self._average(size)
        self.graph.add(Winners(*(torch.cat(column) for column in zip(*found))))
        residual = self.weights - counts / size
        step, jump, missed = self.graph.step(residual.cpu().numpy(), self.weights.cpu().numpy())
        rate = min(0.5, 1 / max(jump, 1e-300))
        self.heights = self.heights + rate * torch.from_numpy(step).to(self.heights)
        if missed.any():
            self.search.update(self.heights)
            self._touch(torch.from_numpy(missed).to(self.heights.device), some)
        self.settled = self.settled + 1 if self.chi < 0.3 else 0
        if self.settled > 1:
            self._average(size)

    def _touch(self, missed: Tensor, x: Tensor) -> None:
        """Raise points that were never near until each draws level with the winner at one of ``x``."""
        dual = make_search(x)
        dual.update(-self.search.query(x).score)
        level = -dual.query(self.points[missed]).score
        self.heights[missed] = torch.maximum(self.heights[missed], level)

    def _average(self, size: int) -> None:
        """Keep running means of the heights since about half of the steps, or since they got much better."""
        if self.chi < 0.5 * self.began and self.began > 2 * len(self.points) / size:
            self.averages = []
        if not self.averages:
            self.began = self.chi
        if not self.averages or self.averages[-1][1] >= max(2 * self.averages[0][1], 4 * size):
            self.averages = [*self.averages[-1:], (torch.zeros_like(self.heights), 0.0)]
        mean, total = self.averages[-1]
        self.averages[-1] = (mean + (self.heights - mean) * (size / (total + size)), total + size)

    @property
    def averaged(self) -> float:
        """Draws that went into the averaged heights."""
        return sum(total for _, total in self.averages)

    def mean(self) -> Tensor:
        """The averaged heights, or the current ones before there are any."""
        if not self.averages:
            return self.heights
        parts = [total / self.averaged * mean for mean, total in self.averages]
        return torch.stack(parts).sum(0)

    def tangents(self) -> Tensor:
        """Mean of the recent draws that each point won: the slope of -h there."""
        assert self.sums is not None
        return self.sums / self.won.clamp(min=1e-9)[:, None]

    def check(self, tolerance: float) -> tuple[float, float]:
        """Chi-square of the averaged heights on fresh draws, and the mean of |x - y|^2 over their pairs."""
        count = len(self.points)
        # the estimate's own deviation, sqrt(2 N) / B, is a fifth of the tolerance or less
        size = int(max(2 * count, 5 * math.sqrt(2 * count) / tolerance, 2 * self.LEAST))
        self.search.update(self.mean())
        counts, cost = torch.zeros_like(self.weights), 0.0
        for x in self.batches(size):
            index = self.search.query(x).first
            counts += index.bincount(minlength=count)
            cost += float((x - self.points[index]).square().sum())
        return chi_square(counts, self.weights), cost / size


def _levels(points: Tensor, weights: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Ever more points: weighted means of neighbours, each level four times the one before, then all."""
    levels = [(points, weights)]
    depth = int(math.log2(len(points))) - 2
    while points.shape[1] <= FEW_DIMENSIONS and depth >= 7:
        order, bounds = partition(points.cpu().numpy(), depth)
        part = torch.from_numpy(np.repeat(np.arange(2**depth), np.diff(bounds))).to(points.device)
        rows = torch.from_numpy(order).to(points.device)
        b, y = weights[rows], points[rows]
        mass = torch.zeros(2**depth).to(b).index_add_(0, part, b)
        mean = torch.zeros(2**depth, points.shape[1]).to(points).index_add_(0, part, b[:, None] * y)
        levels.append((mean / mass[:, None], mass))
        depth -= 2
    return levels[::-1]


def ascend(
    draw: Draw,
    points: Tensor,
    weights: Tensor,
    tolerance: float = 0.05,
    max_iterations: int = 200,
    progress: Progress | None = None,
) -> Ascent:
    """Heights h so that point j has the largest h_j + <x, y_j> with probability b_j.

    Maximises E[-max_j (h_j + <x, y_j>)] + <b, h> by steps of a damped Newton method on fresh draws, whose
    averages are kept once they are small; in few dimensions for ever more points.  Stops where the
    chi-square of the averaged heights, on fresh draws, is below ``tolerance``, or after
    ``max_iterations`` steps with all points.

    draw: n -> draws ``(n, d)``; points: ``(N, d)``; weights: b ``(N,)``, positive, of sum one, in float64.
    """
    begin, iterations, draws = time.perf_counter(), 0, 0
    levels = _levels(points, weights)
    level: _Level | None = None
    best = (math.inf, torch.zeros_like(weights), 0.0)
    for k, (y, b) in enumerate(levels):
        if level is None:
            heights = first_heights(y, draw(_Level.LEAST), b)
        else:
            heights = refine_heights(y, level.points, level.mean(), level.tangents())
        level = _Level(draw, y, b, heights)
        last = k == len(levels) - 1
        wanted = 1.4 * len(y) / tolerance if last else 8 * len(y)
        for i in range(max_iterations):
            level.step()
            iterations += 1
            if progress is not None:
                progress(iterations, len(y), level.chi)
            ready = level.averaged >= wanted
            if last and (ready or i == max_iterations - 1):
                found = level.check(tolerance)
                best = min(best, (found[0], level.mean(), found[1]), key=lambda entry: entry[0])
                ready, wanted = best[0] < tolerance, 1.3 * level.averaged
            if ready:
                break
        draws += level.draws
    return Ascent(
        heights=best[1],
        chi_square=best[0],
        cost=best[2],
        iterations=iterations,
        draws=draws,
        seconds=time.perf_counter() - begin,
        converged=best[0] < tolerance,
    )
