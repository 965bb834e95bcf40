"""Normal noise on the data, which keeps a density bounded if values repeat, and smooth for few rows."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import random
from ...tensors import Condition, to_tensor
from ..base import Surjection


class Blur(Surjection):
    """y = x + scale * n with n ~ N(0, I); the inverse also adds noise: x = y + scale * n.

    A flow trained through its inverse learns the distribution of the data plus N(0, scale^2), whose density
    is bounded even if one value repeats; for few rows the noise is the regulariser of Rothfuss et al. 2019
    (arXiv 1907.08982).  To score rows under that distribution, remove this layer from the flow.  As a part of
    the flow it makes the log-density a lower bound: E_n log p(y + scale n) <= log (p * N(0, scale^2))(y).

    ``scale`` broadcasts against one event.  Raises ValueError where it is negative or not finite.

    >>> Blur(torch.tensor([0.0, 0.5])).inverse(torch.zeros(1, 2)).shape
    torch.Size([1, 2])
    """

    scale: Tensor

    def __init__(self, scale: Tensor | float):
        super().__init__()
        self.register_buffer("scale", to_tensor(scale, "scale"))
        if not bool((self.scale >= 0).all() and self.scale.isfinite().all()):
            raise ValueError("scale: expected finite numbers >= 0")

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        noise = random.normal(x.shape, generator, x.dtype, x.device)
        return x + self.scale.to(x) * noise, x.new_zeros(x.shape[0])

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.forward_and_log_det(y, condition, generator)
