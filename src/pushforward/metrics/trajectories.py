"""Trajectories of a flow: straightness, energy and transport cost."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tensors import takes_arrays
from .transport import wasserstein


def _velocities(path: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Positions and finite-difference velocities as float64 rows, with the lengths of the intervals."""
    t = torch.as_tensor(times).detach().double().cpu()
    if t.ndim != 1 or len(t) < 2 or path.ndim < 2 or len(path) != len(t):
        raise ValueError(
            "path, times: expected (T, B, *event) and (T,) with T >= 2, "
            f"got {tuple(path.shape)} and {tuple(t.shape)}"
        )
    if path.shape[1] == 0 or not bool(path.isfinite().all()):
        raise ValueError(f"path: expected at least one row of finite values, got shape {tuple(path.shape)}")
    dt = t.diff()
    if not bool((dt > 0).all()):
        raise ValueError("times: expected increasing times")
    x = path.detach().reshape(*path.shape[:2], -1).double().cpu()
    return x, x.diff(dim=0) / dt[:, None, None], dt


@takes_arrays
def straightness(path: Tensor, times: Tensor, x0: Tensor | None = None, x1: Tensor | None = None) -> float:
    """S = int_0^1 E|dx_t/dt - (x1 - x0)|^2 dt of a trajectory; 0 if all are straight with constant speed.

    ``path`` is ``(T, B, *event)`` at increasing ``times`` ``(T,)``, x0 and x1 ``(B, *event)`` its ends (by
    default the first and last states).  Velocities are finite differences of the states, which underestimate
    S by O(dt^2).  The unit is that of the data, squared.  Raises ValueError for shapes that do not fit and
    times that do not increase.  Liu et al. 2023, arXiv 2209.03003, eq. 5.

    >>> t = torch.linspace(0, 1, 5)
    >>> straightness(torch.stack([t, 2 * t], 1)[..., None], t)
    0.0
    """
    x, velocity, dt = _velocities(path, times)
    for name, end in (("x0", x0), ("x1", x1)):
        if end is not None and end.shape != path.shape[1:]:
            raise ValueError(f"{name}: expected shape {tuple(path.shape[1:])}, got {tuple(end.shape)}")
    start = x[0] if x0 is None else x0.detach().reshape(x[0].shape).double().cpu()
    stop = x[-1] if x1 is None else x1.detach().reshape(x[0].shape).double().cpu()
    return float(dt @ (velocity - (stop - start)).square().sum(-1).mean(1))


@takes_arrays
def total_curvature(path: Tensor, times: Tensor) -> float:
    """E int |kappa| ds of a trajectory ``(T, B, *event)`` at ``times``: by how much it turns, in radians.

    The sum of the angles between successive displacements; 0 for straight lines at whatever speed, unlike
    :func:`straightness`.  States that do not move turn by nothing.  Milnor 1950, doi 10.2307/1969467.

    >>> corner = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]], [[1.0, 2.0]]])
    >>> total_curvature(corner, torch.tensor([0.0, 0.5, 1.0]))  # a right angle
    1.5707963267948966
    """
    _, velocity, _ = _velocities(path, times)
    # of the angle's tangent, for the cosine of small angles loses half of the digits
    a, b = (torch.nn.functional.normalize(v, dim=-1) for v in (velocity[:-1], velocity[1:]))
    moves = (velocity[:-1].norm(dim=-1) > 0) & (velocity[1:].norm(dim=-1) > 0)
    angle = 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))
    return float(torch.where(moves, angle, 0.0).sum(0).mean())


@takes_arrays
def path_energy(path: Tensor, times: Tensor) -> float:
    """int E|dx_t/dt|^2 dt of a trajectory ``(T, B, *event)`` at ``times``: the kinetic energy.

    It is at least the transport cost of the ends, with equality for straight lines at constant speed.
    Velocities are those of :func:`straightness`.  Benamou & Brenier 2000, doi 10.1007/s002110050002.

    >>> path_energy(torch.tensor([[[0.0]], [[3.0]]]), torch.tensor([0.0, 1.0]))
    9.0
    """
    _, velocity, dt = _velocities(path, times)
    return float(dt @ velocity.square().sum(-1).mean(1))


@takes_arrays
def transport_cost(x0: Tensor, x1: Tensor) -> float:
    """E|x1 - x0|^2 of paired rows ``(B, *event)``, in squared units of the data.

    Raises ValueError for shapes that differ.

    >>> transport_cost(torch.zeros(2, 2), torch.ones(2, 2))
    2.0
    """
    if x0.shape != x1.shape or len(x0) == 0:
        raise ValueError(
            f"x0, x1: expected equal shapes of at least one row, got {tuple(x0.shape)} and {tuple(x1.shape)}"
        )
    gap = x1.detach().double().cpu() - x0.detach().double().cpu()
    return float(gap.reshape(len(gap), -1).square().sum(1).mean())


@takes_arrays
def optimal_cost(x0: Tensor, x1: Tensor) -> float:
    """The least :func:`transport_cost` over all pairings of these rows: W_2^2 of the two samples.

    >>> optimal_cost(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [0.0]]))
    0.0
    """
    return wasserstein(x0, x1, p=2) ** 2


@takes_arrays
def normalised_path_energy(path: Tensor, times: Tensor, target: Tensor | None = None) -> float:
    """|path energy - W_2^2| / W_2^2, with W_2 between the first states and ``target`` (default: the last).

    0 for optimal transport of the source.  Raises ValueError if W_2 is 0.  Tong et al. 2024, arXiv
    2307.03672, eq. 22.

    >>> normalised_path_energy(torch.tensor([[[0.0]], [[2.0]], [[2.0]]]), torch.tensor([0.0, 0.5, 1.0]))
    1.0
    """
    least = optimal_cost(path[0], path[-1] if target is None else target)
    if least == 0:
        raise ValueError("target: it equals the start of the path, so there is nothing to divide by")
    return abs(path_energy(path, times) - least) / least
