"""The Fokker-Planck equation on a line, by finite volumes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..nn.checks import check_number
from .energies import Potential
from .support import Grid, check_same


def fokker_planck(
    potential: Potential, grid: Grid, w: Tensor, times: Sequence[float], diffusion: float = 1.0
) -> Tensor:
    r"""Weights ``(len(times), N)`` at ``times`` of d rho/dt = (rho V')' + D rho'', from ``w`` at t = 0.

    Mass goes from cell i to its neighbour j at the rate

    .. math:: \frac{D}{\Delta^2} B\!\left(\frac{V_j - V_i}{D}\right), \qquad B(u) = \frac{u}{e^u - 1}

    (Scharfetter & Gummel 1969, doi 10.1109/T-ED.1969.16566), not through the ends.  exp(-V/D) is then
    stationary exactly, mass is kept, weights stay positive, and the error falls as the square of the width
    of a cell.  Time is exact: the matrix exponential.

    Raises ValueError for a grid of more than one dimension, negative times and weights that do not fit.

    >>> grid = Grid((-8.0, 8.0, 160))
    >>> start = grid.weights((-grid.points[:, 0] ** 2 / 8).exp())
    >>> end = fokker_planck(Potential(lambda x: x[:, 0] ** 2 / 2), grid, start, [0.5])[0]
    >>> grid.moments(end)[1]  # 1 + 3 exp(-1)
    tensor([[2.1048]], dtype=torch.float64)
    """
    if len(grid.axes) != 1:
        raise ValueError(f"grid: expected one dimension, got {len(grid.axes)}")
    if any(t < 0 for t in times):
        raise ValueError(f"times: expected numbers >= 0, got {[*times]}")
    heat, w = check_number("diffusion", diffusion, 0), check_same(grid, w)
    width = float(grid.volumes[0])
    rise = potential(grid.points).to(w).diff() / heat
    up, down = heat / width**2 * _bernoulli(rise), heat / width**2 * _bernoulli(-rise)
    rates = torch.diag(up, -1) + torch.diag(down, 1)  # rates[j, i]: from i to j
    rates = rates - torch.diag(rates.sum(0))
    return torch.stack([torch.linalg.matrix_exp(rates * t) @ w for t in times])


def _bernoulli(u: Tensor) -> Tensor:
    """u / (exp(u) - 1), 1 at 0."""
    small = u.abs() < 1e-8
    return torch.where(small, 1 - u / 2, u / torch.expm1(torch.where(small, 1.0, u)))
