"""Coupling layers: one part of an event moves, by what the other part says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..tensors import Condition
from .base import Bijection
from .monotone import Monotone
from .shapes import check_entries

#: ``(inputs, outputs) -> net(x, condition)``: makes the network of a layer.
MakeNetwork = Callable[[int, int], nn.Module]


class Coupling(Bijection):
    """y_passive = x_passive, y_active = f(x_active; net(x_passive, condition)), element by element.

    ``active`` says which of the entries along the first dimension of an event move (features of a vector,
    channels of an image): booleans, one for each.  ``network`` makes a module for (number of passive
    entries, numbers it must give); it carries ``(B, inputs, *rest)`` to ``(B, outputs, *rest)``.  The
    Jacobian is triangular, so that both directions cost one pass (Dinh et al. 2015, arXiv 1410.8516; Dinh
    et al. 2017, arXiv 1605.08803, section 3.2).

    Raises ValueError unless some entries move and some do not.

    >>> from pushforward.bijections.monotone import ScaleShift
    >>> from pushforward.nn import Perceptron
    >>> layer = Coupling(torch.tensor([False, True]), ScaleShift(), Perceptron)
    >>> layer.forward(torch.ones(1, 2))
    tensor([[1., 1.]], grad_fn=...)
    """

    passive: Tensor
    active: Tensor
    order: Tensor
    back: Tensor

    def __init__(self, active: Tensor | Sequence[bool], monotone: Monotone, network: MakeNetwork):
        super().__init__()
        moves = torch.as_tensor(active, dtype=torch.bool)
        if moves.ndim != 1 or bool(moves.all()) or not bool(moves.any()):
            raise ValueError(
                "active: expected booleans, some true and some false, one for each entry along the first "
                f"dimension of an event, got {moves.tolist()}"
            )
        self.monotone = monotone
        self.domain, self.codomain = monotone.domain, monotone.codomain
        self.register_buffer("passive", (~moves).nonzero()[:, 0], persistent=False)
        self.register_buffer("active", moves.nonzero()[:, 0], persistent=False)
        self.register_buffer("order", torch.cat([self.passive, self.active]), persistent=False)
        self.register_buffer("back", self.order.argsort(), persistent=False)
        self.network = network(len(self.passive), len(self.active) * monotone.size)

    def _split(self, x: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor, Tensor]:
        """With entries first: passive part, active part ``(active, B, *rest)``, its parameters."""
        check_entries(x, len(self.back))
        # copies of whole entries are cheap where the last layer has left x so in memory
        parts = x.movedim(1, 0).index_select(0, self.order)
        passive, active = parts.split([len(self.passive), len(self.active)])
        p = self.network(passive.movedim(0, 1), condition).movedim(1, 0)
        return passive, active, p.unflatten(0, (self.monotone.size, len(self.active)))

    def _join(self, passive: Tensor, moved: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.cat([passive, moved]).index_select(0, self.back).movedim(0, 1)
        return y, log_slope.sum([0, *range(2, log_slope.ndim)])

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        passive, active, p = self._split(x, condition)
        return self._join(passive, *self.monotone.forward_and_log_slope(active, p))

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        passive, active, p = self._split(y, condition)
        return self._join(passive, *self.monotone.inverse_and_log_slope(active, p))
