"""Flows of mixed rows: tokens one by one, and then numbers by an ODE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ..fields import Field
from ..inputs import check_device
from ..nn.columns import ColumnNetwork, show
from ..paths.tokens import check_tokens
from ..solvers import Dopri5, Solver
from ..solvers.jumps import draw
from ..sources import Normal
from ..tensors import Condition, to_tensor
from .base import DensityFlow
from .carrying import Space
from .continuous import ContinuousFlow

#: Uniform numbers that decide on tokens stay inside (0, 1) by so much.
INSIDE = 1e-7


class ColumnFlow(DensityFlow):
    r"""Rows of tokens and numbers, ``(T + M,)``: each token given those before it, then the numbers.

    .. math:: \log p(c, z) = \sum_i \log p(c_i | c_1 \ldots c_{i-1}) + \log p(z | c)

    The tokens follow the posterior of the network, in their order; the numbers that exist given all tokens
    follow its velocity, with the exact density of a :class:`ContinuousFlow`.  Both are exact, up to the
    solver's tolerance.  The source is standard normal: a token is drawn by the probability below its number,
    so that equal points of the source give equal rows.

    net: a :class:`~pushforward.nn.ColumnNetwork`.  solver: of the numbers' ODE.  Rows hold whole tokens, and
    NaN where a number does not exist.  Raises ValueError for tokens out of range, and for numbers that are
    not finite where they exist.

    >>> from pushforward.nn import ColumnLayout
    >>> flow = ColumnFlow(ColumnNetwork(ColumnLayout((2,), (0,), (1,), (1,)), width=8, depth=1))
    >>> flow.log_prob([[1.0, 0.0]]).detach()
    tensor([-1.6121])
    """

    no_path = "its tokens are drawn one by one"

    def __init__(self, net: ColumnNetwork, solver: Solver | None = None):
        super().__init__()
        self.field, self.layout, self.solver = net, net.layout, solver or Dopri5()
        self.source = Normal(net.layout.tokens + net.layout.numbers)

    def rows(self, x: Any, space: Space = "data") -> Tensor:
        """Rows in the dtype of the network; NaN where a number does not exist."""
        if space == "source":
            return super().rows(x, space)
        rows = to_tensor(x, "x", self.space_dtype("data"))
        check_device(rows, self, "x")
        if rows.shape[-1:] == self.event_shape:
            tokens, numbers = self._divided(rows.reshape(-1, *self.event_shape))
            if not bool(numbers[self.layout.exists(tokens)].isfinite().all()):
                raise ValueError("x: expected finite numbers, and NaN only where a number does not exist")
        return rows

    def _divided(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``(B, T)`` and numbers ``(B, M)`` of rows, with a check of the former."""
        count = self.layout.tokens
        tokens = [check_tokens(x[:, i], size, "x") for i, size in enumerate(self.layout.sizes)]
        return torch.stack(tokens, 1) if count else x[:, :0].long(), x[:, count:]

    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        none = torch.zeros(len(x0), self.layout.columns, dtype=torch.bool, device=x0.device)
        return self._completed(torch.zeros_like(x0), none, x0)

    def complete(
        self,
        x: Any,
        observed: Any,
        generator: torch.Generator | None = None,
        never: Sequence[int | None] | None = None,
    ) -> Tensor:
        """Rows ``(B, T + M)`` whose columns are kept where ``observed`` ``(B, C)`` is True, else drawn.

        What stands where nothing is observed plays no part.  ``never`` names for each token a value that is
        not drawn, None for none.  Raises ValueError for shapes that do not fit.
        """
        given = to_tensor(x, "x", self.space_dtype("data"))
        kept = to_tensor(observed, "observed").bool()
        expected = ((len(given), *self.event_shape), (len(given), self.layout.columns))
        if (tuple(given.shape), tuple(kept.shape)) != expected:
            raise ValueError(
                f"x, observed: expected shapes {expected[0]} and {expected[1]}, got {tuple(given.shape)} and "
                f"{tuple(kept.shape)}"
            )
        seen = torch.cat([self.layout.of_tokens(kept), self.layout.of_numbers(kept)], 1)
        rows = self.rows(torch.where(seen, given, 0.0))
        x0 = self.source.sample(len(rows), None, generator).to(rows)
        return self._completed(rows, kept, x0, never)

    def _completed(
        self, x: Tensor, observed: Tensor, x0: Tensor, never: Sequence[int | None] | None = None
    ) -> Tensor:
        layout = self.layout
        tokens, numbers = self._divided(x)
        shown = layout.of_tokens(observed)
        known = layout.of_numbers(observed) & layout.exists(tokens)
        numbers = torch.where(known, numbers, 0.0)
        u = torch.special.ndtr(x0[:, : layout.tokens]).clamp(INSIDE, 1 - INSIDE)
        for i in range(layout.tokens):
            free = ~shown[:, i]
            if bool(free.any()):
                seen = show(layout, tokens[free], numbers[free], shown[free], known[free])
                chances = self.field.scores(seen)[i].softmax(-1)
                if never is not None and (left_out := never[i]) is not None:
                    chances = chances.index_fill(1, torch.tensor([left_out], device=x.device), 0.0)
                tokens[free, i] = draw(chances, u[free, i])
                shown[free, i] = True
        exists = layout.exists(tokens)
        if layout.numbers:
            flow, context = self._numbers(tokens, numbers, known, exists & ~known)
            start = torch.where(exists & ~known, x0[:, layout.tokens :], 0.0)
            numbers = torch.where(known, numbers, flow.push(start, context))
        return torch.cat([tokens.to(numbers), torch.where(exists, numbers, torch.nan)], 1)

    def _numbers(
        self, tokens: Tensor, numbers: Tensor, known: Tensor, free: Tensor
    ) -> tuple[ContinuousFlow, Tensor]:
        """The flow of the numbers that are ``free`` given all tokens and those that are ``known``."""
        every = torch.ones_like(tokens, dtype=torch.bool)
        context = self.field.encoded(show(self.layout, tokens, numbers, every, known))
        source, shape = Normal(self.layout.numbers).to(numbers), tuple(context.shape[1:])
        flow = ContinuousFlow(cast(Field, self.field.moves), self.solver, source, condition_shape=shape)
        return flow.masked(free), context

    def forward(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        tokens, numbers = self.parts(x)
        return tokens.sum(1) + numbers

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The log-probability of each token given those before it ``(B, T)``, and the log-density of the
        numbers given all tokens ``(B,)``, of rows ``(B, T + M)``."""
        layout = self.layout
        tokens, numbers = self._divided(self.rows(x))
        exists = layout.exists(tokens)
        nothing, zeros = torch.zeros_like(exists), torch.where(exists, numbers, 0.0)
        found = numbers.new_zeros(len(tokens), layout.tokens)
        shown = torch.zeros_like(tokens, dtype=torch.bool)
        for i in range(layout.tokens):
            scores = self.field.scores(show(layout, tokens, zeros, shown, nothing))[i]
            found[:, i] = scores.log_softmax(-1).gather(1, tokens[:, i : i + 1])[:, 0]
            shown[:, i] = True
        if not layout.numbers:
            return found, found.new_zeros(len(found))
        flow, context = self._numbers(tokens, zeros, nothing, exists)
        return found, flow.log_prob(zeros, context)
