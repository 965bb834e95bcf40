"""Squared distances between all rows of two clouds."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distances(
    x: Tensor, y: Tensor, x_mask: Tensor | None = None, y_mask: Tensor | None = None
) -> Tensor:
    """|x_i - y_j|^2 in float64, ``(n, *event), (m, *event) -> (n, m)``, over the elements both rows have.

    cost_ij = sum_k m_ik m_jk (x_ik - y_jk)^2, by matrix products.  A mask is True on valid elements, of
    shape ``(n, ...)`` or ``(m, ...)``, and stands for all event dimensions that it lacks; without one
    every element counts.  What stands in invalid elements has no effect.  Both clouds are centred first,
    so that a common offset costs no accuracy.

    Raises ValueError for events that differ, clouds without rows and masks that do not fit.

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
        a, b = (z.reshape(len(z), -1).double() for z in (x, y))
        centre = 0.5 * (a.mean(0) + b.mean(0))
        a, b = a - centre, b - centre
        cost = a.square().sum(1)[:, None] + b.square().sum(1)[None, :]
        return torch.addmm(cost, a, b.T, alpha=-2.0).clamp_(min=0.0)
    p, q = _expanded("x_mask", x, x_mask), _expanded("y_mask", y, y_mask)
    a, b = _masked(x, p), _masked(y, q)
    centre = (a.sum(0) + b.sum(0)) / (p.sum(0) + q.sum(0)).clamp(min=1)
    a, b = (a - centre) * p, (b - centre) * q
    cost = a.square() @ q.T + p @ b.square().T
    return torch.addmm(cost, a, b.T, alpha=-2.0).clamp_(min=0.0)


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
