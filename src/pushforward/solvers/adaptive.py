"""Adaptive Runge-Kutta methods with a separate step size for every row of the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..nn.checks import check_count
from ..tensors import is_vmapped
from .base import Task
from .problems import State, StateT, Velocity
from .solution import Solution, Status
from .state import Entries, Evaluation, finite_rows
from .tableau import Tableau, TableauSolver, combine

#: Step-size control (Gustafsson 1991, doi 10.1145/210232.210242; constants of Hairer, Norsett & Wanner 1993):
#: safety factor, range of the factor, weight of the previous error, smallest error that counts as previous.
SAFETY, SHRINK, GROW, BETA, FLOOR = 0.9, 0.2, 10.0, 0.04, 1e-4


class Adaptive(TableauSolver):
    """An embedded Runge-Kutta pair whose last stage is the next step's first; a method is a Tableau.

    rtol, atol: a step of a row is accepted if the root mean square over the elements of error / (atol + rtol
        max(|x|, |x'|)) is at most one.  The mean runs over the first ``problem.controlled`` entries of the
        state.
    max_steps: most trial steps of a row, accepted or not; a row that needs more ends with MAX_STEPS.
    first_step: length of the first trial step; None estimates one for each row by one evaluation (Hairer,
        Norsett & Wanner 1993, section II.4).

    Every row has its own time, step and acceptance, so that no row changes the result or ``nfe`` of another.
    The velocity is called on the whole batch with ``t`` of shape ``(B,)``; finished rows do not move.
    ``nfe`` counts the evaluations before a row has finished.  A trial step that is not finite is repeated
    with a shorter one.  A row fails with STEP_TOO_SMALL or NON_FINITE, and keeps its last accepted state,
    when its step falls below 16 roundings of the time, or if its velocity is not finite at the start; the
    others continue.

    Dense output is the method's own interpolant, exact at ``t0`` and ``t1``.  Backpropagation goes through
    the accepted steps and treats step sizes as constants.  If gradients are recorded, a trial step that is
    not finite costs a second evaluation of the batch (in ``calls``, not in ``nfe``), because a masked NaN
    would make the gradient NaN.  Gradients of a failed row mean nothing: check the solution first.

    Raises ValueError for tolerances or limits that are not positive, and at ``solve`` for half precision, in
    which such errors cannot be measured.
    """

    adaptive = True

    def __init__(
        self,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        max_steps: int = 10_000,
        first_step: float | None = None,
    ):
        if not (rtol >= 0.0 and math.isfinite(rtol)):
            raise ValueError(f"rtol: expected a number of at least 0, got {rtol}")
        if not (atol > 0.0 and math.isfinite(atol)):
            raise ValueError(f"atol: expected a positive number, got {atol}")
        check_count("max_steps", max_steps)
        if first_step is not None and not (first_step > 0.0 and math.isfinite(first_step)):
            raise ValueError(f"first_step: expected a positive length, got {first_step}")
        self.rtol, self.atol, self.max_steps, self.first_step = rtol, atol, max_steps, first_step

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rtol={self.rtol}, atol={self.atol})"

    def integrate(self, task: Task[StateT]) -> Solution[StateT]:
        ode, entries, t0, t1, tolerance = task.problem, task.entries, task.t0, task.t1, task.tolerance
        if not 1 <= ode.controlled <= len(entries):
            raise ValueError(f"controlled: expected 1 to {len(entries)} entries, got {ode.controlled}")
        if torch.finfo(entries[0].dtype).bits < 32:
            raise ValueError(f"x: an adaptive solver needs float32 or float64, got {entries[0].dtype}")

        times, field = task.times, Rows(ode.velocity, task.x, entries, backwards=t1 < t0)
        y = start = field.join(entries)
        control = sum(field.sizes[: ode.controlled])
        interior = [s for s in times or [] if min(abs(s - t0), abs(s - t1)) > tolerance]
        dense = Dense(self.tableau, y, [field.sign * s for s in interior]) if interior and t0 != t1 else None

        nfe = torch.zeros(len(y), dtype=torch.int64, device=y.device)
        if t0 == t1:
            status = torch.where(finite_rows(y), int(Status.OK), int(Status.NON_FINITE))
        else:
            y, nfe, status = self._march(field, y, field.sign * t0, field.sign * t1, control, dense)

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

    def _march(
        self, field: Rows, y: Tensor, t0: float, t1: float, control: int, dense: Dense | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Integrate rows ``(B, D)`` over rising time; returns the final rows, nfe and status."""
        tableau = self.tableau
        tiny = min(16 * torch.finfo(y.dtype).eps * max(abs(t0), abs(t1)), t1 - t0)
        exponent = -(1.0 / tableau.order - 0.75 * BETA)
        t = y.new_full((len(y),), t0)
        k = field(t, y)
        if is_vmapped(y) or is_vmapped(k):
            raise ValueError(
                f"x: {type(self).__name__} chooses its steps by what it sees, which torch.func.vmap hides; "
                "give it a batch, which it treats row by row, or take a solver of fixed steps, such as RK4()"
            )
        active = finite_rows(y, k)
        broken = ~active
        with torch.no_grad():
            h = self._first_step(field, t, y, k, control, t1 - t0).clamp(tiny, t1 - t0)
            h = h.masked_fill(broken, 0.0)
        nfe = active.long() * field.evaluation.calls + broken
        steps = torch.zeros_like(nfe)
        memory = torch.full_like(t, SAFETY * FLOOR**BETA)  # safety factor times the previous error's power
        limit = grow = torch.full_like(t, GROW)

        for _ in range(self.max_steps):
            if not bool(active.any()):
                break
            steps += active
            # A row that is done has h = 0, and t stays where it is.  A remainder of a hundredth of a step is
            # taken along.  The difference of the rounded times is the step that is really made.
            last = t1 - t <= torch.add(h, h, alpha=0.01)
            t_next = (t + h).masked_fill(last, t1)
            step = t_next - t
            y_next, stages = field.step(tableau, t, t_next, step, y, k)
            with torch.no_grad():
                error, finite = self._error(tableau, step, y, y_next, stages, control)
                accept = error <= 1.0
                factor = torch.minimum((memory * error.pow(exponent)).clamp(SHRINK, GROW), limit)
                limit = grow.masked_fill(~accept, 1.0)  # no growth right after a rejection
                memory = torch.where(accept, SAFETY * error.clamp(min=FLOOR).pow(BETA), memory)
                retry = active
                active = active & ~(accept & last)
                h = step * factor
                lost = active & (h < tiny)
                broken |= lost & ~finite
                active = active & ~lost
                h = h.masked_fill(~active, 0.0)
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
        status = (t != t1).long() * int(Status.STEP_TOO_SMALL)
        status = status.masked_fill(active, int(Status.MAX_STEPS)).masked_fill(broken, int(Status.NON_FINITE))
        return y, nfe + steps * (len(tableau.b) - 1), status

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
        return root_mean_square(error / scale).masked_fill(~finite, math.inf), finite

    def _first_step(self, field: Rows, t: Tensor, y: Tensor, k: Tensor, control: int, span: float) -> Tensor:
        """The first step of each row (Hairer, Norsett & Wanner 1993, section II.4), or the given one."""
        if self.first_step is not None:
            return torch.full_like(t, self.first_step)
        scale = self.atol + self.rtol * y[:, :control].abs()
        size = root_mean_square(y[:, :control] / scale)
        slope = root_mean_square(k[:, :control] / scale)
        h = torch.where((size < 1e-5) | (slope < 1e-5), 1e-6, 0.01 * size / slope).clamp(max=span)
        ahead = field(t + h, torch.addcmul(y, field.sign * h[:, None], k))
        bend = root_mean_square((ahead - k)[:, :control] / scale) / h
        steepest = torch.maximum(slope, bend)
        better = torch.where(
            steepest <= 1e-15, (1e-3 * h).clamp(min=1e-6), (0.01 / steepest).pow(1.0 / self.tableau.order)
        )
        # where the velocity is not finite ahead, the cautious first guess stands
        return torch.where(better.isfinite(), torch.minimum(100.0 * h, better), h)


def root_mean_square(x: Tensor) -> Tensor:
    """Over the columns: ``(B, D) -> (B,)``."""
    return torch.linalg.vector_norm(x, dim=1) * max(x.shape[1], 1) ** -0.5


class Rows:
    """The velocity on rows ``(B, D)`` with a time each.  Time always rises: backwards it is negated.

    The negation is exact, and is undone where the velocity is called and in the sign of the step.
    """

    def __init__(self, velocity: Velocity, x: State, entries: Entries, backwards: bool):
        self.evaluation = Evaluation(velocity, x)
        self.sign = -1.0 if backwards else 1.0
        self.events = [entry.shape[1:] for entry in entries]
        self.sizes = [math.prod(event) for event in self.events]

    def join(self, entries: Entries) -> Tensor:
        """``(B, *event)`` each -> ``(B, D)``."""
        rows = [entry.reshape(entry.shape[0], size) for entry, size in zip(entries, self.sizes)]
        return rows[0] if len(rows) == 1 else torch.cat(rows, 1)

    def split(self, y: Tensor) -> Entries:
        """``(..., B, D)`` -> ``(..., B, *event)`` each."""
        parts = y.split(self.sizes, -1) if len(self.sizes) > 1 else (y,)
        return tuple(part.reshape(*y.shape[:-1], *event) for part, event in zip(parts, self.events))

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        return self.join(self.evaluation(t if self.sign > 0 else -t, self.split(y)))

    def step(
        self, tableau: Tableau, t: Tensor, t_next: Tensor, step: Tensor, y: Tensor, k: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """One trial step of length ``step`` ``(B,)`` from velocity ``k``: the new rows and all stages."""
        h = step[:, None] if self.sign > 0 else -step[:, None]
        stages = [k]
        y_next = y
        for c, row in zip(tableau.c[1:], tableau.a[1:]):
            factor, total = combine(row, stages)
            y_next = torch.addcmul(y, h, total, value=factor)
            stages.append(self(t_next if c == 1.0 else torch.add(t, step, alpha=c), y_next))
        # the last stage of a first-same-as-last pair stands at the new state
        return y_next, stages


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
