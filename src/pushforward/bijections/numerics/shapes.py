"""The shapes that bijections ask of their arguments."""

from __future__ import annotations

from torch import Tensor


def check_entries(x: Tensor, count: int) -> None:
    """Raise ValueError unless rows ``(B, count, ...)`` came."""
    if x.ndim < 2 or x.shape[1] != count:
        raise ValueError(f"x: expected {count} entries along dimension 1, got shape {tuple(x.shape)}")


def check_vectors(x: Tensor, dim: int) -> None:
    """Raise ValueError unless rows ``(B, dim)`` came."""
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"x: expected shape (B, {dim}), got {tuple(x.shape)}")


def take_entries(x: Tensor, order: Tensor) -> Tensor:
    """``x[:, order]``, lying in memory as x does: by rows, or with the rows of a batch last."""
    if x.stride(1) > x.stride(0):
        return x.movedim(1, 0).index_select(0, order).movedim(0, 1)
    return x.index_select(1, order)
