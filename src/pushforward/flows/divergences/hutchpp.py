"""Hutch++: the divergence exactly on the range where the Jacobian is large, estimated on the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from ...fields import Field
from ...nn.checks import check_count
from ...tensors import Condition
from .base import MOST_PROBES, Divergence, directions, value_and_products


class HutchPlusPlus(Divergence):
    """tr(Q^T A Q) + the mean of g^T P A P g over random signs g, with P = I - Q Q^T and A = J^T.

    Q is an orthonormal basis of A S for a matrix S of random signs: a third of the ``probes`` products with
    the Jacobian J finds Q, a third takes the trace on its range, and the rest estimates that of the other
    directions (Meyer et al. 2021, arXiv 2010.09649, algorithm 1).  Unbiased, whatever Q is.  Where the
    spectrum of J decays the variance falls as 1 / probes^2, that of :class:`Hutchinson` as 1 / probes.  Of no
    use for events of few elements, whose divergence can be had exactly.

    A gradient takes Q for a constant, which is unbiased as well.  Raises ValueError for fewer than 3 and more
    than 1,000 probes.

    >>> estimate, x = HutchPlusPlus(probes=6), torch.tensor([[1.0, 2.0]])
    >>> noise = estimate.draw(x, torch.Generator().manual_seed(0))
    >>> swap = lambda t, x, condition: torch.stack([x[:, 1], x[:, 0]], 1) + x
    >>> estimate(swap, torch.tensor(0.5), x, None, noise)[1].round(decimals=4)
    tensor([2.])
    """

    def __init__(self, probes: int = 6):
        check_count("probes", probes, 3, MOST_PROBES)
        self.probes = probes

    def __repr__(self) -> str:
        return f"HutchPlusPlus(probes={self.probes})"

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        return directions("rademacher", self.probes - self.probes // 3, x, generator)

    def __call__(
        self, field: Field, t: Tensor, x: Tensor, condition: Condition | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        assert noise is not None, "the noise that draw gives"
        value, products = value_and_products(lambda y: field(t, y, condition), x)
        third = self.probes // 3
        sketch, rest = noise[:, :third], noise[:, third:]
        with torch.no_grad():
            basis = torch.linalg.qr(products(sketch).mT).Q.mT  # orthonormal rows
            rest = rest - rest @ basis.mT @ basis
        known = (products(basis) * basis).sum((1, 2))
        return value, known + (products(rest) * rest).sum(2).mean(1)
