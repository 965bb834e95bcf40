"""Any bijection under a condition: a network moves its parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..nn.checks import check_kind
from ..tensors import Condition
from .base import Bijection
from .layers.coupling import MakeNetwork


class Conditional(Bijection):
    """y = f(x; theta + net(condition)): every parameter of ``bijection`` depends on the condition.

    ``network`` makes a module for ``(0, numbers)`` that carries ``(B, 0)`` and a condition to
    ``(B, numbers)``, one for each parameter of the bijection, such as
    :class:`~pushforward.nn.Perceptron`, with which the layer starts as ``bijection`` itself.  Rows with
    their own parameters are carried at once (``torch.func.vmap``).  Couplings, autoregressive and residual
    layers have networks of their own, which take conditions at less cost.  Raises ValueError for a
    bijection without parameters.

    >>> from functools import partial
    >>> from pushforward.bijections import Planar
    >>> from pushforward.nn import Perceptron
    >>> layer = Conditional(Planar(2), partial(Perceptron, condition=3))
    >>> layer.forward(torch.ones(4, 2), torch.tensor([0, 1, 2, 0])).shape
    torch.Size([4, 2])
    """

    def __init__(self, bijection: Bijection, network: MakeNetwork):
        super().__init__()
        check_kind("bijection", bijection, Bijection)
        size = sum(p.numel() for p in bijection.parameters())
        if size == 0:
            raise ValueError(f"bijection: {type(bijection).__name__} has no parameters to condition")
        self.rows = _Row(bijection)
        self.domain, self.codomain = bijection.domain, bijection.codomain
        self.network = network(0, size)

    def event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.rows.bijection.event_shape(shape)

    def inverse_event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.rows.bijection.inverse_event_shape(shape)

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self._by_row(x, condition, generator, False)

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self._by_row(y, condition, generator, True)

    def _by_row(
        self, x: Tensor, condition: Condition | None, generator: torch.Generator | None, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        if len(x) == 0:  # which vmap does not take
            shape = self.inverse_event_shape(x.shape[1:]) if inverse else self.event_shape(x.shape[1:])
            return x.new_zeros(0, *shape), x.new_zeros(0)
        offsets = self.network(x.new_zeros(len(x), 0), condition).expand(len(x), -1)
        own = dict(self.rows.named_parameters())
        sizes = [p.numel() for p in own.values()]

        def carry(x: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
            parts = zip(own.items(), offset.split(sizes))
            moved = {name: p + part.reshape(p.shape) for (name, p), part in parts}
            return functional_call(self.rows, moved, (x, generator, inverse))

        return vmap(carry, randomness="different")(x, offsets)


class _Row(nn.Module):
    """Carries one event either way: what ``functional_call`` can call."""

    def __init__(self, bijection: Bijection):
        super().__init__()
        self.bijection = bijection

    def forward(self, x: Tensor, generator: torch.Generator | None, inverse: bool) -> tuple[Tensor, Tensor]:
        bijection = self.bijection
        carry = bijection.inverse_and_log_det if inverse else bijection.forward_and_log_det
        y, log_det = carry(x[None], None, generator)
        return y[0], log_det[0]
