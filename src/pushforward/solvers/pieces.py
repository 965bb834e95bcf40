"""Solutions of equations whose velocity jumps at known times, one piece after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .problems import ODE, State, StateT, Velocity
from .solution import Solution, Status
from .state import as_entries, check_interval, check_save_at, like

#: Roundings of a time by which an evaluation keeps to its side of a jump.
ROUNDINGS = 2


def breaks_between(problem: Any, t0: float | Tensor, t1: float | Tensor) -> list[float]:
    """The jumps of the velocity strictly between ``t0`` and ``t1``, in the direction of travel."""
    breaks = getattr(problem, "breaks", ())
    if not breaks:  # times may be symbolic
        return []
    low, high = min(t0, t1), max(t0, t1)
    return sorted({t for t in breaks if low < t < high}, reverse=bool(t1 < t0))


def in_pieces(
    solve: Callable[..., Solution[StateT]],
    problem: ODE,
    x: StateT,
    moments: Sequence[float],
    save_at: Sequence[float] | Tensor | None,
) -> Solution[StateT]:
    """The solution by ``solve(problem, x, t0, t1, save_at)`` from each of ``moments`` to the next.

    A row that failed in one piece keeps its state, as in one solve.
    """
    check_interval(moments[0], moments[-1])
    first = as_entries(x)[0]
    times, tolerance = check_save_at(save_at, moments[0], moments[-1], first.dtype)
    left = [] if times is None else list(times)
    sign = 1.0 if moments[-1] > moments[0] else -1.0
    found: Solution[StateT] | None = None
    saved: list[tuple[Tensor, ...]] = []
    for start, stop in pairwise(moments):
        # a time that is a jump is the end of the piece before it
        here = left if stop == moments[-1] else [t for t in left if (stop - t) * sign >= -tolerance]
        left = left[len(here) :]
        inside = _Inside(problem.velocity, *_sides(start, stop, moments))
        asked = None if times is None else [min(max(t, min(start, stop)), max(start, stop)) for t in here]
        state = x if found is None else found.x
        new = solve(replace(problem, velocity=inside, breaks=()), state, start, stop, asked)
        path = () if new.path is None else as_entries(new.path)
        if found is not None:
            failed = found.status != Status.OK
            path = tuple(_where(failed, torch.full_like(p, math.nan), p, 1) for p in path)
            kept = tuple(_where(failed, a, b) for a, b in zip(as_entries(state), as_entries(new.x)))
            status = torch.where(failed, found.status, new.status)
            new = Solution(like(x, kept), found.nfe + new.nfe, found.calls + new.calls, status)
        saved.append(path)
        found = new
    assert found is not None
    if times is None:
        return found
    whole = like(x, tuple(torch.cat(parts) for parts in zip(*saved)))
    return replace(found, times=first.new_tensor(times), path=whole)


class _Inside:
    """``velocity`` at times strictly between ``low`` and ``high``: none sees what is beyond a jump."""

    def __init__(self, velocity: Velocity, low: float, high: float):
        self.velocity, self.low, self.high = velocity, low, high

    def __call__(self, t: Tensor, x: State) -> Any:
        return self.velocity(self._at(t), x)

    def leading(self, t: Tensor, x: State) -> Any:
        """As :class:`~pushforward.solvers.WithIntegrals` has it; all of the velocity where it has none."""
        return getattr(self.velocity, "leading", self.velocity)(self._at(t), x)

    def _at(self, t: Tensor) -> Tensor:
        size = max(abs(end) for end in (self.low, self.high) if abs(end) < math.inf)
        margin = ROUNDINGS * torch.finfo(t.dtype).eps * size
        return t.clamp(self.low + margin, self.high - margin)


def _sides(start: float, stop: float, moments: Sequence[float]) -> tuple[float, float]:
    """The jumps around a piece, infinite where it has none."""
    low, high = min(start, stop), max(start, stop)
    ends = moments[0], moments[-1]
    return (-math.inf if low in ends else low), (math.inf if high in ends else high)


def _where(rows: Tensor, a: Tensor, b: Tensor, front: int = 0) -> Tensor:
    """``a`` in some rows and ``b`` in the others, with ``front`` dimensions before the rows."""
    shape = (1,) * front + tuple(rows.shape) + (1,) * (b.ndim - front - rows.ndim)
    return torch.where(rows.view(shape), a, b)
