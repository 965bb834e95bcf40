"""Flow maps: whether two leaps arrive where one does."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..random import uniform
from ..tensors import event_size

#: X_{s,t}(x) of rows ``(B, *event)``, for scalar times.
Jump = Callable[[Tensor, Tensor, Tensor], Tensor]


def composition_gap(jump: Jump, x: Tensor, s: Tensor, u: Tensor, t: Tensor) -> float:
    """E|X_{u,t}(X_{s,u}(x)) - X_{s,t}(x)|^2 over the variance of X_{s,t}(x), for rows ``x`` at the time s.

    0 for an exact map.  Raises ValueError for fewer than two rows.

    >>> exact = lambda s, t, x: (s - t).exp() * x
    >>> composition_gap(exact, torch.eye(2).double(), *torch.tensor([0.0, 0.5, 1.0]).double()) < 1e-20
    True
    """
    if len(x) < 2:
        raise ValueError(f"x: expected at least 2 rows, got {len(x)}")
    direct = jump(s, t, x).flatten(1).double()
    gap = jump(u, t, jump(s, u, x)).flatten(1).double() - direct
    spread = (direct - direct.mean(0)).square().sum(1).mean()
    return float(gap.square().sum(1).mean() / spread)


def composition_error(
    jump: Jump,
    x0: Tensor,
    interval: tuple[float, float] = (0.0, 1.0),
    draws: int = 64,
    generator: torch.Generator | None = None,
) -> float:
    """The mean of :func:`composition_gap` over times s < u < t, three sorted uniform draws on ``interval``.

    ``x0`` ``(B, *event)`` are rows at the start of the interval; the map itself carries them to s.  ``draws``
    is how many triples of times are averaged.  A map that has learnt the solution of an equation has an error
    near 0; two steps of Euler do not arrive where one does.  Boffi et al. 2024, arXiv 2406.07507.

    Raises ValueError for fewer than two rows or no draws, and for an interval that does not rise.

    >>> euler = lambda s, t, x: x - (t - s) * x
    >>> generator = torch.Generator().manual_seed(0)
    >>> composition_error(euler, torch.eye(2), generator=generator) > 1e-3
    True
    """
    lo, hi = interval
    if draws < 1:
        raise ValueError(f"draws: expected at least 1, got {draws}")
    if not lo < hi:
        raise ValueError(f"interval: expected a start before its end, got {interval}")
    if not event_size(x0.shape):
        raise ValueError(f"x0: expected rows of numbers, got shape {tuple(x0.shape)}")
    times = lo + (hi - lo) * uniform((draws, 3), generator, torch.float64).sort(1).values
    start, total = x0.new_tensor(lo), 0.0
    for s, u, t in times.to(x0):
        total += composition_gap(jump, jump(start, s, x0), s, u, t)
    return total / draws
