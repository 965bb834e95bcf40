"""Fields on events of which some elements are padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..tensors import Condition, valid_elements
from .base import AnyField, as_field


class Masked(nn.Module):
    """m * field(t, m * x): padded elements stand still, and the field sees zeros there.

    ``mask`` is ``(B, *event)``, or ``(B, ...)`` of the first dimensions of an event; it is True on valid
    elements.  A field whose attribute ``uses_mask`` is true is called with ``mask=mask`` as well.  Calls on
    several times B rows repeat the mask, as guidance does.  Raises ValueError for a mask of another shape.

    >>> mask = torch.tensor([[True, True], [True, False]])
    >>> Masked(lambda t, x: x + 1, mask)(torch.zeros(()), torch.ones(2, 2))
    tensor([[2., 2.],
            [2., 0.]])
    """

    def __init__(self, field: AnyField, mask: Tensor):
        super().__init__()
        self.field, self.mask = as_field(field), mask.bool()
        self.uses_mask = bool(getattr(field, "uses_mask", False))

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        mask = self.mask
        if len(mask) and len(x) != len(mask):
            mask = torch.cat([mask] * (len(x) // len(mask)))
        valid = valid_elements(mask, x)
        more = {"mask": mask} if self.uses_mask else {}
        return torch.where(valid, self.field(t, torch.where(valid, x, 0.0), condition, **more), 0.0)
