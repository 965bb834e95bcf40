"""A flow under a condition, seen as a ``torch.distributions.Distribution``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from ..tensors import Condition, event_size, map_condition
from .base import InvertibleFlow


class FlowDistribution(Distribution):
    """Law of ``flow`` given ``condition``: ``sample``, ``rsample``, ``log_prob``, ``expand``.

    ``batch_shape`` is () for no condition or a single one, (B,) for B of them.
    """

    has_rsample = True

    def __init__(
        self,
        flow: InvertibleFlow,
        condition: Condition | None = None,
        generator: torch.Generator | None = None,
        batch_shape: Sequence[int] | None = None,
    ):
        self.flow, self.condition, self.generator = flow, condition, generator
        natural = flow.condition_batch(condition)
        super().__init__(
            torch.Size(natural if batch_shape is None else batch_shape),
            torch.Size(flow.event_shape),
            validate_args=False,
        )

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {}

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> FlowDistribution:
        """The same law with more batch dimensions."""
        batch = len(self.flow.condition_batch(self.condition))
        condition = map_condition(lambda c: c.expand(*batch_shape, *c.shape[batch:]), self.condition)
        return FlowDistribution(self.flow, condition, self.generator, batch_shape)

    def _plan(self, shape: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """How many draws per condition give ``shape``, and the leading dimensions of the result."""
        per_condition = event_size(shape) * (event_size(self.batch_shape) if self.condition is None else 1)
        return per_condition, (*shape, *self.batch_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws ``(*sample_shape, *batch_shape, *event_shape)`` that carry gradients to the parameters."""
        n, lead = self._plan(sample_shape)
        return self.flow.sample(n, self.condition, self.generator).reshape(*lead, *self.event_shape)

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Draws and their log-density in one pass."""
        n, lead = self._plan(sample_shape)
        x, log_p = self.flow.sample_and_log_prob(n, self.condition, self.generator)
        return x.reshape(*lead, *self.event_shape), log_p.reshape(lead)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats; leading dimensions broadcast against ``batch_shape``."""
        log_p = self.flow.log_prob(value, self.condition, self.generator)
        return log_p.expand(torch.broadcast_shapes(log_p.shape, self.batch_shape))
