"""What a continuous flow on a manifold does besides: points are checked, and put back onto it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..manifolds import Manifold
from ..solvers import Solution


def check_points(manifold: Manifold | None, rows: Tensor, event: tuple[int, ...], name: str) -> Tensor:
    """``rows`` ``(..., *event)``, or a ValueError where they are off it; other shapes pass."""
    if manifold is not None and tuple(rows.shape[rows.ndim - len(event) :]) == tuple(event):
        manifold.check(rows.reshape(-1, *event), name)
    return rows


def retraction(manifold: Manifold | None) -> Callable[[Any], Any] | None:
    """What puts states back after each step: points, or points and what is integrated along with them."""
    if manifold is None:
        return None

    def back(state: Any) -> Any:
        if isinstance(state, Tensor):
            return manifold.project(state)
        return manifold.project(state[0]), *state[1:]

    return back


def landed(manifold: Manifold | None, x: Tensor) -> Tensor:
    """Points put back onto the manifold, off which the errors of a solver lead."""
    return x if manifold is None else manifold.project(x)


def landed_path(manifold: Manifold | None, found: Solution[Tensor]) -> Solution[Tensor]:
    """A solution with all of its states on the manifold."""
    if manifold is None or found.path is None:
        return found
    path = landed(manifold, found.path.flatten(0, 1)).reshape(found.path.shape)
    return replace(found, x=landed(manifold, found.x), path=path)


def landed_log_det(
    manifold: Manifold | None, x: Tensor, x_end: Tensor, log_det: Tensor
) -> tuple[Tensor, Tensor]:
    """End and log-determinant by the volume of the manifold, from those by the volume of coordinates."""
    if manifold is None:
        return x_end, log_det
    x_end = manifold.project(x_end)
    return x_end, log_det + manifold.log_scale(x_end) - manifold.log_scale(x)
