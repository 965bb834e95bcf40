"""Fields on events of which some elements are padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..tensors import Condition, valid_elements
from .base import AnyField, as_field
from .offers import Offered, offered


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

    @property
    def breaks(self) -> tuple[float, ...]:
        """The times at which the field jumps."""
        return tuple(getattr(self.field, "breaks", ()))

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        valid, mask = self._valid(x)
        more = {"mask": mask} if self.uses_mask else {}
        return torch.where(valid, self.field(t, torch.where(valid, x, 0.0), condition, **more), 0.0)

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the field, see :func:`~pushforward.fields.offered`."""
        if self.uses_mask:
            return None
        valid, _ = self._valid(x)
        counted = valid if mask is None else valid & mask
        found = offered(self.field, t, torch.where(valid, x, 0.0), condition, counted)
        return None if found is None else (torch.where(valid, found[0], 0.0), found[1])

    def _valid(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mask of all elements of ``x``, and the same in the shape that was given."""
        mask = self.mask
        if len(mask) and len(x) != len(mask):
            mask = torch.cat([mask] * (len(x) // len(mask)))
        return valid_elements(mask, x), mask
