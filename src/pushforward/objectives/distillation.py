"""Distillation of a flow into one step."""

from __future__ import annotations

from torch import Tensor, nn

from .base import Batch, Loss, Objective, Step, field_of


class Distillation(Objective):
    """E |x0 + field(0, x0) - x1|^2 over pairs of a flow's start and end: a map of one step.

    Liu et al. 2023, arXiv 2209.03003, section 2.4.  The pairs should be those of a deterministic map; of
    others only their conditional mean is learnt.  ``models`` holds ``"field"``, of which
    ``ConsistencyFlow(Straight(field), source)`` is the flow.

    >>> import torch
    >>> from pushforward import Rows
    >>> batch = Batch((Rows(torch.zeros(8, 2)), Rows(torch.ones(8, 2))))
    >>> field = nn.Module()
    >>> field.forward = lambda t, x, condition: torch.ones_like(x)
    >>> Distillation().loss(nn.ModuleDict({"field": field}), batch, Step()).value
    tensor(0.)
    """

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        x0: Tensor = batch.source.x
        output = field_of(models, mask=batch.target.mask)(x0.new_zeros(()), x0, batch.target.condition)
        value, errors = batch.reduce((x0 + output - batch.target.x).square())
        return Loss(value, errors)
