"""A flow distilled into one step."""

from __future__ import annotations

import torch
from torch import Tensor

from ..fields import AnyField, as_field
from ..sources import Source
from ..tensors import Condition
from .base import Flow
from .shapes import ConditionShape


class OneStep(Flow):
    """x1 = x0 + field(0, x0, condition): one evaluation, without an inverse and without a density.

    The result of distillation of a flow (Liu et al. 2023, arXiv 2209.03003, section 2.4), see
    :class:`~pushforward.objectives.Distillation`.

    >>> from pushforward.sources import Normal
    >>> OneStep(lambda t, x, condition: -x, Normal(2)).sample(1)
    tensor([[0., 0.]])
    """

    def __init__(self, field: AnyField, source: Source, *, condition_shape: ConditionShape = ()):
        super().__init__()
        self.field, self.source, self.condition_shape = as_field(field), source, condition_shape

    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return x0 + self.field(torch.zeros((), dtype=x0.dtype, device=x0.device), x0, condition)
