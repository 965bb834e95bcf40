"""A flow under a condition, seen as a ``torch.distributions.Distribution``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from ..tensors import Condition, event_size, map_condition
from .base import InvertibleFlow


class FlowDistribution(Distribution):
    """Law of ``flow`` given ``condition``: ``sample``, ``rsample``, ``log_prob``, ``expand``.

    ``batch_shape`` is () for no condition or a single one, (B,) for B of them.
    """

    arg_constraints = {}
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

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: Sequence[int], _instance=None) -> FlowDistribution:
        """The same law with more batch dimensions."""
        batch = len(self.flow.condition_batch(self.condition))
        condition = map_condition(lambda c: c.expand(*batch_shape, *c.shape[batch:]), self.condition)
        return FlowDistribution(self.flow, condition, self.generator, batch_shape)

    def _draw(self, shape: Sequence[int], method):
        rows = event_size(shape) * (event_size(self.batch_shape) if self.condition is None else 1)
        values = method(max(rows, 1), self.condition, self.generator)
        lead = (*shape, *self.batch_shape)
        if isinstance(values, tuple):
            return values[0].reshape(*lead, *self.event_shape), values[1].reshape(lead)
        return values.reshape(*lead, *self.event_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws ``(*sample_shape, *batch_shape, *event_shape)`` that carry gradients to the parameters."""
        return self._draw(sample_shape, self.flow.sample)

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Draws and their log-density in one pass."""
        return self._draw(sample_shape, self.flow.sample_and_log_prob)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats; leading dimensions broadcast against ``batch_shape``."""
        log_p = self.flow.log_prob(value, self.condition, self.generator)
        return log_p.expand(torch.broadcast_shapes(log_p.shape, self.batch_shape))
