"""Distances between rows: the energy distance and the nearest neighbours."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..tensors import takes_arrays, to_tensor
from .base import DISTANCE, Metric

#: How :func:`torch.cdist` keeps the digits of close points.
DIFFERENCES = "donot_use_mm_for_euclid_dist"
#: Numbers of a table of distances held at once.
HELD = 2**22
#: Up to here a tree finds neighbours faster than comparing all pairs does.
TREE_DIMENSIONS = 16


def centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both samples as float64 rows ``(n, d)`` and ``(m, d)`` on the CPU, less their common offset.

    Raises ValueError for an empty sample, events that differ and values that are not finite.
    """
    x, y = to_tensor(x, "x"), to_tensor(y, "y")
    for name, rows in (("x", x), ("y", y)):
        if rows.ndim < 1 or len(rows) == 0:
            raise ValueError(f"{name}: expected at least one row, got shape {tuple(rows.shape)}")
        if not bool(rows.isfinite().all()):
            raise ValueError(f"{name}: expected finite values")
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"x, y: expected equal events, got {tuple(x.shape[1:])} and {tuple(y.shape[1:])}")
    a, b = (rows.detach().reshape(len(rows), -1).double().cpu() for rows in (x, y))
    centre = a.mean(0)
    return a - centre, b - centre


@takes_arrays
def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances |x_i - y_j|, ``(n, *event), (m, *event) -> (n, m)``, float64.

    From differences, not inner products, so that close points far from the origin keep their digits.

    >>> distances(torch.tensor([[1e8], [1e8 + 8]]), torch.tensor([[1e8]]))
    tensor([[0.],
            [8.]], dtype=torch.float64)
    """
    return torch.cdist(*centred(x, y), compute_mode=DIFFERENCES)


@takes_arrays
def energy_distance(x: Tensor, y: Tensor, unbiased: bool = False) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| between ``x`` ``(n, *event)`` and ``y`` ``(m, *event)``.

    In the units of the data (it is the square of a metric on distributions; no root is taken).  By default it
    is the V-statistic, in which pairs of a row with itself count.  This is the exact energy distance of the
    two samples; it is never negative, and about (1/n + 1/m) E|X - X'| for two samples of one distribution.
    ``unbiased`` leaves these pairs out: then it is an unbiased estimate and may be negative.

    Raises ValueError for empty samples, events that differ, and one row with ``unbiased``.  Szekely & Rizzo
    2013, doi 10.1016/j.jspi.2013.03.018, eq. 5 and 6.

    >>> energy_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]]))
    3.0
    """
    a, b = centred(x, y)
    n, m = len(a), len(b)
    if unbiased and min(n, m) < 2:
        raise ValueError(f"unbiased: expected at least two rows on each side, got {n} and {m}")
    less = 1 if unbiased else 0
    within = _total(a, a) / (n * (n - less)) + _total(b, b) / (m * (m - less))
    return 2 * _total(a, b) / (n * m) - within


class EnergyDistance(Metric):
    """:func:`energy_distance` of the two samples, 0 only where they are equal.

    >>> EnergyDistance().measure(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]]))
    3.0
    """

    label, short, unit = "Energy distance", "energy distance", DISTANCE

    def measure(self, x: Tensor, y: Tensor, seed: int = 0) -> float:
        return energy_distance(x, y)


def _total(a: Tensor, b: Tensor) -> float:
    """The sum of all distances between two samples, computed in blocks of rows."""
    blocks = a.split(max(1, HELD // len(b)))
    return math.fsum(float(torch.cdist(some, b, compute_mode=DIFFERENCES).sum()) for some in blocks)


@takes_arrays
def nearest(x: Tensor, reference: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Distance ``(n,)`` float64 from each row of ``x`` to its nearest row of ``reference``, and which one.

    Without ``reference`` the other rows of ``x`` are searched (leave one out).  The search is exact: by a k-d
    tree in up to 16 dimensions, by all pairs in more.  Raises ValueError as :func:`distances`, and for a
    single row without ``reference``.

    >>> distance, index = nearest(torch.tensor([[0.0], [1.0], [5.0]]))
    >>> distance.tolist(), index.tolist()
    ([1.0, 1.0, 4.0], [1, 0, 1])
    """
    alone = reference is None
    if alone and len(x) < 2:
        raise ValueError(f"x: expected at least two rows, got {len(x)}")
    a, b = centred(x, x if reference is None else reference)
    if a.shape[1] <= TREE_DIMENSIONS:
        return _nearest_by_tree(a, b, alone)
    found: list[tuple[Tensor, Tensor]] = []
    step = max(1, HELD // len(b))
    for start in range(0, len(a), step):
        table = torch.cdist(a[start : start + step], b, compute_mode=DIFFERENCES)
        if alone:
            rows = torch.arange(len(table))
            table[rows, rows + start] = torch.inf
        low = table.min(1)
        found.append((low.values, low.indices))
    return torch.cat([d for d, _ in found]), torch.cat([i for _, i in found])


def _nearest_by_tree(a: Tensor, b: Tensor, alone: bool) -> tuple[Tensor, Tensor]:
    from scipy.spatial import KDTree

    distance, index = KDTree(b.numpy()).query(a.numpy(), k=2 if alone else 1)
    distance, index = torch.as_tensor(distance), torch.as_tensor(index)
    if not alone:
        return distance, index
    # A row and its exact repeats are all at distance 0, in any order: take the entry that is another row.
    other = torch.where(index[:, 0] == torch.arange(len(a)), index[:, 1], index[:, 0])
    return distance[:, 1], other


@takes_arrays
def memorisation_threshold(train: Tensor, quantile: float = 0.01) -> float:
    """The ``quantile`` of the distances from training rows to their nearest other training row.

    Raises ValueError for a quantile outside [0, 1].

    >>> memorisation_threshold(torch.tensor([[0.0], [1.0], [3.0]]), 0.5)
    1.0
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile: expected a number in [0, 1], got {quantile}")
    return float(nearest(train)[0].quantile(quantile))


@takes_arrays
def memorisation_share(
    samples: Tensor, train: Tensor, quantile: float = 0.01, threshold: float | None = None
) -> float:
    """Share of ``samples`` nearer to a row of ``train`` than training rows are to each other.

    The share with min_j |s_i - x_j| < q, q the ``quantile`` of the leave-one-out nearest distances of the
    training rows (or ``threshold``, if known).  Draws from the distribution itself give about ``quantile``; a
    model that copies its training rows gives 1.  If training rows repeat, q and the share may be 0.

    >>> train = torch.tensor([[0.0], [1.0], [3.0]])
    >>> memorisation_share(torch.tensor([[0.1], [6.0]]), train)
    0.5
    """
    if threshold is not None and not threshold >= 0:
        raise ValueError(f"threshold: expected a distance or None, got {threshold}")
    q = memorisation_threshold(train, quantile) if threshold is None else threshold
    return float((nearest(samples, train)[0] < q).double().mean())
