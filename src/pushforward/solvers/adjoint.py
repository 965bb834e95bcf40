"""Gradients of a solution by the adjoint equation, solved backwards in time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ..nn.checks import check_count
from .base import Solver, Task
from .integrals import WithIntegrals
from .problems import ODE, StateT
from .pullback import pullback
from .solution import Solution
from .state import Entries, Evaluation, as_entries, like
from .wrapped import Wrapped, check_solver, refuse_second


class Adjoint(Wrapped):
    """Gradients by the continuous adjoint, in memory that does not grow with the number of steps.

    With the gradient a(t) of a loss by the state at t and f the velocity, from t1 back to t0,

        dx/dt = f(t, x),   da/dt = -a df/dx,   dg/dt = -a df/dp,

    gives in a and g the gradients by the initial state and by everything else that f depends on (Pontryagin
    et al. 1962; Chen et al. 2018, arXiv 1806.07366, algorithm 1).  First optimise, then discretise: gradients
    are those of the exact solution, up to the tolerance, not those of the steps made.  At every time of
    ``save_at`` x is put back on the path of the forward solution.

    backward: the solver of the adjoint equation, by default the same one.  An adaptive one makes steps that
        are the same for the whole batch, chosen by the errors of x and a, not of g (Kidger et al. 2021, arXiv
        2009.09457); a is scaled to a largest element of 1, so that tolerances do not depend on the scale of
        the loss.
    segments: into how many equal parts to cut the time; x is put back on the path where they meet.  More help
        where trajectories come together, which going backwards drive apart, and keep as many states more.
    parameters: as for :class:`Checkpointed`, which is exact for the steps made.

    Raises ValueError for a solver of another problem, and when going backwards for second derivatives and for
    a parameter that the velocity did not use at the start; SolverFailure if a row failed in either direction.

    >>> from pushforward.solvers import Dopri5
    >>> rate = torch.tensor(1.0, requires_grad=True)
    >>> x = Adjoint(Dopri5()).solve(lambda t, x: -rate * x, torch.ones(1, 1), 0.0, 1.0).x
    >>> torch.autograd.grad(x.sum(), rate)  # of exp(-rate)
    (tensor(-0.3679),)
    """

    def __init__(
        self,
        solver: Solver,
        backward: Solver | None = None,
        segments: int = 1,
        parameters: Iterable[Tensor] = (),
    ):
        super().__init__(solver, parameters)
        if backward is not None:
            check_solver("backward", backward)
        check_count("segments", segments)
        self.backward, self.segments = backward or solver, segments

    def differentiable(self, task: Task[StateT], inputs: tuple[Tensor, ...]) -> Solution[StateT]:
        found: list[Solution[StateT]] = []
        values = _Adjoint.apply(self, task, found, *task.entries, *inputs)
        count, solution = len(task.entries), found[0]
        path = None if solution.path is None else like(task.x, values[count:])
        return replace(solution, x=like(task.x, values[:count]), path=path)

    def stops(self, task: Task[Any]) -> list[tuple[float, int | None]]:
        """The times at which the state is kept, in order, and which of the task's each is, if any."""
        t0, t1 = task.t0, task.t1
        cuts = [t0 + (t1 - t0) * i / self.segments for i in range(1, self.segments)] if t0 != t1 else []
        both = [*enumerate(task.times or []), *((None, t) for t in cuts)]
        return sorted(((t, i) for i, t in both), key=lambda stop: stop[0], reverse=t1 < t0)


class _Adjoint(torch.autograd.Function):
    """From the initial state and the inputs to the final state and the path."""

    @staticmethod
    def forward(ctx: Any, adjoint: Adjoint, task: Task[Any], found: list[Any], *tensors: Tensor) -> Entries:
        entries, inputs = tensors[: len(task.entries)], tensors[len(task.entries) :]
        stops = adjoint.stops(task)
        times = [t for t, _ in stops] or task.times
        solution = adjoint.solver.integrate(
            replace(task, x=like(task.x, entries), entries=entries, times=times)
        )
        ends = as_entries(solution.x)
        kept = () if solution.path is None else as_entries(solution.path)
        path, at = (), None
        if task.times is not None:
            asked = [k for k, (_, i) in enumerate(stops) if i is not None]
            path = kept if len(asked) == len(stops) else tuple(part[asked] for part in kept)
            at = entries[0].new_tensor(task.times)
        solution = replace(solution, times=at, path=path or None)
        found.append(solution)
        ctx.adjoint, ctx.task, ctx.stops, ctx.solution = adjoint, task, stops, solution
        ctx.counts = (len(inputs), len(ends), len(kept))
        ctx.save_for_backward(*inputs, *ends, *kept)
        return (*ends, *path)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        refuse_second("Adjoint")
        task, (inputs, x, kept) = ctx.task, _split(ctx.saved_tensors, ctx.counts)
        ctx.solution.check()
        back = Backwards(ctx.adjoint, task, inputs)
        along, along_path = grads[: len(x)], grads[len(x) :]
        now = task.t1
        for k, (t, i) in reversed([*enumerate(ctx.stops)]):
            along = back(x, along, now, t)
            x, now = tuple(part[k] for part in kept), t
            if i is not None:
                along = tuple(a + part[i] for a, part in zip(along, along_path))
        return None, None, None, *back(x, along, now, task.t0), *back.by_inputs


class Backwards:
    """The adjoint equation of ``task``, solved over one stretch of time after the other.

    by_inputs: the gradients by the inputs, summed over the stretches.
    """

    def __init__(self, adjoint: Adjoint, task: Task[Any], inputs: tuple[Tensor, ...]):
        self.solver, self.inputs, self.count = adjoint.backward, inputs, len(task.entries)
        self.by_inputs = tuple(map(torch.zeros_like, inputs))
        self.evaluation = Evaluation(task.problem.velocity, task.x)
        velocity = WithIntegrals(self.velocity, partial(self.velocity, leading=True))
        self.problem = ODE(velocity, self.count + task.problem.controlled, batched=False)
        self.rows = (len(task.entries[0]),) if adjoint.adaptive else ()

    def velocity(self, t: Tensor, state: Entries, leading: bool = False) -> Entries:
        """Of the gradients by the state, the state, and the gradients by all inputs in one vector.

        The last is an integral along the path; ``leading`` leaves it out.
        """
        along, x = state[: self.count], state[self.count : 2 * self.count]
        slopes, products = pullback(self.evaluation, t.expand(self.rows), x, self.inputs, along, leading)
        by_x, by_inputs = products[: self.count], products[self.count :]
        vector = [torch.cat([g.flatten().to(x[0].dtype) for g in by_inputs]).neg()] if by_inputs else []
        return (*(-g for g in by_x), *slopes, *vector)

    def __call__(self, x: Entries, along: Entries, start: float, stop: float) -> Entries:
        """The gradient by the state at ``stop``, from the state and the gradient by it at ``start``."""
        scale = max(float(a.abs().max()) if a.numel() else 0.0 for a in along)
        if start == stop or scale == 0.0:
            return along
        size = sum(tensor.numel() for tensor in self.inputs)
        vector = (x[0].new_zeros(size),) if self.inputs else ()
        state = (*(a / scale for a in along), *x, *vector)
        found = self.solver.solve(self.problem, state, start, stop).check().x
        if self.inputs:
            parts = (scale * found[-1]).split([tensor.numel() for tensor in self.inputs])
            self.by_inputs = tuple(
                g + part.reshape(g.shape).to(g.dtype) for g, part in zip(self.by_inputs, parts)
            )
        return tuple(scale * a for a in found[: self.count])


def _split(tensors: Sequence[Tensor], counts: Sequence[int]) -> list[Entries]:
    """Consecutive groups of so many tensors each."""
    ends = [*accumulate(counts)]
    return [tuple(tensors[end - count : end]) for end, count in zip(ends, counts)]
