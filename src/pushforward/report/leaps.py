"""What a report measures of a flow map: whether its leaps compose, and how far one step is from many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..metrics import composition_error, composition_gap
from ..solvers import Euler
from ..tensors import Condition, condition_to
from .loaded_run import LoadedRun

#: Steps of a solver that one step of the map is compared with.
MANY = 100
#: Times along each axis of the table of composition errors, and draws of times of their mean.
KNOTS, DRAWS = 11, 48


@dataclass(frozen=True)
class Leaps:
    """How exact a flow map is.

    composition: E|X_{u,t}(X_{s,u}) - X_{s,t}|^2 over the variance at t, for s < u < t uniform.  table: the
    same for pairs s < t of ``times``, u between them; None where s >= t.
    one, many: the same source points carried in one step, and by ``MANY`` Euler steps of the map's velocity,
    ``(n, *event)`` in data units.  gap: E|one - many|^2 over the variance of many, in the space of the model.
    condition: that of these rows.
    """

    rows: int
    composition: float
    times: list[float]
    table: list[list[float | None]]
    one: Tensor
    many: Tensor
    gap: float
    condition: Condition | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        names = ("rows", "composition", "times", "table", "gap")
        return {name: getattr(self, name) for name in names}


@torch.no_grad()
def leaps(loaded: LoadedRun) -> Leaps | None:
    """Measure the flow map of a run; None where it has none."""
    flow = loaded.map
    if flow is None or loaded.inner is None:
        return None
    evaluations = 3.0 * (KNOTS * (KNOTS - 1) / 2 + DRAWS) + MANY
    rows = loaded.budget.affordable("rows of leaps", min(500, loaded.rows), 0.1, evaluations, least=32)
    condition = loaded.condition(loaded.reference, rows)
    given = condition_to(condition, loaded.device)
    x0 = flow.source.sample(rows, given, loaded.generator("leaps")).to(loaded.device)

    def jump(s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return flow.jump(s, t, x, given)

    composition = composition_error(jump, x0, flow.interval, DRAWS, loaded.generator("leaps", "times"))
    times = torch.linspace(*flow.interval, KNOTS).to(x0)
    table: list[list[float | None]] = [[None] * KNOTS for _ in range(KNOTS)]
    for i in range(KNOTS - 1):
        x = jump(times[0], times[i], x0)
        for j in range(i + 1, KNOTS):
            middle = (times[i] + times[j]) / 2
            table[i][j] = composition_gap(jump, x, times[i], middle, times[j])
    one = flow.replace(steps=1, grid=None).push(x0, given)
    problem = loaded.inner.problem(given)
    many = Euler(steps=MANY).solve(problem, x0, *flow.interval).check().x
    apart, spread = (one - many).flatten(1).double(), (many - many.mean(0)).flatten(1).double()
    gap = float(apart.square().sum(1).mean() / spread.square().sum(1).mean())
    one, many = (loaded.sampler.outwards(x) for x in (one, many))
    return Leaps(rows, composition, times.tolist(), table, one, many, gap, condition)
