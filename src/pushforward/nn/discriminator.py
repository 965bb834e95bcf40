"""A network with one number for each row."""

from __future__ import annotations

from torch import Tensor, nn

from ..tensors import Condition, flatten_event
from .base import Network


class Discriminator(nn.Module):
    """Logits ``(B,)`` of rows ``(B, *event)``: a linear function of the output of a ``network`` at t = 1.

    Any network of fields will do, with its conditions.  See
    :class:`~pushforward.objectives.DensityRatio`, which trains it.

    >>> import torch
    >>> from pushforward.nn import MLP
    >>> Discriminator(MLP(2, condition=10))(torch.zeros(3, 2), torch.tensor([0, 4, 9])).shape
    torch.Size([3])
    """

    def __init__(self, network: Network):
        super().__init__()
        self.network = network
        self.head = nn.Linear(network.event_size, 1)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.head(flatten_event(self.network(1.0, x, condition))).squeeze(1)
