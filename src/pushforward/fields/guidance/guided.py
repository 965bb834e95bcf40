"""A field under guidance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...tensors import Condition
from ..base import AnyField, as_field
from ..offers import Offered, offers
from .base import Guidance, check_number
from .classifier_free import ClassifierFree


class Guided(nn.Module):
    """``field`` under ``guidance``, a field itself.  A number is the weight of classifier-free guidance.

    >>> still = lambda t, x, condition: torch.where(condition[:, None] < 0, 0.0, 1.0) * torch.ones_like(x)
    >>> Guided(still, 3.0)(torch.tensor(0.5), torch.zeros(1, 2), torch.tensor([4]))
    tensor([[3., 3.]])
    """

    def __init__(self, field: AnyField, guidance: Guidance | float):
        super().__init__()
        self.field, self.guidance = as_field(field), as_guidance(guidance)

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.guidance(self.field, _time(t, x), x, condition)

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the field, see :func:`~pushforward.fields.offered`."""
        if not offers(self.guidance):
            return None
        return self.guidance.value_and_divergence(self.field, _time(t, x), x, condition, mask)


def _time(t: Tensor | float, x: Tensor) -> Tensor:
    return torch.as_tensor(t, dtype=x.dtype, device=x.device)


def as_guidance(guidance: Guidance | float, name: str = "guidance") -> Guidance:
    """``guidance`` itself, or classifier-free guidance of that weight.

    Raises ValueError for anything but a :class:`Guidance` and a finite number.
    """
    if isinstance(guidance, Guidance):
        return guidance
    return ClassifierFree(check_number(guidance, name, "a finite number or a Guidance"))
