"""Variational inference: a flow is fitted to an unnormalised density."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from ..flows import InvertibleFlow
from .base import Batch, Loss, Objective, Step, model_of

#: ``(x, condition) -> (B,)``: a log-density up to a constant
LogDensity = Callable[..., Tensor]


class ReverseKL(Objective):
    """E_q [log q(x) - log p(x)] / size of an event, with q the flow and log p known up to a constant.

    Without that constant it is KL(q | p), the divergence of variational inference with normalizing flows
    (Rezende & Mohamed 2015, arXiv 1505.05770).  It may miss modes of p, but puts little mass where p has
    none.  ``log_density(x)`` takes ``(B, *event)`` to ``(B,)`` and is differentiated.  ``models`` holds
    ``"flow"``, an :class:`~pushforward.flows.InvertibleFlow` that is fast from source to data; of the batch
    only the number of rows and the condition are used.  :func:`pushforward.metrics.importance` measures the
    quality of the result.  Raises ValueError if ``log_density`` is not a function, and for another model.

    >>> import torch
    >>> from pushforward import Rows
    >>> from pushforward.flows import iaf
    >>> objective = ReverseKL(lambda x: -0.5 * x.square().sum(1))
    >>> models = nn.ModuleDict({"flow": iaf(2, layers=1)})
    >>> objective.loss(models, Batch((Rows(torch.empty(8, 2)),)), Step()).value  # -log(2 pi) / 2
    tensor(-0.9189, grad_fn=...)
    """

    main = "flow"

    def __init__(self, log_density: LogDensity):
        if not callable(log_density):
            raise ValueError(f"log_density: expected a function of x, got a {type(log_density).__name__}")
        self.log_density = log_density

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        flow, condition = cast(InvertibleFlow, model_of(models, "flow")), batch.target.condition
        if not getattr(flow, "invertible", False):
            raise ValueError(f"models: expected an InvertibleFlow named 'flow', got a {type(flow).__name__}")
        x0 = flow.source.sample(len(batch), condition, step.generator)
        x, log_det = flow.push_and_log_det(x0, condition, step.generator)
        log_q = flow.source.log_prob(x0, condition) - log_det
        given = () if condition is None else (condition,)
        errors = (log_q - self.log_density(x, *given)) / x[0].numel()
        return Loss(batch.mean(errors), errors.detach())
