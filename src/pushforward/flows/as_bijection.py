"""A flow as a bijection, to be put together with others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..bijections import Bijection
from ..tensors import Condition
from .base import Flow
from .invertible import InvertibleFlow


class FlowBijection(Bijection):
    """The map of an invertible ``flow``, from its source to the data, without the source.

    So a continuous flow can be a part of a :class:`~pushforward.bijections.Chain`, an
    :class:`~pushforward.bijections.Inverse`, a flow with another source, or a transform of
    ``torch.distributions`` by :func:`~pushforward.bijections.to_torch`.  It carries points as densities do,
    without guidance; inverses of continuous flows are as accurate as their solvers.

    Raises ValueError for a flow without an inverse.

    >>> from pushforward.bijections import to_torch
    >>> from pushforward.flows import ContinuousFlow
    >>> from pushforward.sources import Normal
    >>> double = FlowBijection(ContinuousFlow(lambda t, x: 0.6931472 * x, source=Normal(2)))
    >>> transform = to_torch(double)
    >>> transform(torch.ones(2)).round(decimals=3), transform.inv(torch.ones(2)).round(decimals=3)
    (tensor([2., 2.]), tensor([0.5000, 0.5000]))
    """

    flow: InvertibleFlow

    def __init__(self, flow: Flow):
        super().__init__()
        if not (isinstance(flow, Flow) and flow.invertible):
            raise ValueError(f"flow: expected an invertible flow, got {type(flow).__name__}")
        # what is invertible has the methods of an InvertibleFlow
        self.flow = flow  # type: ignore[assignment]
        if flow.preprocess is not None:
            self.codomain = flow.preprocess.codomain

    @property
    def estimates(self) -> bool:
        return self.flow.density == "estimate"

    def event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.flow.event_shape

    def inverse_event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.flow.source.event_shape

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.flow.push_and_log_det(x, condition, generator)

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.flow.pull_and_log_det(y, condition, generator)
