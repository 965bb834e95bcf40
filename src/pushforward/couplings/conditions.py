"""Comparison of the conditions of two marginals."""

from __future__ import annotations

import torch
from torch import Tensor

from ..rows import Rows
from ..tensors import Condition

#: A kind of condition on both sides.
Sides = tuple[Rows, Rows]


def compare(source: Rows, target: Rows) -> tuple[list[tuple[Tensor, Tensor]], list[Sides]]:
    """Labels of both sides, and other conditions of both sides with their masks, entry by entry.

    Raises ValueError for conditions on one side only, and entries that differ in name, kind or shape.
    """
    c0, c1 = source.condition, target.condition
    if c0 is None and c1 is None:
        return [], []
    if c0 is None or c1 is None:
        side = "source" if c0 is None else "target"
        raise ValueError(f"{side}.condition: expected conditions on both sides or on none, got none here")
    named = _entries(c0), _entries(c1)
    if named[0].keys() != named[1].keys():
        raise ValueError(f"condition: expected equal entries, got {sorted(named[0])} and {sorted(named[1])}")
    # the source's rows are drawn under the target's conditions, and then have their lengths too
    masks = target.mask if source.mask is None and c0 is c1 else source.mask, target.mask
    labels, others = [], []
    for name, a in named[0].items():
        b = named[1][name]
        fits = a.shape[:1] == (len(source),) and b.shape[:1] == (len(target),) and a.shape[1:] == b.shape[1:]
        if not fits or _is_label(a) != _is_label(b):
            raise ValueError(
                f"{name}: expected {len(source)} and {len(target)} rows of one kind, "
                f"got {a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}"
            )
        if _is_label(a):
            labels.append((a, b))
        else:
            pair = [Rows(c.detach(), mask=_fitting(mask, c)) for c, mask in zip((a, b), masks)]
            others.append((pair[0], pair[1]))
    return labels, others


def _entries(condition: Condition) -> dict[str, Tensor]:
    return {"condition": condition} if isinstance(condition, Tensor) else dict(condition)


def _is_label(condition: Tensor) -> bool:
    return condition.ndim == 1 and not condition.is_floating_point()


def _fitting(mask: Tensor | None, condition: Tensor) -> Tensor | None:
    """The mask where it is one of the condition's elements too: one flag a row says nothing of them."""
    if mask is None or mask.ndim < 2 or condition.shape[: mask.ndim] != mask.shape:
        return None
    return mask


def classes(labels: list[tuple[Tensor, Tensor]], source: Rows, target: Rows) -> tuple[Tensor, Tensor]:
    """The number of each row's combination of labels, ``(n,)`` and ``(m,)``."""
    n, m = len(source), len(target)
    if not labels:
        one = torch.zeros(n + m, dtype=torch.int64, device=source.x.device)
        return one[:n], one[n:]
    both = torch.stack([torch.cat([c0.long(), c1.long()]) for c0, c1 in labels], 1)
    index = both.unique(dim=0, return_inverse=True)[1]
    return index[:n], index[n:]
