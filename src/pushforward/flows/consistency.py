"""Flows of a map to the data alone, as consistency training gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ..fields import AnyFlowMap, as_flow_map, jump
from ..paths import Interpolant, Path
from ..sources import Source
from ..tensors import Condition
from .base import Flow
from .shapes import ConditionShape


class ConsistencyFlow(Flow):
    r"""Source points carried to the data by leaps X_{s,1}, with noise added again between them:

    .. math:: x \leftarrow X_{0,1}(x_0), \qquad x \leftarrow X_{t_k,1}(\alpha x + \sigma z),
        \quad z \sim p_{\text{source}}

    at t_k = k / steps.  One step draws nothing; several are the multistep sampling of consistency models,
    whose samples do not follow trajectories (Song et al. 2023, arXiv 2303.01469, algorithm 1).  There is
    neither an inverse nor a velocity, since leaps that end before t = 1 are not known.

    field: the average velocity v of a :class:`~pushforward.fields.FlowMap`, with t = 1 alone.
    grid: the times at which leaps begin instead, rising from 0.
    path: that along which noise is added, by default the linear one, for pairs that are independent.
    known_steps: the numbers of steps for which the map was trained, None for any; others are refused.

    Raises ValueError for steps that are not a positive number, and a grid of other times.

    >>> from pushforward.sources import Normal
    >>> flow = ConsistencyFlow(lambda s, t, x, condition: -x / t, Normal(2))
    >>> flow.push(torch.ones(1, 2))
    tensor([[0., 0.]])
    """

    #: attributes that flows in files of older versions lack
    later: ClassVar[Mapping[str, Any]] = {"steps": 1, "grid": None, "known_steps": None}
    no_path = "it knows leaps to the data alone, and no velocity"

    def __init__(
        self,
        field: AnyFlowMap,
        source: Source,
        steps: int = 1,
        grid: Sequence[float] | None = None,
        *,
        path: Path | None = None,
        condition_shape: ConditionShape = (),
    ):
        super().__init__()
        self.field, self.source, self.condition_shape = as_flow_map(field), source, condition_shape
        self.grid: tuple[float, ...] | None = None if grid is None else tuple(grid)
        self.steps = len(self.grid) if self.grid and steps == 1 else steps
        self.noising = path or Interpolant()
        self.known_steps: tuple[int, ...] | None = None
        self.check_parts()

    def check_parts(self) -> None:
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"steps: expected a positive number of steps, got {self.steps!r}")
        if self.known_steps is not None and self.steps not in self.known_steps:
            known = ", ".join(map(str, self.known_steps))
            raise ValueError(f"steps: expected {known}, for which the map was trained, got {self.steps}")
        grid = self.grid
        if grid is None:
            return
        if not grid or grid[0] != 0 or not all(a < b for a, b in pairwise((*grid, 1.0))):
            raise ValueError(f"grid: expected times that rise from 0 and end before 1, got {list(grid)}")
        if self.steps != len(grid):
            raise ValueError(f"steps: expected {len(grid)} as the grid has, or grid=None, got {self.steps}")

    def in_evaluations(self, nfe: int) -> Self:
        return self.replace(steps=nfe, grid=None)

    @property
    def times(self) -> tuple[float, ...]:
        """The times at which leaps begin."""
        return self.grid or tuple(k / self.steps for k in range(self.steps))

    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        start, end = x0.new_zeros(()), x0.new_ones(())
        x = jump(self.field, start, end, x0, condition)
        for moment in self.times[1:]:
            t = x0.new_tensor(moment)
            noise = self.source.sample(len(x), condition, generator).to(x)
            noised = self.noising.sample(t, noise, x, generator=generator).x
            x = jump(self.field, t, end, noised, condition)
        return x
