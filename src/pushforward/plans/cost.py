"""Squared distances between all rows of two point sets."""

from __future__ import annotations

import torch
from torch import Tensor

#: Below this share of |a|^2 + |b|^2 a distance by inner products has lost digits that differences keep.
LOST = 2.0**-20
#: Numbers of differences held at once.
HELD = 2**21
#: Most entries of a table that the library makes of its own accord: 256 MiB in double precision.
TABLE = 2**25


def squared_distances(
    x: Tensor, y: Tensor, x_mask: Tensor | None = None, y_mask: Tensor | None = None
) -> Tensor:
    """|x_i - y_j|^2 in float64, ``(n, *event), (m, *event) -> (n, m)``, over the elements both rows have.

    cost_ij = sum_k m_ik m_jk (x_ik - y_jk)^2, by matrix products.  A mask is True on valid elements, of
    shape ``(n, ...)`` or ``(m, ...)``, and stands for all event dimensions that it lacks; without one
    every element counts.  Invalid elements have no effect.  Both sides are centred first, so that a common
    offset costs no accuracy; distances that are small compared with a far row are computed from differences,
    so that every entry is right to at least 9 digits.

    Raises ValueError for events that differ, sides without rows, values that are not finite or have no finite
    square, and masks that do not fit.

    >>> squared_distances(torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 9.0]]))
    tensor([[73.]], dtype=torch.float64)
    >>> squared_distances(torch.zeros(1, 2), torch.tensor([[3.0, 9.0]]), y_mask=torch.tensor([[True, False]]))
    tensor([[9.]], dtype=torch.float64)
    """
    if x.ndim == 0 or x.shape[1:] != y.shape[1:]:
        raise ValueError(f"x, y: expected equal events, got shapes {tuple(x.shape)} and {tuple(y.shape)}")
    if len(x) == 0 or len(y) == 0:
        raise ValueError(f"x, y: expected at least one row each, got {len(x)} and {len(y)}")
    if x_mask is None and y_mask is None:
        p = q = None
        first, second = (z.reshape(len(z), -1).double() for z in (x, y))
        centre = 0.5 * (first.mean(0) + second.mean(0))
        a, b = first - centre, second - centre
        total = a.square().sum(1)[:, None] + b.square().sum(1)[None, :]
    else:
        p, q = _expanded("x_mask", x, x_mask), _expanded("y_mask", y, y_mask)
        first, second = _masked(x, p), _masked(y, q)
        centre = (first.sum(0) + second.sum(0)) / (p.sum(0) + q.sum(0)).clamp(min=1)
        a, b = (first - centre) * p, (second - centre) * q
        total = a.square() @ q.T + p @ b.square().T
    # numbers of 1e154 and more have no square; a sum is finite only where all of its terms are
    if not bool(total.sum().isfinite()):
        raise ValueError("x, y: expected finite values whose squares are finite")
    cost = torch.addmm(total, a, b.T, alpha=-2.0).clamp_(min=0.0)
    rows, columns = (cost < total.mul_(LOST)).nonzero().unbind(1)
    for i, j in zip(*(index.split(max(1, HELD // max(1, a.shape[1]))) for index in (rows, columns))):
        gap = (first[i] - second[j]).square_()
        if p is not None and q is not None:
            gap *= p[i] * q[j]
        cost[i, j] = gap.sum(1)
    return cost


def hamming_distances(
    x: Tensor, y: Tensor, x_mask: Tensor | None = None, y_mask: Tensor | None = None
) -> Tensor:
    """How many elements of x_i and y_j differ, ``(n, *event), (m, *event) -> (n, m)``, in float64.

    Elements that one of the rows lacks do not count; masks and errors are as in :func:`squared_distances`.

    >>> hamming_distances(torch.tensor([[0, 1, 2]]), torch.tensor([[0, 2, 1], [0, 1, 2]]))
    tensor([[2., 0.]], dtype=torch.float64)
    """
    if x.ndim == 0 or x.shape[1:] != y.shape[1:]:
        raise ValueError(f"x, y: expected equal events, got shapes {tuple(x.shape)} and {tuple(y.shape)}")
    if len(x) == 0 or len(y) == 0:
        raise ValueError(f"x, y: expected at least one row each, got {len(x)} and {len(y)}")
    p, q = _expanded("x_mask", x, x_mask).float(), _expanded("y_mask", y, y_mask).float()
    first, second = x.reshape(len(x), -1), y.reshape(len(y), -1)
    # whole numbers below 2^24, which single precision holds
    differ = p @ q.T
    for value in first.unique():
        differ -= ((first == value) * p) @ ((second == value) * q).T
    return differ.double()


def moved_together(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``(n, d)`` and ``(m, d)`` less their own means, if the two sides lie far apart.

    |x - y|^2 then differs by a term of x alone and one of y alone, which no balanced plan depends on.  Done
    where the means are further apart than twice the sum of both radii: every pair costs less afterwards, so
    that rounding takes less; elsewhere the rows are returned as they are.
    """
    first, second = x.mean(0), y.mean(0)
    apart = (first - second).norm()
    # the first rows alone mostly settle it
    for some in (slice(1), slice(None)):
        if not apart > 2 * ((x[some] - first).norm(dim=1).max() + (y[some] - second).norm(dim=1).max()):
            return x, y
    return x - first, y - second


def check_table(name: str, n: int, m: int, instead: str) -> None:
    """Raise ValueError where a table of ``n`` by ``m`` numbers would take more than 256 MiB."""
    if n * m > TABLE:
        raise ValueError(
            f"{name}: {n:,} and {m:,} rows need a table of {n * m / 2**17:,.0f} MiB, more than the 256 that "
            f"are allowed; {instead}"
        )


def _expanded(name: str, x: Tensor, mask: Tensor | None) -> Tensor:
    """The mask as numbers 0 and 1 of shape ``(n, elements)``."""
    if mask is None:
        return torch.ones(len(x), x[:1].numel(), dtype=torch.float64, device=x.device)
    if mask.ndim > x.ndim or mask.shape != x.shape[: mask.ndim]:
        raise ValueError(
            f"{name}: expected the first dimensions of shape {tuple(x.shape)}, got {tuple(mask.shape)}"
        )
    valid = mask.reshape(*mask.shape, *([1] * (x.ndim - mask.ndim))).expand_as(x)
    return valid.reshape(len(x), -1).double()


def _masked(x: Tensor, mask: Tensor) -> Tensor:
    # not by a product: padding may hold NaN
    return torch.where(mask > 0, x.reshape(len(x), -1).double(), 0.0)
