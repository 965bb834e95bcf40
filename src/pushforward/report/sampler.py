"""Samples of a run, and maps between data units and the space of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..flows import FlowMapFlow
from ..solvers import Solver
from ..tensors import Condition, condition_to, take_condition

if TYPE_CHECKING:
    from .loaded_run import LoadedRun

#: Rows carried at once.
CHUNK = 1024


def carried(
    flow: FlowMapFlow, x0: Tensor, condition: Condition | None, steps: int | None, chunk: int
) -> tuple[Tensor, int]:
    """Source points carried in ``steps``, or those of the flow, some rows at a time; and the steps."""
    taken = flow if steps is None else flow.replace(steps=steps, grid=None)
    parts = [
        taken.push(x0[index], take_condition(condition, index))
        for index in torch.arange(len(x0)).split(chunk)
    ]
    return torch.cat(parts), taken.steps


@dataclass(frozen=True)
class Drawn:
    """Samples ``x`` ``(n, *event)`` in data units, and the mean number ``nfe`` of evaluations of a row."""

    x: Tensor
    nfe: float


class Sampler:
    """Draws from the flow of ``loaded``."""

    def __init__(self, loaded: LoadedRun):
        self.loaded = loaded

    def outwards(self, y: Tensor) -> Tensor:
        """From the space of the model to data units, ``(n, *event)`` on the CPU."""
        outer = self.loaded.outer
        return (y if outer is None else outer.bijection.forward(y.to(outer.dtype))).cpu()

    def inwards(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Data units to the space of the model on its device, with the log-determinant."""
        outer, device = self.loaded.outer, self.loaded.device
        if outer is None:
            return x.to(device), torch.zeros(len(x), device=device)
        y, log_det = outer.bijection.inverse_and_log_det(x.to(device, outer.dtype), None, generator)
        return y.to(outer.model_dtype), log_det

    @torch.no_grad()
    def draw(
        self,
        count: int,
        *parts: int | str,
        condition: Condition | None = None,
        solver: Solver | None = None,
        steps: int | None = None,
    ) -> Drawn:
        """``count`` samples, under ``condition`` ``(count, ...)`` or that of held-out rows in turn.

        A flow map takes ``steps``, by default its own; with a ``solver`` its velocity is followed.
        """
        loaded, generator = self.loaded, self.loaded.generator("draw", *parts)
        if condition is None:
            condition = loaded.condition(loaded.test, count)
        condition = condition_to(condition, loaded.device)
        if loaded.inner is None:
            if condition is None:
                return Drawn(loaded.flow.sample(count, None, generator).cpu(), 0.0)
            return Drawn(loaded.flow.sample(1, condition, generator)[0].cpu(), 0.0)
        start = loaded.inner.source.sample(count, condition, generator).to(loaded.device)
        if loaded.map is not None and solver is None:
            x, nfe = carried(loaded.map, start, condition, steps, CHUNK)
            return Drawn(self.outwards(x), float(nfe))
        end, total = [], 0.0
        solver = solver or loaded.budget.solver
        assert solver is not None
        flow: Any = loaded.inner.following(solver)
        for rows in torch.arange(count).split(CHUNK):
            problem = flow.problem(take_condition(condition, rows))
            solution = solver.solve(problem, start[rows], *flow.interval).check()
            end.append(solution.x)
            total += float(solution.nfe.double().sum())
        return Drawn(self.outwards(torch.cat(end)), total / count)
