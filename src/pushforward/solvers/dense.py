"""Dense output of steps that differ from row to row."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .tableau import Tableau


class Dense:
    """Collects the dense output of accepted steps, at times strictly between the ends."""

    def __init__(self, tableau: Tableau, y: Tensor, times: list[float]):
        self.times = torch.tensor(times, dtype=y.dtype, device=y.device)
        self.weights = torch.tensor(tableau.dense, dtype=y.dtype, device=y.device)  # (stages, degree)
        self.powers = torch.arange(1, self.weights.shape[1] + 1, device=y.device)
        self.blank = y.new_full((len(times), *y.shape), math.nan)
        self.places: list[tuple[Tensor, Tensor]] = []
        self.values: list[Tensor] = []

    def record(
        self, t: Tensor, t_next: Tensor, accept: Tensor, step: Tensor, y: Tensor, stages: list[Tensor]
    ) -> None:
        """Evaluate the interpolant, x + h sum_i b_i(theta) k_i, where an accepted step contains a time."""
        times = self.times[:, None]
        which, rows = ((times > t) & (times <= t_next) & accept).nonzero(as_tuple=True)
        if not len(rows):
            return
        theta = (self.times[which] - t[rows]) / (t_next - t)[rows]
        weights = (theta[:, None] ** self.powers) @ self.weights.T
        slopes = torch.stack([stage[rows] for stage in stages], 1)  # (n, stages, D)
        self.places.append((which, rows))
        self.values.append(torch.addcmul(y[rows], step[rows, None], (weights[:, :, None] * slopes).sum(1)))

    def path(self) -> Tensor:
        """``(S, B, D)``, NaN at the times that a row did not reach."""
        if not self.values:
            return self.blank
        which, rows = (torch.cat(index) for index in zip(*self.places))
        return self.blank.index_put((which, rows), torch.cat(self.values))
