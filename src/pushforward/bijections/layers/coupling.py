"""Coupling layers: one part of an event moves, by what the other part says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ...nn.checks import check_kind
from ...tensors import Condition, to_tensor
from ..base import Bijection
from ..monotone import Monotone
from ..numerics.shapes import check_entries, take_entries

#: ``(inputs, outputs) -> net(x, condition)``: makes the network of a layer.
MakeNetwork = Callable[[int, int], nn.Module]


class CouplingLayer(Bijection):
    """y_passive = x_passive, y_active = f(x_active; net(x_passive, condition)), element by element.

    ``active`` says which of the entries along the first dimension of an event move (features of a vector,
    channels of an image): booleans, one for each.  ``network`` makes a module for (number of passive
    entries, numbers it must give); it carries ``(B, inputs, *rest)`` to ``(B, outputs, *rest)``.  The
    Jacobian is triangular, so that both directions cost one pass (Dinh et al. 2015, arXiv 1410.8516; Dinh
    et al. 2017, arXiv 1605.08803, section 3.2).

    Raises ValueError unless some entries move and some do not.

    >>> from pushforward.bijections.monotone import ScaleShift
    >>> from pushforward.nn import Perceptron
    >>> layer = CouplingLayer(torch.tensor([False, True]), ScaleShift(), Perceptron)
    >>> layer.forward(torch.ones(1, 2))
    tensor([[1., 1.]], grad_fn=...)
    """

    passive: Tensor
    active: Tensor
    order: Tensor
    back: Tensor

    def __init__(self, active: Tensor | Sequence[bool], monotone: Monotone, network: MakeNetwork):
        super().__init__()
        moves = to_tensor(active, "active")
        if moves.dtype != torch.bool or moves.ndim != 1 or bool(moves.all()) or not bool(moves.any()):
            raise ValueError(
                "active: expected booleans, some true and some false, one for each entry along the first "
                f"dimension of an event, got {moves.tolist()}"
            )
        check_kind("monotone", monotone, Monotone)
        self.monotone = monotone
        self.domain, self.codomain = monotone.domain, monotone.codomain
        self.register_buffer("passive", (~moves).nonzero()[:, 0], persistent=False)
        self.register_buffer("active", moves.nonzero()[:, 0], persistent=False)
        self.axis = 0 if monotone.rows_last else 1
        #: whether the entries that move come first, and whether they stand all before or after the others
        self.first, self.apart = bool(moves[0]), int((moves[1:] != moves[:-1]).sum()) == 1
        parts = [self.active, self.passive] if self.first else [self.passive, self.active]
        self.sizes, self.moving = [len(part) for part in parts], len(self.active)
        self.register_buffer("order", torch.cat(parts), persistent=False)
        self.register_buffer("back", self.order.argsort(), persistent=False)
        self.network = network(len(self.passive), self.moving * monotone.size)

    def _split(self, x: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor, Tensor]:
        """Passive part and active part, entries along ``axis`` and rows along the other, and parameters."""
        check_entries(x, sum(self.sizes))
        one, other = (x if self.apart else take_entries(x, self.order)).split_with_sizes(self.sizes, 1)
        active, passive = (one, other) if self.first else (other, one)
        p = self.network(passive, condition).unflatten(1, (self.monotone.size, self.moving))
        p = p.movedim(1, 0)
        if self.axis == 1:
            return passive, active, p
        return passive.movedim(1, 0), active.movedim(1, 0), p.movedim(2, 1).contiguous()

    def _join(self, passive: Tensor, moved: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.cat([moved, passive] if self.first else [passive, moved], self.axis).movedim(self.axis, 1)
        log_det = log_slope.sum([self.axis, *range(2, log_slope.ndim)])
        return y if self.apart else take_entries(y, self.back), log_det

    def untouched(self, entries: Tensor, inverse: bool = False) -> Tensor | None:
        check_entries(entries[None], sum(self.sizes))
        return entries.index_fill(0, self.active.to(entries.device), False)

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
