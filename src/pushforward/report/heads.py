"""What a report measures of the head of a flow map: its densities beside those of the map's velocity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..tensors import Condition, condition_to, take_condition
from .densities import CHUNK, cost, has_density, how, log_prob
from .formatting import Value
from .loaded_run import LoadedRun


@dataclass(frozen=True)
class HeadDensity:
    """Log-densities of the same held-out rows by the head of a flow map and by the ODE of its velocity.

    steps: evaluations of the head for a row.  head, velocity: the means in nats and data units.  defect: the
    mean of head less velocity.  apart: the root mean square of their differences, row by row.
    divergence: how that of the velocity was found.
    """

    rows: int
    steps: int
    head: Value
    velocity: Value
    defect: Value
    apart: float
    divergence: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        values = {name: getattr(self, name) for name in ("head", "velocity", "defect")}
        return {**self.__dict__, **{name: value.to_json() for name, value in values.items()}}


def has_head(loaded: LoadedRun) -> bool:
    """Whether the flow has a density by log-determinants of leaps, and another of its velocity."""
    return loaded.map is not None and loaded.map.density != "none" and not has_density(loaded)


@torch.no_grad()
def by_head(loaded: LoadedRun, x: Tensor, condition: Condition | None, *parts: int | str) -> Tensor:
    """log_prob of rows ``x`` ``(n, *event)`` by the head of a flow map, ``(n,)`` float64, in data units.

    With the same ``parts`` the noise of whole levels is that of :func:`~.densities.log_prob`.
    """
    flow, found = loaded.map, []
    assert flow is not None
    generator = loaded.generator("log_prob", *parts)
    for index in torch.arange(len(x)).split(CHUNK):
        y, change = loaded.sampler.inwards(x[index], generator)
        values = flow.log_prob(y, condition_to(take_condition(condition, index), loaded.device))
        found.append(values.double().cpu() + change.double().cpu())
    return torch.cat(found)


@torch.no_grad()
def head_density(loaded: LoadedRun) -> HeadDensity | None:
    """Compare the two densities of a flow map with a head; None where there is no head."""
    flow = loaded.map
    if flow is None or not has_head(loaded):
        return None
    wanted, each = min(CHUNK, len(loaded.test)), cost(loaded) + 2.0 * flow.steps
    rows = loaded.budget.affordable("rows of the head's log-densities", wanted, 0.1, each)
    held = loaded.subset(loaded.test, rows, "head")
    condition = loaded.condition(held)
    mine = by_head(loaded, held.x, condition, "head")
    other = log_prob(loaded, held.x, condition, 1.0, "head")[0]
    apart = mine - other
    return HeadDensity(
        rows,
        flow.steps,
        Value.mean(mine),
        Value.mean(other),
        Value.mean(apart),
        float(apart.square().mean().sqrt()),
        how(loaded),
    )
