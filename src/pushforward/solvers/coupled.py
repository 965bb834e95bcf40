"""Adaptive steps of one coupled system, whose time, step and error are plain numbers."""

from __future__ import annotations

import math
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor

from .control import BETA, FLOOR, GROW, SAFETY, SHRINK, Control
from .dense import Dense
from .one_row import OneRow, each
from .rows import Rows
from .solution import Status
from .state import Evaluation
from .tableau import Tableau, combine


class Method(Protocol):
    """What is asked of an adaptive solver."""

    tableau: ClassVar[Tableau]
    rtol: float
    atol: float
    max_steps: int

    def _begin(
        self, field: Rows, y: Tensor, t0: float, t1: float, controlled: int, before: Tensor | None
    ) -> tuple[Tensor, Tensor, Control, Tensor]: ...

    def _size(self, errors: Tensor) -> Tensor: ...


def march_system(
    solver: Method,
    field: Rows,
    y: Tensor,
    t0: float,
    t1: float,
    controlled: int,
    dense: Dense | None,
    before: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What :meth:`Adaptive._march` does, for a batch of one row ``(1, D)``.

    The host reads one number a step, the error, and a step has half of the operations beside the velocity.
    A trial step that is not finite is left out of the graph of gradients, without a second evaluation.
    """
    _, k, rows, nfe = solver._begin(field, y, t0, t1, controlled, before)
    system, control, t, steps = System(field), SystemControl(rows), t0, 0
    while control.active and steps < solver.max_steps:
        steps += 1
        last = t1 - t <= 1.01 * control.h
        t_next = t1 if last else t + control.h
        step = t_next - t
        y_next, stages = system.step(solver.tableau, t, t_next, y, k)
        with torch.no_grad():
            error = scaled_error(solver, step, y, y_next, stages, controlled)
        if control.judge(error, step, last):
            if dense is not None:
                record = y.new_tensor([[t], [t_next], [field.sign * step]])
                dense.record(record[0], record[1], record[0].isfinite(), record[2], y, stages)
            t, y, k = t_next, y_next, stages[-1]
    status = Status.OK if t == t1 else Status.STEP_TOO_SMALL
    status = Status.MAX_STEPS if control.active else Status.NON_FINITE if control.broken else status
    found = torch.full_like(nfe, int(status))
    if before is not None and int(before) != Status.OK:
        found, nfe, steps = before, torch.zeros_like(nfe), 0
    return y, nfe + steps * (len(solver.tableau.b) - 1), found


class System:
    """The velocity of a coupled system on its state as one row ``(1, D)``, called without the row."""

    def __init__(self, field: Rows):
        self.field, given = field, field.evaluation
        inside = cast(OneRow, given.velocity).velocity
        self.evaluation = Evaluation(inside, each(lambda part: part[0], given.x))

    def __call__(self, t: float, y: Tensor, leading: bool) -> Tensor:
        self.field.evaluation.calls += 1
        events, sizes = self.field.events, self.field.sizes
        parts = y.split(sizes, 1) if len(sizes) > 1 else (y,)
        entries = tuple(part.reshape(event) for part, event in zip(parts, events))
        slopes = self.evaluation(self.field.sign * t, entries, leading)
        rows = [slope.reshape(1, size) for slope, size in zip(slopes, sizes)]
        return rows[0] if len(rows) == 1 else torch.cat(rows, 1)

    def step(
        self, tableau: Tableau, t: float, t_next: float, y: Tensor, k: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """One trial step from velocity ``k``: the new row and all stages, as :meth:`Rows.step` makes it."""
        step, stages, y_next = t_next - t, [k], y
        for c, row, over in zip(tableau.c[1:], tableau.a[1:], tableau.passed_over[1:]):
            factor, total = combine(row, stages)
            y_next = torch.add(y, total, alpha=self.field.sign * step * factor)
            stages.append(self(t_next if c == 1.0 else t + c * step, y_next, over))
        return y_next, stages


def scaled_error(
    solver: Method, step: float, y: Tensor, y_next: Tensor, stages: list[Tensor], controlled: int
) -> float:
    """The error of a trial step in units of the tolerance, infinite where something is not finite."""
    factor, error = combine(solver.tableau.error, stages)
    error = whole = torch.add(error, y_next, alpha=0.0)  # NaN where either is not finite
    if controlled < y.shape[1]:
        error, y, y_next = error[:, :controlled], y[:, :controlled], y_next[:, :controlled]
    scale = torch.maximum(y.abs(), y_next.abs()).mul_(solver.rtol).add_(solver.atol)
    size = solver._size((error * (factor * step)).div_(scale))
    if whole is not error:
        size = torch.add(size, whole.sum(), alpha=0.0)
    found = float(size)
    return found if found < math.inf else math.inf


class SystemControl:
    """:class:`Control` of one row, in numbers of the host.

    h: the length of the next step.  active: whether it is to be made.  broken: whether the velocity is not
    finite.
    """

    def __init__(self, rows: Control):
        self.h, self.active, self.broken = float(rows.h), bool(rows.active), bool(rows.broken)
        self.tiny, self.exponent, self.floor = rows.tiny, rows.exponent, rows.floor
        self.longest = rows.longest or math.inf
        self.memory, self.limit = SAFETY * FLOOR**BETA, GROW

    def judge(self, error: float, step: float, last: bool) -> bool:
        """Whether a step is accepted, by its scaled error, which is infinite where the step is not finite."""
        finite, short = error < math.inf, self.floor > 0.0 and min(step, self.h) <= self.floor
        accept = error <= 1.0 or (finite and short)
        factor = self.limit if error == 0.0 else self.memory * error**self.exponent
        self.h = step * min(max(factor, SHRINK), self.limit)
        self.limit = GROW if accept else 1.0  # no growth right after a rejection
        if accept:
            self.memory = SAFETY * max(error, FLOOR) ** BETA
            self.active = not last
        if self.active and (self.h < self.tiny or (short and not finite)):
            self.active, self.broken = False, not finite
        self.h = min(max(self.h, self.floor), self.longest)
        return accept
