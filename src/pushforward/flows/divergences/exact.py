"""The exact divergence."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ...fields import Field
from ...nn.checks import check_count
from ...tensors import Condition
from ..divergence import field_divergence
from .base import Divergence


class Exact(Divergence):
    """The sum of all d derivatives df_i/dx_i, as the field itself computes it or by differentiation.

    See :func:`~pushforward.fields.offered` and :func:`~pushforward.flows.divergence`.

    ``chunk`` limits how many of them are computed at once, to save memory; None for all.  Raises ValueError
    for one that is not positive.

    >>> field = lambda t, x, condition: x**2
    >>> Exact()(field, torch.tensor(0.5), torch.tensor([[1.0, 2.0]]), None, None)
    (tensor([[1., 4.]]), tensor([6.]))
    """

    exact: ClassVar[bool] = True

    def __init__(self, chunk: int | None = None):
        if chunk is not None:
            check_count("chunk", chunk)
        self.chunk = chunk

    def __repr__(self) -> str:
        return "Exact()" if self.chunk is None else f"Exact(chunk={self.chunk})"

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        return None

    def __call__(
        self, field: Field, t: Tensor, x: Tensor, condition: Condition | None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return field_divergence(field, t, x, condition, self.chunk)
