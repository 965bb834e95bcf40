"""Fields that follow one after the other in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor

from ..nn.checks import check_number
from ..tensors import Condition, expand_time
from .base import AnyField, Field, as_field
from .offers import Offered, offered


class Piecewise(nn.Module):
    """n h_k field_k(n t - k, x) at k / n <= t < (k + 1) / n: each of n fields in its part of [0, 1].

    In its part a field runs through its own time from 0 to 1, h_k times as fast.  At the times ``breaks``
    between two of them the velocity jumps; a :class:`~pushforward.flows.ContinuousFlow` tells its solver,
    which makes its steps from each to the next.

    fields: callables ``field(t, x, condition=None)``.  lengths: h_k, 1 if None.

    Raises ValueError without fields, for another number of lengths and for one that is not positive.

    >>> field = Piecewise([lambda t, x: x, lambda t, x: 0 * x], lengths=[2.0, 1.0])
    >>> field(torch.tensor([0.2, 0.7]), torch.ones(2, 1)), field.breaks
    (tensor([[4.],
            [0.]]), (0.5,))
    """

    def __init__(self, fields: Sequence[AnyField], lengths: Sequence[float] | None = None):
        super().__init__()
        if not fields:
            raise ValueError("fields: expected at least one, got none")
        lengths = [1.0] * len(fields) if lengths is None else [*lengths]
        if len(lengths) != len(fields):
            raise ValueError(f"lengths: expected one for each of {len(fields)} fields, got {len(lengths)}")
        self.lengths = [float(check_number("lengths", h, 0)) for h in lengths]
        for k, field in enumerate(fields):  # a module, or a function, which no ModuleList takes
            setattr(self, f"field_{k}", as_field(field))

    @property
    def fields(self) -> list[Field]:
        """The fields, in order."""
        return [getattr(self, f"field_{k}") for k in range(len(self.lengths))]

    @property
    def breaks(self) -> tuple[float, ...]:
        """The times between two fields."""
        return tuple(k / len(self.lengths) for k in range(1, len(self.lengths)))

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        fields, count = self.fields, len(self.lengths)

        def one(k: int, own: Tensor) -> tuple[Tensor]:
            return (count * self.lengths[k] * fields[k](own, x, condition),)

        return self._by_time(t, x, one)[0]

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the fields, see :func:`~pushforward.fields.offered`."""

        def one(k: int, own: Tensor) -> Offered:
            found, factor = (
                offered(self.fields[k], own, x, condition, mask),
                len(self.fields) * self.lengths[k],
            )
            return None if found is None else (factor * found[0], factor * found[1])

        return self._by_time(t, x, one)

    def _by_time(self, t: Tensor, x: Tensor, one: Callable[[int, Tensor], Any]) -> Any:
        """What ``one(k, own time)`` gives for the field k of each time: tuples of rows, or None."""
        count = len(self.lengths)
        if count == 1:
            return one(0, t)
        place = torch.zeros_like(t, dtype=torch.long)
        for at in self.breaks:
            place = place + (t >= at)
        found: Any = None
        # one field alone, in a solve that stops at the breaks; all where times cannot be looked at
        blind = torch.compiler.is_compiling() or is_functorch_wrapped_tensor(place)
        for k in range(count) if blind else place.unique().tolist():
            part = one(k, (count * t - k).clamp(0, 1))
            if part is None:
                return None
            if found is None:
                found = part
            else:
                found = tuple(torch.where(expand_time(place, b) == k, b, a) for a, b in zip(found, part))
        return found
