"""Adaptive Runge-Kutta methods with a separate step size for every row of the batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..nn.checks import check_count
from ..tensors import is_vmapped
from .base import Task
from .control import Control
from .coupled import march_system
from .dense import Dense
from .problems import StateT
from .row_wise import Remaining
from .rows import Rows
from .solution import Solution, Status
from .state import finite_rows
from .tableau import Tableau, TableauSolver, combine


class Adaptive(TableauSolver):
    """An embedded Runge-Kutta pair whose last stage is the next step's first; a method is a Tableau.

    rtol, atol: a step of a row is accepted if the ``norm`` over the elements of error / (atol + rtol max(|x|,
        |x'|)) is at most one.  The norm is that of the first ``problem.controlled`` entries of the state.
    max_steps: most trial steps of a row between two jumps, accepted or not; a row that needs more ends with
        MAX_STEPS.
    first_step: length of the first trial step; None estimates one for each row by one evaluation (Hairer,
        Norsett & Wanner 1993, section II.4).
    min_step: a step as short as this is accepted whatever its error, if it is finite.  max_step: no step is
        longer; both are lengths of time.
    jumps: times at which the velocity is not smooth.  Steps end there, and the velocity is evaluated a
        rounding before and after, so that it does not matter which of its sides it has at the time itself.
        Other times are hit exactly in the same way.
    norm: how large an error is: ``(B, D) -> (B,)`` of the errors in units of the tolerance; by default the
        root mean square.

    Every row has its own time, step and acceptance, so that no row changes the result or ``nfe`` of another.
    The velocity is called on the whole batch with ``t`` of shape ``(B,)``; finished rows do not move.  Where
    it is a :class:`RowWise` and no times are saved, it is called with those that are left.  A system without
    rows has one time and one step, which are plain numbers.  ``nfe`` counts the evaluations before a row has
    finished.  A trial step that is not finite is repeated with a shorter one.  A row fails with
    STEP_TOO_SMALL or NON_FINITE, and keeps its last accepted state, when its step falls below 16 roundings
    of the time, or if its velocity is not finite at the start; the others continue.

    Dense output is the method's own interpolant, exact at ``t0`` and ``t1``.  Backpropagation goes through
    the accepted steps and treats step sizes as constants.  If gradients are recorded, a trial step that is
    not finite costs a second evaluation of the batch (in ``calls``, not in ``nfe``), because a masked NaN
    would make the gradient NaN.  Gradients of a failed row mean nothing: check the solution first.

    Raises ValueError for tolerances or limits that are not positive, and at ``solve`` for half precision, in
    which such errors cannot be measured, for an ``rtol`` below the rounding of the state, and where ``rtol``
    is 0 for an ``atol`` below that of the rows of the start (unless a ``norm`` says what counts).
    """

    adaptive = True
    #: attributes that solvers in files of older versions lack
    later: ClassVar[Mapping[str, Any]] = {"min_step": None, "max_step": None, "jumps": (), "norm": None}

    def __init__(
        self,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        max_steps: int = 10_000,
        first_step: float | None = None,
        min_step: float | None = None,
        max_step: float | None = None,
        jumps: Sequence[float] = (),
        norm: Callable[[Tensor], Tensor] | None = None,
    ):
        if not (rtol >= 0.0 and math.isfinite(rtol)):
            raise ValueError(f"rtol: expected a number of at least 0, got {rtol}")
        if not (atol > 0.0 and math.isfinite(atol)):
            raise ValueError(f"atol: expected a positive number, got {atol}")
        check_count("max_steps", max_steps)
        for name, step in (("first_step", first_step), ("min_step", min_step), ("max_step", max_step)):
            if step is not None and not (step > 0.0 and math.isfinite(step)):
                raise ValueError(f"{name}: expected a positive length, got {step}")
        if min_step is not None and max_step is not None and min_step > max_step:
            raise ValueError(f"min_step: expected at most max_step={max_step}, got {min_step}")
        if not all(map(math.isfinite, jumps)):
            raise ValueError(f"jumps: expected finite times, got {[*jumps]}")
        self.rtol, self.atol, self.max_steps, self.first_step = rtol, atol, max_steps, first_step
        self.min_step, self.max_step, self.jumps = min_step, max_step, sorted(map(float, jumps))
        self.norm = norm

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rtol={self.rtol}, atol={self.atol})"

    def integrate(self, task: Task[StateT]) -> Solution[StateT]:
        ode, entries, t0, t1, tolerance = task.problem, task.entries, task.t0, task.t1, task.tolerance
        if not 1 <= ode.controlled <= len(entries):
            raise ValueError(f"controlled: expected 1 to {len(entries)} entries, got {ode.controlled}")
        self._check_dtype(entries[0].dtype)

        times, field = task.times, Rows(ode.velocity, task.x, entries, backwards=t1 < t0)
        y = start = field.join(entries)
        control = sum(field.sizes[: ode.controlled])
        self._check_reach(y[:, :control])
        interior = [s for s in times or [] if min(abs(s - t0), abs(s - t1)) > tolerance]
        pieces = self._pieces(field.sign * t0, field.sign * t1, field.sign, tolerance, y.dtype)
        # a time at a jump is the end of the piece before it
        ends = [stop for _, stop in pieces[:-1]]
        inside = [
            next((end for end in ends if abs(end - field.sign * s) <= tolerance), field.sign * s)
            for s in interior
        ]
        dense = Dense(self.tableau, y, inside) if interior and t0 != t1 else None

        nfe = torch.zeros(len(y), dtype=torch.int64, device=y.device)
        status = torch.where(finite_rows(y), int(Status.OK), int(Status.NON_FINITE))
        march = partial(march_system, self) if getattr(ode.velocity, "coupled", False) else self._march
        for first, (a, b) in enumerate(pieces):
            y, used, ended = march(field, y, a, b, control, dense, status if first else None)
            nfe, status = nfe + used, ended

        path = None
        if times is not None:
            before = sum(abs(s - t0) <= tolerance for s in times) if t0 != t1 else len(times)
            after = len(times) - before - len(interior)
            arrived = torch.where((status == Status.OK)[:, None], y, math.nan)
            parts = [start.expand(before, *y.shape), arrived.expand(after, *y.shape)]
            if dense is not None:
                parts.insert(1, dense.path())
            path = field.split(torch.cat(parts))
        return task.solution(field.split(y), field.evaluation.calls, path, nfe, status)

    def _check_dtype(self, dtype: torch.dtype) -> None:
        """Raise ValueError for a dtype in which the tolerances mean nothing."""
        if torch.finfo(dtype).bits < 32:
            raise ValueError(f"x: an adaptive solver needs float32 or float64, got {dtype}")
        rounding = torch.finfo(dtype).eps / 2
        if 0.0 < self.rtol < rounding:
            raise ValueError(
                f"rtol: expected 0 or at least {rounding:.0e}, the rounding of {dtype}, got {self.rtol}"
            )

    def _check_reach(self, y: Tensor) -> None:
        """Raise ValueError for an ``atol`` that stands alone and is below the rounding of the rows."""
        if self.rtol > 0.0 or self.norm is not None or is_vmapped(y):
            return
        rounding, size = torch.finfo(y.dtype).eps / 2, root_mean_square(y.detach())
        least = rounding * float(size.masked_fill(~size.isfinite(), 0.0).max()) if len(y) else 0.0
        if self.atol < least:
            raise ValueError(
                f"atol: expected at least {least:.0e} where rtol is 0, the rounding of {y.dtype} at the "
                f"start, got {self.atol}"
            )

    def _check_seen(self, y: Tensor, k: Tensor) -> None:
        """Raise ValueError where values are hidden."""
        if is_vmapped(y) or is_vmapped(k):
            raise ValueError(
                f"x: {type(self).__name__} chooses its steps by what it sees, which torch.func.vmap hides; "
                "give it a batch, which it treats row by row, or take a solver of fixed steps, such as RK4()"
            )

    def _pieces(
        self, t0: float, t1: float, sign: float, tolerance: float, dtype: torch.dtype
    ) -> list[tuple[float, float]]:
        """The parts of the time between jumps, in rising time, each without the jumps themselves."""
        cuts = sorted(sign * s for s in self.jumps)
        nodes = [t0, *(s for s in cuts if t0 + tolerance < s < t1 - tolerance), t1]
        return [
            (_beside(a, b, dtype) if i else a, _beside(b, a, dtype) if b != t1 else b)
            for i, (a, b) in enumerate(pairwise(nodes))
            if a != b
        ]

    def _march(
        self,
        field: Rows,
        y: Tensor,
        t0: float,
        t1: float,
        controlled: int,
        dense: Dense | None,
        before: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Integrate rows ``(B, D)`` over rising time; returns the final rows, nfe and status.

        ``before`` is the status of the piece before; rows that failed there stay where they are.
        """
        tableau, velocity = self.tableau, field.evaluation.velocity
        t, k, control, nfe = self._begin(field, y, t0, t1, controlled, before)
        steps = torch.zeros_like(nfe)
        remaining = Remaining(velocity, free=dense is None)

        for _ in range(self.max_steps):
            left = int(control.active.sum())
            if not left:
                break
            if remaining.fewer(left, len(y)):
                rows = control.active.nonzero().squeeze(1)
                values = t, y, k, steps, control.active, control.broken
                field.evaluation.velocity, values = remaining.keep(rows, *values)
                t, y, k, steps, *_ = values
                control.keep(rows)
            steps += control.active
            # A row that is done has h = 0, and t stays where it is.  A remainder of a hundredth of a step is
            # taken along.  The difference of the rounded times is the step that is really made.
            h = control.h
            last = t1 - t <= torch.add(h, h, alpha=0.01)
            t_next = (t + h).masked_fill(last, t1)
            step = t_next - t
            y_next, stages = field.step(tableau, t, t_next, step, y, k)
            with torch.no_grad():
                error, finite = self._error(tableau, step, y, y_next, stages, controlled)
                retry = control.active
                accept = control.judge(error, finite, step, last)
            if y_next.requires_grad and bool((retry & ~finite).any()):
                step = step.masked_fill(~accept, 0.0)
                t_next = torch.where(accept, t_next, t)
                y_next, stages = field.step(tableau, t, t_next, step, y, k)
            if dense is not None:
                dense.record(t, t_next, accept, field.sign * step, y, stages)
            column = accept[:, None]
            y = torch.where(column, y_next, y)
            k = torch.where(column, stages[-1], k)
            t = torch.where(accept, t_next, t)
        t, y, k, steps, active, broken = remaining.all(t, y, k, steps, control.active, control.broken)
        field.evaluation.velocity = velocity
        status = (t != t1).long() * int(Status.STEP_TOO_SMALL)
        status = status.masked_fill(active, int(Status.MAX_STEPS)).masked_fill(broken, int(Status.NON_FINITE))
        if before is not None:
            failed = before != Status.OK
            status, nfe = torch.where(failed, before, status), nfe.masked_fill(failed, 0)
        return y, nfe + steps * (len(tableau.b) - 1), status

    def _begin(
        self, field: Rows, y: Tensor, t0: float, t1: float, controlled: int, before: Tensor | None
    ) -> tuple[Tensor, Tensor, Control, Tensor]:
        """The times and velocities of the rows, the control of their steps, and the evaluations so far."""
        tiny = min(16 * torch.finfo(y.dtype).eps * max(abs(t0), abs(t1)), t1 - t0)
        t, calls = y.new_full((len(y),), t0), field.evaluation.calls
        k = field(t, y)
        self._check_seen(y, k)
        active = finite_rows(y, k)
        if before is not None:
            active &= before == Status.OK
        broken = ~active
        with torch.no_grad():
            h = self._first_step(field, t, y, k, controlled, t1 - t0).clamp(tiny, t1 - t0)
            h = h.clamp(self.min_step, self.max_step) if self.min_step or self.max_step else h
            h = h.masked_fill(broken, 0.0)
        nfe = active.long() * (field.evaluation.calls - calls) + broken
        return t, k, Control(self.order, h, broken, tiny, self.min_step, self.max_step), nfe

    def _error(
        self, tableau: Tableau, step: Tensor, y: Tensor, y_next: Tensor, stages: list[Tensor], control: int
    ) -> tuple[Tensor, Tensor]:
        """The scaled error ``(B,)`` of a trial step, infinite where not finite, and where it is finite."""
        factor, error = combine(tableau.error, stages)
        error = error * (factor * step)[:, None]
        total = torch.add(error, y_next, alpha=0.0).sum(1)
        finite = total - total == 0.0  # NaN and infinity survive both lines; cheaper than isfinite
        if control < y.shape[1]:
            error, y, y_next = error[:, :control], y[:, :control], y_next[:, :control]
        scale = torch.add(y.new_full((), self.atol), torch.maximum(y.abs(), y_next.abs()), alpha=self.rtol)
        return torch.where(finite, self._size(error / scale), math.inf), finite

    def _size(self, errors: Tensor) -> Tensor:
        return root_mean_square(errors) if self.norm is None else self.norm(errors)

    def _first_step(self, field: Rows, t: Tensor, y: Tensor, k: Tensor, control: int, span: float) -> Tensor:
        """The first step of each row (Hairer, Norsett & Wanner 1993, section II.4), or the given one."""
        if self.first_step is not None:
            return torch.full_like(t, self.first_step)
        scale = self.atol + self.rtol * y[:, :control].abs()
        size = self._size(y[:, :control] / scale)
        slope = self._size(k[:, :control] / scale)
        h = torch.where((size < 1e-5) | (slope < 1e-5), 1e-6, 0.01 * size / slope).clamp(max=span)
        ahead = field(t + h, torch.addcmul(y, field.sign * h[:, None], k))
        bend = self._size((ahead - k)[:, :control] / scale) / h
        steepest = torch.maximum(slope, bend)
        better = torch.where(
            steepest <= 1e-15, (1e-3 * h).clamp(min=1e-6), (0.01 / steepest).pow(1.0 / self.tableau.order)
        )
        # where the velocity is not finite ahead, the cautious first guess stands
        return torch.where(better.isfinite(), torch.minimum(100.0 * h, better), h)


def _beside(t: float, towards: float, dtype: torch.dtype) -> float:
    """The number of ``dtype`` next to ``t``."""
    a, b = torch.tensor([t, towards], dtype=dtype)
    return a.nextafter(b).item()


def root_mean_square(x: Tensor) -> Tensor:
    """Over the columns: ``(B, D) -> (B,)``."""
    return torch.linalg.vector_norm(x, dim=1) * max(x.shape[1], 1) ** -0.5
