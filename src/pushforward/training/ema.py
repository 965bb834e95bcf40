"""The exponential moving average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA:
    """averages = d averages + (1 - d) weights after each step, d = min(decay, (1 + n) / (10 + n)).

    The ramp keeps the first weights from lingering in short runs.  Buffers are copied.
    """

    def __init__(self, models: nn.ModuleDict, decay: float):
        self.decay = decay
        self.models = copy.deepcopy(models).requires_grad_(False)
        self._pairs = self._match(models)

    def _match(self, models: nn.ModuleDict) -> tuple[list, list, list, list]:
        mine, theirs = list(self.models.parameters()), [p.detach() for p in models.parameters()]
        return mine, theirs, list(self.models.buffers()), list(models.buffers())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after optimiser step ``step`` (counted from 0) into the average."""
        mine, theirs, my_buffers, their_buffers = self._pairs
        torch._foreach_lerp_(mine, theirs, 1 - min(self.decay, (1 + step) / (10 + step)))
        for own, other in zip(my_buffers, their_buffers):
            own.copy_(other)
