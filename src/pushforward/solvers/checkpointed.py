"""Backpropagation through a solver that computes the network again in place of keeping it in memory."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .base import Task
from .integrals import WithIntegrals
from .problems import State, StateT
from .pullback import pullback
from .solution import Solution
from .state import Entries, Evaluation, as_entries, like
from .wrapped import Wrapped, refuse_second


class Checkpointed(Wrapped):
    """The gradients of ``solver`` itself, with the memory of one evaluation of the network.

    Of every evaluation the state is kept alone, ``(B, *event)``; going backwards the velocity is evaluated
    again (Chen et al. 2016, arXiv 1604.06174).  Gradients equal those of plain backpropagation, and cost one
    more evaluation each.  Memory grows with the number of steps by the states; that of :class:`Adjoint` does
    not grow.

    What the velocity depends on (parameters of networks anywhere in it, a condition that needs gradients) is
    found by one evaluation at the start, which ``calls`` does not count.  ``parameters`` are tensors that it
    does not use there.

    Raises ValueError for a solver of another problem, and when going backwards for second derivatives and for
    a parameter that the velocity did not use at the start.

    >>> import torch
    >>> from pushforward.solvers import Heun
    >>> rate = torch.tensor(1.0, requires_grad=True)
    >>> x = Checkpointed(Heun(steps=10)).solve(lambda t, x: -rate * x, torch.ones(1, 1), 0.0, 1.0).x
    >>> torch.autograd.grad(x.sum(), rate)  # of exp(-rate): -0.3679
    (tensor(-0.3665),)
    """

    def differentiable(self, task: Task[StateT], inputs: tuple[Tensor, ...]) -> Solution[StateT]:
        evaluation = Evaluation(task.problem.velocity, task.x)

        def again(t: Tensor, x: State, leading: bool = False) -> Any:
            slopes = _Again.apply(evaluation, leading, t, len(inputs), *inputs, *as_entries(x))
            return like(x, slopes)

        velocity = WithIntegrals(again, partial(again, leading=True))
        return self.solver.integrate(replace(task, problem=replace(task.problem, velocity=velocity)))


class _Again(torch.autograd.Function):
    """An evaluation that is repeated for its derivatives."""

    @staticmethod
    def forward(
        ctx: Any, evaluation: Evaluation, leading: bool, t: Tensor, count: int, *tensors: Tensor
    ) -> Entries:
        ctx.evaluate, ctx.count = partial(evaluation, leading=leading), count
        ctx.save_for_backward(t, *tensors)
        return ctx.evaluate(t, tensors[count:])

    @staticmethod
    def backward(ctx: Any, *along: Tensor) -> Any:
        refuse_second("Checkpointed")
        t, *tensors = ctx.saved_tensors
        inputs, entries = tensors[: ctx.count], tuple(tensors[ctx.count :])
        _, products = pullback(ctx.evaluate, t, entries, inputs, along)
        by_entries, by_inputs = products[: len(entries)], products[len(entries) :]
        return None, None, None, None, *by_inputs, *by_entries
