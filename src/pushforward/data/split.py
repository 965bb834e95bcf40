"""The rows that are held out, and those that repeat others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import random
from .text import is_whole


def split(n: int, holdout: float, seed: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Indices of training and test rows, in random order; round(holdout n) rows are held out.

    With ``labels`` ``(n,)`` every label gives its share, rounded so that the total stays, and keeps at
    least one training row.  With ``(n, k)``, of k columns, so does every combination, those of one row
    together, and every label of a column keeps a training row.  Raises ValueError for a share outside [0, 1),
    no rows, and labels that are no integers or not one a row.

    >>> train, test = split(10, 0.3, seed=0)
    >>> len(train), len(test)
    (7, 3)
    """
    if not is_whole(n) or n < 1:
        raise ValueError(f"n: expected at least one row, got {n!r}")
    check_share(holdout)
    if labels is not None and (
        labels.ndim not in (1, 2)
        or len(labels) != n
        or labels.is_floating_point()
        or bool((labels < 0).any())
    ):
        got = f"shape {tuple(labels.shape)} of {labels.dtype}"
        raise ValueError(f"labels: expected integers of at least 0 for {n} rows, got {got}")
    order = torch.randperm(n, generator=random.seeded(seed, "split"))
    total = min(max(round(holdout * n), int(holdout > 0)), n - 1)
    if labels is None:
        return order[total:], order[:total]
    strata = labels if labels.ndim == 1 else _combinations(labels)
    counts = torch.bincount(strata).double()
    share = total * counts / n
    take = share.floor()
    # The rows that rounding down left over go where the largest part was cut off.
    for label in (share - take).argsort(descending=True, stable=True)[: total - int(take.sum())]:
        take[label] += 1
    take = take.clamp(max=(counts - 1).clamp(min=0))
    # How many rows of the same label precede a row in the random order.
    together = strata[order].argsort(stable=True)
    rank = torch.empty(n, dtype=torch.long)
    rank[order[together]] = torch.arange(n) - (counts.cumsum(0) - counts).long()[strata[order[together]]]
    held = (rank < take[strata])[order]
    for column in labels[order].reshape(n, -1).T:
        held &= torch.isin(column, column[~held])
    return order[~held], order[held]


@dataclass(frozen=True)
class Stretches:
    """Rows that are windows of stretches of something long, so many of each, in their order.

    windows: of a stretch.  apart: numbers from the beginning of one to that of the next.

    >>> Stretches(windows=2, apart=1).texts(torch.tensor([[0, 1], [1, 2], [5, 6], [6, 7]]))
    tensor([[0, 1, 2],
            [5, 6, 7]])
    """

    windows: int
    apart: int

    @staticmethod
    def parted(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
        """The numbers of the stretches that are held out, and of the others, both rising."""
        rest, held = split(count, share, seed)
        return sorted(held.tolist()), sorted(rest.tolist())

    def split(self, rows: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
        """The numbers of the ``rows`` that stay and of those that are held out, by whole stretches."""
        held, rest = self.parted(rows // self.windows, share, seed)
        each = torch.arange(self.windows)
        stay, go = (torch.tensor(part, dtype=torch.int64)[:, None] * self.windows for part in (rest, held))
        return (stay + each).flatten(), (go + each).flatten()

    def beside(self, rows: int, size: int) -> Tensor:
        """The numbers of those of the ``rows`` of ``size`` that do not overlap others, each stretch from its
        beginning."""
        return torch.arange(rows).reshape(-1, self.windows)[:, :: size // self.apart].flatten()

    def texts(self, x: Tensor) -> Tensor:
        """The stretches ``(n, length)`` whose windows the rows ``(N, size)`` are."""
        windows = x.unflatten(0, (-1, self.windows))
        return torch.cat([windows[:, :-1, : self.apart].flatten(1), windows[:, -1]], 1)


def check_share(holdout: float) -> None:
    """Raise ValueError unless ``holdout`` is a share of the rows below all of them."""
    known = isinstance(holdout, int | float | np.number) and not isinstance(holdout, bool)
    if not (known and 0 <= holdout < 1):
        raise ValueError(f"holdout: expected a share in [0, 1), got {holdout!r}")


def _combinations(labels: Tensor) -> Tensor:
    """The number of every row's combination of labels; those of a single row count as one combination."""
    _, index, counts = labels.unique(dim=0, return_inverse=True, return_counts=True)
    single = counts[index] == 1
    return torch.where(single, len(counts), index) if bool(single.any()) else index


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
