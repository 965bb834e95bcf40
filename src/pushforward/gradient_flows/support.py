"""Points that carry the weights of a distribution."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..plans.cost import check_table, squared_distances


class Support(ABC):
    """Points ``(N, d)``, each for a part of space of ``volumes`` ``(N,)``.

    Weights w have the density w / volume.  What is computed has the points' dtype and device.
    """

    points: Tensor
    volumes: Tensor

    @abstractmethod
    def smooth(self, log_a: Tensor, length: float) -> Tensor:
        """log sum_j exp(-|x_i - x_j|^2 / (2 length^2)) a_j, ``(N,)`` from ``log a``."""

    def weights(self, density: Tensor) -> Tensor:
        """The weights, of sum 1, of a ``density`` ``(N,)`` or of any multiple of it.

        Raises ValueError for a shape that does not fit, and for numbers that are negative or not finite.
        """
        if density.shape != self.volumes.shape:
            raise ValueError(
                f"density: expected one number for each of {len(self.volumes)} points, "
                f"got shape {tuple(density.shape)}"
            )
        w = density.to(self.volumes) * self.volumes
        if not bool((w >= 0).all()) or not 0 < float(w.sum()) < math.inf:
            raise ValueError("density: expected finite numbers >= 0 that are not all 0")
        return w / w.sum()

    def moments(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``(d,)`` and covariance ``(d, d)`` of weights."""
        mean = w @ self.points
        centred = self.points - mean
        return mean, centred.T @ (w[:, None] * centred)


class Points(Support):
    """Any points, such as samples of a density q, which stand for volumes 1 / (N q).

    x: ``(N, d)``.  volumes: ``(N,)``, positive.

    Raises ValueError for shapes that do not fit, volumes that are not positive, and too many points for a
    table of all pairs.
    """

    def __init__(self, x: Tensor, volumes: Tensor):
        if x.ndim != 2 or volumes.shape != x.shape[:1]:
            raise ValueError(
                f"x, volumes: expected (N, d) and (N,), got {tuple(x.shape)} and {tuple(volumes.shape)}"
            )
        if not bool((volumes > 0).all()) or not bool(volumes.isfinite().all()):
            raise ValueError("volumes: expected positive numbers")
        check_table("x", len(x), len(x), "take fewer points, or a Grid")
        self.points, self.volumes = x, volumes.to(x)
        self.costs = squared_distances(x, x) / 2

    def smooth(self, log_a: Tensor, length: float) -> Tensor:
        return torch.logsumexp(log_a - self.costs / length**2, 1)


class Grid(Support):
    """The centres of equal cells of a box, first axis slowest.

    axes: for each dimension ``(low, high, cells)``.

    Raises ValueError for a box without volume and less than two cells.

    >>> grid = Grid((-1.0, 1.0, 4), dtype=torch.float64)
    >>> grid.points[:, 0]
    tensor([-0.7500, -0.2500,  0.2500,  0.7500], dtype=torch.float64)
    """

    def __init__(self, *axes: tuple[float, float, int], dtype: torch.dtype = torch.float64):
        if not axes:
            raise ValueError("axes: expected (low, high, cells) for each dimension, got none")
        self.axes: list[Tensor] = []
        volume = 1.0
        for low, high, cells in axes:
            if not (math.isfinite(low) and math.isfinite(high) and low < high) or cells < 2:
                raise ValueError(f"axes: expected low < high and at least 2 cells, got {(low, high, cells)}")
            width = (high - low) / cells
            self.axes.append(low + width * (torch.arange(cells, dtype=dtype) + 0.5))
            volume *= width
        self.shape = tuple(len(axis) for axis in self.axes)
        self.points = torch.cartesian_prod(*self.axes).reshape(-1, len(axes))
        self.volumes = torch.full((len(self.points),), volume, dtype=dtype)

    def smooth(self, log_a: Tensor, length: float) -> Tensor:
        # the kernel is a product over axes
        found = log_a.view(self.shape)
        for k, axis in enumerate(self.axes):
            costs = (axis[:, None] - axis).square() / (2 * length**2)
            last = found.movedim(k, -1)
            found = torch.logsumexp(last[..., None, :] - costs, -1).movedim(-1, k)
        return found.flatten()


def spacing(support: Support) -> float:
    """The typical distance of neighbouring points, the d-th root of the middle volume."""
    return float(support.volumes.median()) ** (1 / support.points.shape[1])


def check_same(support: Support, w: Tensor, name: str = "w") -> Tensor:
    """``w`` on the support; ValueError unless these are weights of sum 1 on it."""
    if w.shape != support.volumes.shape:
        raise ValueError(
            f"{name}: expected one weight for each of {len(support.volumes)} points, "
            f"got shape {tuple(w.shape)}"
        )
    if not bool((w >= 0).all()) or abs(float(w.sum()) - 1) > 1e-4:
        raise ValueError(f"{name}: expected weights >= 0 of sum 1, got a sum of {float(w.sum()):g}")
    return w.to(support.volumes)
