"""A flow under a condition as a ``torch.distributions.Distribution``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from ..bijections import Bijection
from ..bijections.base import REAL_LINE
from ..bijections.interop import interval
from ..tensors import Condition, event_size, map_condition


class Drawn(Protocol):
    """What a distribution asks of a flow, see :class:`~pushforward.flows.InvertibleFlow`."""

    @property
    def event_shape(self) -> tuple[int, ...]: ...

    def condition_batch(self, condition: Any) -> tuple[int, ...]: ...

    def sample(self, n: Any, condition: Any, generator: torch.Generator | None) -> Tensor: ...

    def sample_and_log_prob(
        self, n: Any, condition: Any, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]: ...

    def log_prob(self, x: Any, condition: Any, generator: torch.Generator | None) -> Tensor: ...


class FlowDistribution(Distribution):
    """The distribution of ``flow`` given ``condition``: ``sample``, ``rsample``, ``log_prob``, ``expand``.

    ``batch_shape`` is () for no condition or a single one, (B,) for B of them.  The support is the codomain
    of the last bijection of the flow, if it has one.  With ``validate_args``, by default PyTorch's setting,
    ``log_prob`` raises ValueError for values outside it and for shapes that do not fit.  Samples of a flow
    that draws noise on the way back, such as whole numbers, carry no gradients: ``has_rsample`` is then
    False.
    """

    def __init__(
        self,
        flow: Drawn,
        condition: Condition | None = None,
        generator: torch.Generator | None = None,
        batch_shape: Sequence[int] | None = None,
        validate_args: bool | None = None,
    ):
        self.flow, self.condition, self.generator = flow, condition, generator
        outermost = getattr(flow, "bijection", None)
        self._outermost = outermost if isinstance(outermost, Bijection) else None
        self.has_rsample = self._outermost is None or not self._outermost.stochastic
        natural = flow.condition_batch(condition)
        super().__init__(
            torch.Size(natural if batch_shape is None else batch_shape),
            torch.Size(flow.event_shape),
            validate_args,
        )

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {}

    @property
    def support(self) -> constraints.Constraint:
        domain = REAL_LINE if self._outermost is None else self._outermost.codomain
        return interval(domain, len(self.event_shape))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> FlowDistribution:
        """The same distribution with more batch dimensions.

        Raises ValueError for a ``batch_shape`` that its own does not broadcast to.
        """
        shape = torch.Size(batch_shape)
        if not _broadcasts(self.batch_shape, shape):
            raise ValueError(
                f"batch_shape: expected what {tuple(self.batch_shape)} broadcasts to, got {tuple(shape)}"
            )
        batch = len(self.flow.condition_batch(self.condition))
        condition = map_condition(lambda c: c.expand((*shape, *c.shape[batch:])), self.condition)
        return FlowDistribution(self.flow, condition, self.generator, shape, self._validate_args)

    def _plan(self, shape: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """The number of draws per condition for ``shape``, and the leading dimensions of the result."""
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
        if self._validate_args:
            self._validate_sample(value)
        log_p = self.flow.log_prob(value, self.condition, self.generator)
        return log_p.expand(torch.broadcast_shapes(log_p.shape, self.batch_shape))

    def __repr__(self) -> str:
        shapes = f"batch_shape={tuple(self.batch_shape)}, event_shape={tuple(self.event_shape)}"
        return f"FlowDistribution({type(self.flow).__name__}, {shapes})"


def _broadcasts(shape: torch.Size, other: torch.Size) -> bool:
    """Whether ``shape`` broadcasts to ``other``."""
    try:
        return torch.broadcast_shapes(shape, other) == other
    except RuntimeError:
        return False
