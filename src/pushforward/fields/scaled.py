"""A network whose input is scaled to unit variance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..paths import Path, check_affine
from ..tensors import Condition, expand_time
from .base import AnyField, as_field
from .offers import Offered, by_row, offered


class Scaled(nn.Module):
    """field(t, x / sqrt(alpha_t^2 + s_t^2)), s_t the noise scale of ``path``.

    For data of unit variance the network's input then has unit variance at every t, which matters for
    variance exploding paths (Karras et al. 2022, arXiv 2206.00364, the input scaling of table 1).
    """

    def __init__(self, field: AnyField, path: Path):
        super().__init__()
        self.field, self.path = as_field(field), check_affine(path)

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.field(t, x / self._deviation(t, x), condition)

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the field, see :func:`~pushforward.fields.offered`."""
        deviation = self._deviation(t, x)
        found, each = offered(self.field, t, x / deviation, condition, mask), by_row(deviation)
        return None if found is None or each is None else (found[0], found[1] / each)

    def _deviation(self, t: Tensor, x: Tensor) -> Tensor:
        c = self.path.coefficients(expand_time(t, x))
        return torch.sqrt(c.alpha.square() + c.noise_scale.square())
