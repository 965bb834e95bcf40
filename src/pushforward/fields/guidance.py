"""Classifier-free guidance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..tensors import Condition, drop_condition
from .base import AnyField, as_field


def _twice(condition: Condition) -> Condition:
    absent = drop_condition(condition)
    if isinstance(condition, Tensor):
        assert isinstance(absent, Tensor)
        return torch.cat([condition, absent])
    assert absent is not None and not isinstance(absent, Tensor)
    return {key: torch.cat([condition[key], absent[key]]) for key in condition}


class Guided(nn.Module):
    """v = v_absent + weight * (v_condition - v_absent).

    Ho & Salimans 2022, arXiv 2207.12598, eq. 6, with weight = 1 + their w: 1 is the conditional field,
    0 the unconditional one.  Both are evaluated in one call on a doubled batch.  The samples of a guided flow
    do not follow a tempered density.  Without a condition it is the unconditional field.
    """

    def __init__(self, field: AnyField, weight: float):
        super().__init__()
        self.field, self.weight = as_field(field), float(weight)

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        if condition is None or self.weight == 1.0:
            return self.field(t, x, condition)
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        both = self.field(torch.cat([t, t]) if t.ndim else t, torch.cat([x, x]), _twice(condition))
        conditional, absent = both.chunk(2)
        return absent + self.weight * (conditional - absent)
