"""The best weights by held-out loss, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Best:
    """Stores the weights of ``models`` at the validation of least loss.

    ``over`` becomes true after ``patience`` consecutive validations without a better one.
    """

    def __init__(self, models: nn.ModuleDict, patience: int):
        self.models, self.patience = models, patience
        self.loss, self.step, self.since = math.inf, 0, 0
        self.weights: dict[str, Tensor] = {}

    @property
    def over(self) -> bool:
        """Whether training should stop."""
        return self.since >= self.patience

    @torch.no_grad()
    def see(self, loss: float, step: int) -> None:
        """Take note of a validation of the weights as they are."""
        self.since += 1
        if loss < self.loss:
            self.loss, self.step, self.since = loss, step, 0
            self.weights = {name: value.clone() for name, value in self.models.state_dict().items()}

    def take(self, last: int) -> int:
        """Put the best weights into the models and return their step, or ``last`` without a validation."""
        if not self.weights:
            return last
        self.models.load_state_dict(self.weights)
        return self.step

    def facts(self) -> dict[str, Any]:
        """The plain facts that are stored with the weights."""
        return {"loss": self.loss, "step": self.step, "since": self.since} if self.weights else {}

    def restore(self, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Put back what :meth:`facts` and ``weights`` held."""
        if facts:
            self.loss, self.step, self.since = facts["loss"], facts["step"], facts["since"]
            device = next(self.models.parameters()).device
            self.weights = {name: value.to(device) for name, value in weights.items()}
