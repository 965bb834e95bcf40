"""What a field is: any callable ``field(t, x, condition=None)``."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ..tensors import Condition


class Field(Protocol):
    """A velocity ``(B, *event)`` at time ``t`` (scalar or ``(B,)``) and place ``x`` ``(B, *event)``."""

    def __call__(self, t: Tensor, x: Tensor, condition: Condition | None = None, /) -> Tensor: ...
