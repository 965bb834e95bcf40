"""Rows for what is learnt beside a flow map: points of its path, each with a second time."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import Batch, Step
from .matching import FlowMapMatching, MapObjective


def with_leaps(objective: MapObjective | None, two_sided: bool = False) -> MapObjective:
    """``objective``, by default one that trains one direction or two.

    Raises ValueError for one that trains leaps to the data alone, of whose map others are not known.
    """
    objective = objective or FlowMapMatching(two_sided=two_sided)
    rule = objective.matching.rule
    if rule.to_data:
        raise ValueError(
            f"objective: {type(rule).__name__} leaps to the data alone; expected a loss of leaps "
            "between any two times"
        )
    return objective


def points(objective: FlowMapMatching, t: Tensor, batch: Batch, step: Step) -> Tensor:
    """Points of the path at ``t``, like the target's."""
    ends = (rows.x for rows in batch.marginals)
    return objective.path.sample(t, *ends, generator=step.generator).x


def leaps(objective: FlowMapMatching, batch: Batch, step: Step) -> tuple[Tensor, Tensor, Tensor]:
    """Times s and t of each row, in the directions for which ``objective`` trains its map, and points of its
    path at s."""
    s, t = (objective.alone(batch.target.x, step) for _ in range(2))
    if not objective.two_sided:
        s, t = torch.minimum(s, t), torch.maximum(s, t)
    return s, t, points(objective, s, batch, step)
