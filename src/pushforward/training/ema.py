"""The exponential moving average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..settings import Number


class EMA:
    """averages = d averages + (1 - d) weights after each step, d = min(decay, (1 + n) / (10 + n)).

    The ramp reduces the influence of the first weights in short runs.  Buffers are copied.  Raises ValueError
    for a decay outside [0, 1].
    """

    def __init__(self, models: nn.ModuleDict, decay: float):
        Number(0.0, 1.0).check("decay", decay)
        self.decay = decay
        # one call for all parameters, as torch.optim's own averaging does
        self._lerp = vars(torch)["_foreach_lerp_"]
        self.models = copy.deepcopy(models).requires_grad_(False)
        self._parameters = list(self.models.parameters()), [p.detach() for p in models.parameters()]
        self._buffers = list(zip(self.models.buffers(), models.buffers()))

    def update(self, step: int) -> None:
        """Take the weights after optimiser step ``step`` (counted from 0) into the average."""
        self._lerp(*self._parameters, 1 - min(self.decay, (1 + step) / (10 + step)))
        for own, other in self._buffers:
            own.copy_(other)
