"""Maximum likelihood: the loss of normalizing flows."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from ..flows import DensityFlow
from ..tensors import sum_event, valid_elements
from .base import Batch, Loss, Objective, Step, model_of


class MaximumLikelihood(Objective):
    """-E log p(x) over the data, in nats per element of an event.

    ``models`` holds ``"flow"``, an :class:`~pushforward.flows.InvertibleFlow`.  Up to the entropy of the
    data this is KL(data | flow).  It is divided by the number of elements, so that learning rates and losses
    are comparable for events of any size; multiply by this number for nats per event.

    >>> import torch
    >>> from pushforward import Rows
    >>> from pushforward.bijections import Elementwise
    >>> from pushforward.flows import BijectiveFlow
    >>> from pushforward.sources import Normal
    >>> models = nn.ModuleDict({"flow": BijectiveFlow(Elementwise(2), Normal(2))})
    >>> MaximumLikelihood().loss(models, Batch((Rows(torch.zeros(4, 2)),)), Step()).value
    tensor(0.9189, grad_fn=...)
    """

    main = "flow"

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        rows = batch.target
        flow, x, size = cast(DensityFlow, model_of(models, "flow")), rows.x, float(rows.x[0].numel())
        if rows.mask is not None:
            valid = valid_elements(rows.mask, x)
            flow, x, size = flow.masked(rows.mask), torch.where(valid, x, 0.0), sum_event(valid).clamp(min=1)
        errors = -flow(x, rows.condition, step.generator) / size
        return Loss(batch.mean(errors), errors.detach())
