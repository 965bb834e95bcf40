"""Which rows are held out, and which repeat others."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .. import random


def split(n: int, holdout: float, seed: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Indices of training and test rows, in random order; round(holdout n) rows are held out.

    With ``labels`` ``(n,)`` every label gives its share, rounded so that the total stays, and keeps at
    least one training row.  Raises ValueError for a share outside [0, 1).

    >>> train, test = split(10, 0.3, seed=0)
    >>> len(train), len(test)
    (7, 3)
    """
    if not 0 <= holdout < 1:
        raise ValueError(f"holdout: expected a share in [0, 1), got {holdout}")
    order = torch.randperm(n, generator=random.seeded(seed, "split"))
    total = min(max(round(holdout * n), int(holdout > 0)), n - 1)
    if labels is None:
        return order[total:], order[:total]
    counts = torch.bincount(labels).double()
    share = total * counts / n
    take = share.floor()
    # The rows that rounding down left over go where the largest part was cut off.
    for label in (share - take).argsort(descending=True, stable=True)[: total - int(take.sum())]:
        take[label] += 1
    take = take.clamp(max=(counts - 1).clamp(min=0))
    # How many rows of the same label precede a row in the random order.
    rank = torch.empty(n, dtype=torch.long)
    shuffled = labels[order]
    for label in range(len(counts)):
        members = order[shuffled == label]
        rank[members] = torch.arange(len(members))
    held = (rank < take[labels])[order]
    return order[~held], order[held]


def repeats(*parts: np.ndarray) -> np.ndarray:
    """Whether a row equals an earlier one in all ``parts``, each ``(N, ...)``: a boolean ``(N,)``.

    >>> repeats(np.array([[1.0], [2.0], [1.0]]))
    array([False, False,  True])
    """
    seen: set[tuple[bytes, ...]] = set()
    found = np.zeros(len(parts[0]), dtype=bool)
    # Adding zero turns -0.0 into 0.0, which it equals.
    rows = [np.ascontiguousarray(part.reshape(len(part), -1) + 0) for part in parts]
    for i in range(len(found)):
        key = tuple(row[i].tobytes() for row in rows)
        found[i] = key in seen
        seen.add(key)
    return found
