"""Hutchinson's estimate of a divergence."""

from __future__ import annotations

import torch
from torch import Tensor

from ...fields import Field
from ...nn.checks import check_count
from ...tensors import Condition
from .base import MOST_PROBES, Divergence, Noise, check_noise, directions, value_and_products


class Hutchinson(Divergence):
    """The mean of e^T J e over ``probes`` random directions e with E[e e^T] = I.

    J is the Jacobian of the field, of which only products are computed: a reverse pass for each direction,
    whatever the size of an event.  Unbiased; the variance of one direction is, with A = (J + J^T) / 2,

        2 (|A|_F^2 - sum_i A_ii^2) for ``noise="rademacher"``,    2 |A|_F^2 for ``noise="gaussian"``

    so that random signs are never worse, and exact where J is diagonal (Hutchinson 1989, doi
    10.1080/03610919008812866; Grathwohl et al. 2019, arXiv 1810.01367, eq. 7).  Raises ValueError for an
    unknown noise and for fewer than 1 or more than 1,000 directions.

    >>> estimate, x = Hutchinson(probes=2), torch.tensor([[1.0, 2.0]])
    >>> noise = estimate.draw(x, torch.Generator().manual_seed(0))
    >>> estimate(lambda t, x, condition: x**2, torch.tensor(0.5), x, None, noise)
    (tensor([[1., 4.]]), tensor([6.]))
    """

    def __init__(self, noise: Noise = "rademacher", probes: int = 1):
        check_count("probes", probes, most=MOST_PROBES)
        self.noise: Noise = check_noise(noise)
        self.probes = probes

    def __repr__(self) -> str:
        return f"Hutchinson(noise={self.noise!r}, probes={self.probes})"

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        return directions(self.noise, self.probes, x, generator)

    def along(
        self, field: Field, t: Tensor, x: Tensor, condition: Condition | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``field(t, x, condition)`` and its products e^T J ``(B, probes, d)`` with the directions e."""
        assert noise is not None
        value, products = value_and_products(lambda y: field(t, y, condition), x)
        return value, products(noise)

    def __call__(
        self, field: Field, t: Tensor, x: Tensor, condition: Condition | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        assert noise is not None, "the noise that draw gives"
        value, slopes = self.along(field, t, x, condition, noise)
        return value, (slopes * noise).sum(2).mean(1)
