"""The source of a flow of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import random
from ..inputs import check_weights
from ..nn.checks import check_sizes
from ..solvers.jumps import draw
from ..tensors import Condition, sum_event
from .base import Source


class TokenSource(Source):
    """Independent tokens of int64, each with the probabilities ``probs`` ``(A,)``.

    ``log_prob`` is the log-probability of an event.  Raises ValueError for negative probabilities and such
    that are all zero.

    >>> mask = TokenSource(4, [0.0, 0.0, 1.0])
    >>> mask.sample(1), mask.log_prob(torch.tensor([[2, 2, 2, 2]]))
    (tensor([[2, 2, 2, 2]]), tensor([0.]))
    """

    probs: Tensor

    def __init__(self, event_shape: int | Sequence[int], probs: Tensor | Sequence[float]):
        super().__init__()
        self.event_shape = check_sizes("event_shape", event_shape)
        found = check_weights(probs, len(probs), "probs")
        self.register_buffer("probs", (found / found.sum()).float())

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        shape = (n, *self.event_shape)
        u = random.uniform(shape, generator, torch.float64, self.probs.device)
        return draw(self.probs.expand(*shape, len(self.probs)), u)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return sum_event(self.probs.log()[x.long()])
