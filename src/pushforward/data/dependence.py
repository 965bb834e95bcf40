"""Columns that others determine exactly: their joint density is infinite on a plane and zero off it."""

from __future__ import annotations

import numpy as np

#: Share of its deviation that a column may leave unexplained and still count as determined, by precision.
#: The floor holds for columns around zero; those far from it are known less exactly, up to the ceiling.
FLOOR = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-10}
CEILING = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-6}
#: Multiply-adds that looking may cost; of longer tables evenly spaced rows are looked at, then all rows.
BUDGET = 5e9
#: Wider tables are not looked at.
MOST = 1000


def dependent(x: np.ndarray) -> dict[int, list[int]]:
    """Columns j of ``x`` ``(n, d)`` with x_j = c + sum_i b_i x_i exactly, and the earlier columns i.

    The rank of the standardised columns is that of the triangle of their QR decomposition, found by
    pivoting; where it is not full, columns are taken in their order and each is projected on those kept.
    Empty where there are no more rows than columns.

    >>> a, b = np.arange(9.0), np.arange(9.0) ** 2
    >>> dependent(np.stack([a, b, a + b, 1 - a], 1))
    {2: [0, 1], 3: [0]}
    """
    n, d = x.shape
    if n <= d or not 1 < d <= MOST:
        return {}
    floor, ceiling, eps = FLOOR[x.dtype], CEILING[x.dtype], np.finfo(x.dtype).eps
    z = x.astype(np.float64)
    z /= np.abs(z).max(0)  # neither the largest nor the smallest numbers overflow when they are squared
    mean, spread = z.mean(0), z.std(0)
    spread[spread == 0] = 1.0
    exact = np.clip(16 * eps / spread, floor, ceiling)
    z = (z - mean) / spread
    rows = max(4 * d, int(BUDGET / d**2))
    some = z if n <= rows else z[np.linspace(0, n - 1, rows).astype(int)]
    found = _explained(z, some, exact, ceiling)
    found = _explained(z, z, exact, ceiling) if found is None else found
    return found or {}


def _explained(
    z: np.ndarray, some: np.ndarray, exact: np.ndarray, ceiling: float
) -> dict[int, list[int]] | None:
    """Columns of ``z`` that those before them explain in ``some`` of its rows, with these columns.

    exact: up to how much of each column.  None where one is explained in these rows and not in all.
    """
    from scipy.linalg import qr, solve_triangular

    # Columns of the triangle have the inner products of those of the table, in d rows.
    triangle = np.linalg.qr(some - some.mean(0), mode="r") / np.sqrt(len(some))
    if np.abs(np.diag(qr(triangle, mode="r", pivoting=True)[0])).min() > ceiling:
        return {}
    d = triangle.shape[1]
    found: dict[int, list[int]] = {}
    kept: list[int] = []
    basis, parts = np.zeros((d, d)), np.zeros((d, d))  # of the kept columns: their QR decomposition
    weights, limits = np.zeros((d, d)), np.full(d, np.inf)
    for j in range(d):
        r = len(kept)
        column, inner = triangle[:, j].copy(), np.zeros(r)
        for _ in range(2):  # once more, for what rounding left
            step = basis[:, :r].T @ column
            column, inner = column - basis[:, :r] @ step, inner + step
        left = float(np.linalg.norm(column))
        if left <= ceiling and kept:
            b = solve_triangular(parts[:r, :r], inner)
            limit = min(ceiling, max(exact[j], float(np.abs(b * exact[kept]).max())))
            if left <= limit:
                found[j] = [i for i, weight in zip(kept, b) if abs(weight) > 1e-6]
                weights[kept, j], limits[j] = b, 2 * limit
                continue
        if left > 0:
            parts[:r, r], parts[r, r], basis[:, r] = inner, left, column / left
            kept.append(j)
    columns = list(found)
    unexplained = (z[:, columns] - z @ weights[:, columns]).std(0)
    return found if all(found.values()) and bool((unexplained <= limits[columns]).all()) else None
