"""Flows of a map to the data alone, as consistency training gives it."""

from __future__ import annotations

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
    path: that along which noise is added, by default the linear one, for pairs that are independent.

    Raises ValueError for steps that are not a positive number.

    >>> from pushforward.sources import Normal
    >>> flow = ConsistencyFlow(lambda s, t, x, condition: -x / t, Normal(2))
    >>> flow.push(torch.ones(1, 2))
    tensor([[0., 0.]])
    """

    no_path = "it knows leaps to the data alone, and no velocity"

    def __init__(
        self,
        field: AnyFlowMap,
        source: Source,
        steps: int = 1,
        *,
        path: Path | None = None,
        condition_shape: ConditionShape = (),
    ):
        super().__init__()
        self.field, self.source, self.condition_shape = as_flow_map(field), source, condition_shape
        self.steps, self.noising = steps, path or Interpolant()
        self.check_parts()

    def check_parts(self) -> None:
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"steps: expected a positive number of steps, got {self.steps!r}")

    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        start, end = x0.new_zeros(()), x0.new_ones(())
        x = jump(self.field, start, end, x0, condition)
        for k in range(1, self.steps):
            t = x0.new_tensor(k / self.steps)
            noise = self.source.sample(len(x), condition, generator).to(x)
            noised = self.noising.sample(t, noise, x, generator=generator).x
            x = jump(self.field, t, end, noised, condition)
        return x
