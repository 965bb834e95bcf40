"""Gradients of a solution by its times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import torch
from torch import Tensor

from .problems import ODE, StateT
from .solution import Solution
from .state import Entries, like, stack_states


def has_gradient(t: Any) -> TypeGuard[Tensor]:
    """Whether gradients by ``t`` are recorded."""
    return torch.is_grad_enabled() and isinstance(t, Tensor) and t.requires_grad


def by_times(
    solve: Callable[..., Solution[StateT]],
    problem: Any,
    x: StateT,
    ends: tuple[float | Tensor, float | Tensor],
    save_at: Sequence[float] | Tensor | None,
    rows: bool,
) -> Solution[StateT]:
    """The solution by ``solve(problem, x, t0, t1, save_at)``, with gradients by those times that need some.

    dx(t1)/dt1 = f(t1, x(t1)), the same at the times of ``save_at``, and dx(t)/dt0 as if x(t0) moved by
    -f(t0, x(t0)) dt0: derivatives of the exact solution, whatever the steps.  Each time that needs gradients
    costs an evaluation, which is not counted.  ``rows`` says that the velocity is given a time for each row.
    """
    for name, t in zip(("t0", "t1"), ends):
        if isinstance(t, Tensor) and t.ndim != 0:
            raise ValueError(f"{name}: expected a number, got shape {tuple(t.shape)}")
    if any(map(has_gradient, (*ends, save_at))) and not isinstance(problem, ODE):
        kind = type(problem).__name__
        raise ValueError(f"t0, t1, save_at: only an ODE has gradients by its times, got {kind}")

    def entries(state: Any) -> Entries:
        return (state,) if isinstance(state, Tensor) else tuple(state)

    def moved(state: Entries, t: Any, sign: float = 1.0) -> Entries:
        if not has_gradient(t):
            return state
        at = t.detach().to(state[0])
        with torch.no_grad():
            time = at.expand(len(state[0])) if rows and problem.batched else at
            slopes = entries(problem.velocity(time, like(x, state)))
        return tuple(part + sign * f * (t - t.detach()).to(part) for part, f in zip(state, slopes))

    t0, t1 = (float(t.detach()) if isinstance(t, Tensor) else t for t in ends)
    asked = save_at.detach() if isinstance(save_at, Tensor) else save_at
    found = solve(problem, like(x, moved(entries(x), ends[0], -1.0)), t0, t1, asked)
    path = found.path
    if path is not None and has_gradient(save_at):
        states = [moved(tuple(part[i] for part in entries(path)), t) for i, t in enumerate(save_at)]
        path = like(x, stack_states(states, entries(x)))
    return replace(found, x=like(x, moved(entries(found.x), ends[1])), path=path)
