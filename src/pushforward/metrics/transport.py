"""Wasserstein distances: exact, and averaged over projections to a line."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import random
from ..plans import exact, exact_of_costs
from ..plans.exact import SPARSE_ROWS
from .distances import centred, distances


def wasserstein(x: Tensor, y: Tensor, p: float = 2) -> float:
    """W_p = (min over plans pi of sum_ij pi_ij |x_i - y_j|^p)^(1/p), the exact plan, rows weighted equally.

    ``x`` is ``(n, *event)``, ``y`` ``(m, *event)``; in the units of the data, float64.  For p = 2 and two
    clouds of equal size 10,000 rows take a few seconds; else the time grows about as n^2 to n^3, half a
    second for 2,000 rows.  Raises ValueError for ``p < 1``, empty clouds, events that differ and values
    that are not finite, RuntimeError where the plan is not found.  Peyre & Cuturi 2019, arXiv 1803.00567,
    eq. 2.16.

    >>> wasserstein(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [4.0]]), p=1)
    2.0
    """
    if not p >= 1:
        raise ValueError(f"p: expected a number of at least 1, got {p}")
    if p == 2 and len(x) == len(y) >= SPARSE_ROWS:
        return exact(*centred(x, y)).cost ** (1 / p)
    return exact_of_costs(distances(x, y).pow(p)).cost ** (1 / p)


def sliced_wasserstein(
    x: Tensor,
    y: Tensor,
    projections: int = 256,
    p: float = 2,
    generator: torch.Generator | None = None,
) -> float:
    """(mean over directions u of W_p(<u, x>, <u, y>)^p)^(1/p), u uniform on the sphere.

    Each distance on the line is exact, also for clouds of unequal size.  In the units of the data; for a
    shift of the whole law by s it is |s| / sqrt(d) where p = 2.  Raises ValueError for ``p < 1``, fewer
    than one projection, empty clouds and events that differ.  Bonneel et al. 2015, doi
    10.1007/s10851-014-0506-3, section 4.

    >>> x = torch.tensor([[0.0], [1.0]])
    >>> sliced_wasserstein(x, x + 2)
    2.0
    """
    if not p >= 1:
        raise ValueError(f"p: expected a number of at least 1, got {p}")
    if projections < 1:
        raise ValueError(f"projections: expected at least one, got {projections}")
    a, b = centred(x, y)
    u = random.normal((a.shape[1], projections), generator, torch.float64, "cpu")
    u = u / u.norm(dim=0)
    a, b = (a @ u).sort(0).values, (b @ u).sort(0).values
    # Quantile functions are constant between the levels i/n and j/m; counted in whole 1/(n m) they are exact.
    n, m = len(a), len(b)
    levels = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    weight = levels.diff(prepend=levels.new_zeros(1)).double() / (n * m)
    gap = (a[(levels - 1) // m] - b[(levels - 1) // n]).abs().pow(p)
    return float((weight @ gap).mean() ** (1 / p))
