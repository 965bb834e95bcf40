"""Autoregressive maps: each element moves by what those before it say."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor

from ...nn import OneByOne
from ...nn.checks import check_count, check_kind
from ...tensors import Condition, every
from ..base import Bijection
from ..monotone import Monotone
from ..numerics.roots import differentiating, smooth_inverse

#: ``(dim, size) -> net(x, condition)``: makes the masked network of a layer.
MakeMasked = Callable[[int, int], nn.Module]

#: Rows of which a pass of the network takes longer than the calls it is made of.
MANY = 128


class Autoregressive(Bijection):
    """y_i = f(x_i; net_i(x_1, ..., x_{i-1}, condition)) on vectors of ``dim`` numbers.

    Forward takes one pass.  The inverse is the fixed point of x <- f^-1(y; net(x)), of which the first k
    elements are right after k passes; it stops when a pass changes no bit of any x, which is exact and
    mostly comes long before the ``dim`` passes that always suffice (Song et al. 2021, arXiv 2002.03629).
    Of many rows on a processor, what a few passes have not settled is found element by element, each for a
    small part of a pass.  ``passes`` says how many passes the last inverse took.  Wrapped in
    :class:`Inverse` the layer is a masked autoregressive flow, fast from the data (Papamakarios et al. 2017,
    arXiv 1705.07057); as it is, an inverse autoregressive flow, fast from the source (Kingma et al. 2016,
    arXiv 1606.04934).

    ``network`` makes a module for ``(dim, numbers per element)`` that carries ``(B, dim)`` to
    ``(B, numbers, dim)``, its outputs of element i blind to inputs i and later.  Where it has a method
    ``one_by_one``, as :class:`~pushforward.nn.MaskedPerceptron` has, that finds what passes left open.

    >>> from pushforward.bijections.monotone import ScaleShift
    >>> from pushforward.nn import MaskedPerceptron
    >>> layer = Autoregressive(3, ScaleShift(), MaskedPerceptron)
    >>> layer.inverse(torch.ones(1, 3)), layer.passes  # still the identity
    (tensor([[1., 1., 1.]], grad_fn=...), 1)
    """

    def __init__(self, dim: int, monotone: Monotone, network: MakeMasked):
        super().__init__()
        self.dim, self.monotone = check_count("dim", dim), monotone
        check_kind("monotone", monotone, Monotone)
        self.domain, self.codomain = monotone.domain, monotone.codomain
        self.network = network(dim, monotone.size)
        self.axis = 0 if monotone.rows_last else 1
        self.passes = 0

    def _told(self, moved: Tensor, seen: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor]:
        """What moves and its parameters, by what is ``seen``; elements along ``axis``, rows the other."""
        p = self.network(seen, condition).movedim(1, 0)
        return (moved, p) if self.axis == 1 else (moved.mT.contiguous(), p.mT.contiguous())

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        y, log_slope = self.monotone.forward_and_log_slope(*self._told(x, x, condition))
        return y.movedim(self.axis, 1), log_slope.sum(self.axis)

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        if not differentiating():
            x, log_slope = self._solve(y, condition)
            return x, log_slope.sum(1)
        x = smooth_inverse(self, self.forward, lambda y, c: self._solve(y, c)[0], y, condition)
        return x, -self.forward_and_log_det(x, condition)[1]

    def _solve(self, y: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor]:
        one_by_one = getattr(self.network, "one_by_one", None)
        x, passes = y, 0
        many = y.is_cpu and len(y) >= MANY and not is_functorch_wrapped_tensor(y)
        few = max(2, self.dim // 16) if many else self.dim
        while True:
            new, log_slope = self.monotone.inverse_and_log_slope(*self._told(y, x, condition))
            new, log_slope = new.movedim(self.axis, 1), log_slope.movedim(self.axis, 1)
            passes += 1
            # a value that is no number never equals itself
            if passes == self.dim or every((new == x) | (new.isnan() & x.isnan())):
                break
            if passes == few and one_by_one is not None:
                y = y.mT.contiguous()
                new, log_slope = self._rest(y, new, log_slope, few, one_by_one(y, condition))
                break
            x = new
        self.passes = passes
        return new, log_slope

    def _rest(
        self, y: Tensor, x: Tensor, log_slope: Tensor, found: int, ahead: OneByOne
    ) -> tuple[Tensor, Tensor]:
        """The inverse, of which the elements of rank below ``found`` are in x and their slopes known."""
        order = ahead.network.by_rank
        values, slopes = [*x.mT[order[:found]]], [*log_slope.mT[order[:found]]]
        new = torch.stack(values)
        for element in order[found:]:
            value, slope = self.monotone.inverse_and_log_slope(y[element], ahead.feed(new))
            values.append(value)
            slopes.append(slope)
            new = value[None]
        back = torch.tensor(order, device=y.device).argsort()
        return torch.stack(values)[back].mT, torch.stack(slopes)[back].mT
