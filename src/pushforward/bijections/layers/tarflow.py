"""Autoregressive maps of sequences by a causal transformer, the layers of TarFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...nn.causal import Cache, CausalTransformer
from ...nn.checks import check_kind, check_sizes
from ...tensors import Condition, event_size, sum_event
from ..base import Bijection
from ..monotone import Monotone, ScaleShift

#: ``(tokens, inputs, outputs) -> net``: makes the transformer of a layer.
MakeTransformer = Callable[[int, int, int], CausalTransformer]


class TransformerAutoregressive(Bijection):
    """y_i = f(x_i; net_i(x_1, ..., x_{i-1}, condition)) on sequences of vectors; y_1 = f(x_1; 0).

    An event ``(K, *positions)`` is a sequence of vectors of K numbers, its positions in reading order, or
    with ``reverse`` from the last to the first.  Of images :class:`Squeeze` makes such: patches, whose pixels
    are channels.  ``monotone`` moves each number, by default exp(a) x + b with a bounded a.  Forward
    takes one pass of the transformer; the inverse goes token by token, with the keys and values of those
    before kept, and is exact after one such round.

    Zhai et al. 2024, arXiv 2412.06329, eq. 3 to 6 (TarFlow).  Raises ValueError for other events.

    >>> layer = TransformerAutoregressive((4, 3, 3), CausalTransformer)
    >>> y, log_det = layer.forward_and_log_det(torch.ones(2, 4, 3, 3))
    >>> bool((y == 1).all()), log_det  # still the identity
    (True, tensor([0., 0.], grad_fn=...))
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        network: MakeTransformer,
        reverse: bool = False,
        monotone: Monotone | None = None,
    ):
        super().__init__()
        self.shape, self.reverse = check_sizes("event_shape", event_shape), reverse
        self.monotone = ScaleShift() if monotone is None else monotone
        check_kind("monotone", self.monotone, Monotone)
        self.tokens = event_size(self.shape[1:])
        if self.tokens < 2:
            raise ValueError(f"event_shape: expected at least two positions, got {self.shape}")
        self.network = network(self.tokens - 1, self.shape[0], self.shape[0] * self.monotone.size)

    def _sequence(self, x: Tensor) -> Tensor:
        """``(B, K, *positions)`` to ``(B, tokens, K)``."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x: expected events of shape {self.shape}, got {tuple(x.shape[1:])}")
        tokens = x.flatten(2).mT
        return tokens.flip(1) if self.reverse else tokens

    def _event(self, tokens: Tensor) -> Tensor:
        tokens = tokens.flip(1) if self.reverse else tokens
        return tokens.mT.reshape(len(tokens), *self.shape)

    def _for_each(self, p: Tensor) -> Tensor:
        """The transformer's outputs as parameters ``(size, B, n, K)``."""
        return p.unflatten(-1, (self.monotone.size, self.shape[0])).movedim(2, 0)

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        tokens = self._sequence(x)
        p = self._for_each(self.network(tokens[:, :-1], condition))
        p = torch.cat([torch.zeros_like(p[:, :, :1]), p], 2)
        y, log_slope = self.monotone.forward_and_log_slope(tokens, p)
        return self._event(y), sum_event(log_slope)

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        tokens = self._sequence(y)
        p = tokens.new_zeros(self.monotone.size, *tokens[:, :1].shape)
        caches: list[Cache] = []
        found, log_slopes = [], []
        for i in range(self.tokens):
            x, log_slope = self.monotone.inverse_and_log_slope(tokens[:, i : i + 1], p)
            found.append(x)
            log_slopes.append(log_slope)
            if i < self.tokens - 1:
                p, caches = self.network.extend(x, condition, caches)
                p = self._for_each(p)
        return self._event(torch.cat(found, 1)), sum_event(torch.cat(log_slopes, 1))
