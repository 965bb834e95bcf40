"""Wasserstein distances: exact, and averaged over projections to a line."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import random
from ..plans import exact, exact_of_costs
from ..plans.cost import check_table
from ..plans.exact import on_the_line
from ..tensors import takes_arrays
from .base import DISTANCE, Metric
from .distances import centred, distances

#: Numbers of projected rows held at once.
HELD = 2**24


@takes_arrays
def wasserstein(x: Tensor, y: Tensor, p: float = 2) -> float:
    """W_p = (min over plans pi of sum_ij pi_ij |x_i - y_j|^p)^(1/p), by the exact plan, with equal weights.

    ``x`` is ``(n, *event)``, ``y`` ``(m, *event)``; in the units of the data, float64.  In one dimension rows
    are sorted.  For p = 2 and two samples of equal size 10,000 rows take a few seconds; otherwise the time
    grows about as n^2 to n^3, half a second for 2,000 rows, and a few times that for p above 4.  Distances
    are in units of the largest one in a plan, so that no power overflows; W_p tends to it.

    Raises ValueError for a p below 1 or infinite, empty samples, events that differ, values that are not
    finite, and if a table of all pairs would take more than 256 MiB; RuntimeError if no plan is found.  Peyre
    & Cuturi 2019, arXiv 1803.00567, eq. 2.16.

    >>> wasserstein(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [4.0]]), p=1)
    2.0
    >>> wasserstein(torch.tensor([[0.0], [1.0]]), torch.tensor([[50.0], [51.0]]), p=400)
    50.0
    """
    _check_power(p)
    a, b = centred(x, y)
    if a.shape[1] == 1:
        rows, columns, mass = on_the_line(a[:, 0], b[:, 0])
        return _mean_power((a[rows, 0] - b[columns, 0]).abs(), mass, p)
    if p == 2:
        return math.sqrt(exact(a, b).cost)
    check_table("x, y", len(a), len(b), "take fewer rows, `sliced_wasserstein`, or p = 2 with equally many")
    table, power = distances(a, b), min(float(p), 2.0)
    largest = float(table.max())
    while largest > 0:
        cost = (table / largest).pow(power)
        # a best plan has no pair of more than its whole cost, and what is tiny beside that does not count
        cost[cost < 1e-20] = 0.0
        plan = exact_of_costs(cost.clamp_(max=2.0 * table.numel()))
        used = table[plan.rows, plan.columns]
        top = float(used.max())
        if power == p and (top / largest) ** p >= 1e-6:
            return _mean_power(used, plan.mass, p)
        power, largest = min(2 * power, float(p)), top
    return 0.0


@takes_arrays
def sliced_wasserstein(
    x: Tensor,
    y: Tensor,
    projections: int = 256,
    p: float = 2,
    generator: torch.Generator | None = None,
) -> float:
    """(mean over directions u of W_p(<u, x>, <u, y>)^p)^(1/p), u uniform on the sphere.

    Each one-dimensional distance is exact, also for samples of unequal size.  The unit is that of the data;
    for p = 2 a shift of the whole distribution by s gives |s| / sqrt(d).  Raises ValueError for a p below 1
    or infinite, fewer than one projection, empty samples and events that differ.  Bonneel et al. 2015, doi
    10.1007/s10851-014-0506-3, section 4.

    >>> x = torch.tensor([[0.0], [1.0]])
    >>> sliced_wasserstein(x, x + 2)
    2.0
    """
    _check_power(p)
    if projections < 1:
        raise ValueError(f"projections: expected at least one, got {projections}")
    a, b = centred(x, y)
    u = random.normal((a.shape[1], projections), generator, torch.float64, "cpu")
    u = u / u.norm(dim=0)
    # Quantile functions are constant between the levels i/n and j/m; counted in whole 1/(n m) they are exact.
    n, m = len(a), len(b)
    levels = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    weight = levels.diff(prepend=levels.new_zeros(1)).double() / (n * m)
    values = []
    for some in u.split(max(1, HELD // (n + m)), dim=1):
        first, second = (a @ some).sort(0).values, (b @ some).sort(0).values
        gap = (first[(levels - 1) // m] - second[(levels - 1) // n]).abs()
        values += [_mean_power(column, weight, p) for column in gap.T]
    each = torch.tensor(values, dtype=torch.float64)
    return _mean_power(each, torch.full_like(each, 1 / projections), p)


class Wasserstein(Metric):
    """:func:`wasserstein` with p = 2, by the exact plan.

    >>> Wasserstein().measure(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [2.0]]))
    2.0
    """

    label, short, unit = "Wasserstein distance W2", "Wasserstein distance", DISTANCE
    costly = True

    def measure(self, x: Tensor, y: Tensor, seed: int = 0) -> float:
        return wasserstein(x, y)


class SlicedWasserstein(Metric):
    """:func:`sliced_wasserstein` with p = 2 over so many random directions.

    >>> SlicedWasserstein(projections=8).measure(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [2.0]]))
    2.0
    """

    label, short, unit = "Sliced Wasserstein distance", "sliced Wasserstein distance", DISTANCE

    def __init__(self, projections: int = 256):
        self.projections = projections

    def measure(self, x: Tensor, y: Tensor, seed: int = 0) -> float:
        directions = random.seeded(seed, "report", "directions")
        return sliced_wasserstein(x, y, self.projections, generator=directions)


def _check_power(p: float) -> None:
    if not 1 <= p < math.inf:
        raise ValueError(f"p: expected a finite number of at least 1, got {p}")


def _mean_power(distance: Tensor, weight: Tensor, p: float) -> float:
    """(sum_k w_k d_k^p)^(1/p), in units of the largest distance, so that nothing overflows."""
    largest = float(distance.max())
    if largest == 0:
        return 0.0
    return largest * float(weight.to(distance) @ (distance / largest).pow(p)) ** (1 / p)
