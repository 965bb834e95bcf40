"""The path of levels whose rates are those of a random walk, reversed in time."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import by_token
from .metric import MetricTokens

#: Values of beta from which on levels are noised; before, x_t is noise already.
LEAST = 1e-4
#: The largest rate below zero, over the largest above, that is taken for rounding.
ROUNDING = 1e-6


class WalkTokens(MetricTokens):
    r"""p_t(x | x1) in proportion to exp(-\beta_t d(x, x1)), reached by the reversal of noising.

    With d(x, y) = \|x - y\| / (K - 1), by default, backwards in time a level walks at random, nearly
    always to its neighbours, at rates N_t that do not depend on the data point,

    .. math:: \partial_t P_t = -P_t N_t, \quad P_t = [p_t(x | k)]_{kx}

    and given x1 = k the reversal jumps from x to y at N_t(y, x) p_t(y | k) / p_t(x | k).  The bound on the
    log-likelihood is tight for the exact posterior (Austin et al. 2021, arXiv 2107.03006; Campbell et al.
    2022, arXiv 2205.14987), unlike that of :class:`MetricTokens`, whose levels only come nearer.  While beta
    is below 1e-4 rates are those of that path.

    distance: as there, of which N_t has to exist.  scale: K - 1 by default.

    Raises ValueError for distances along which no rates noise the data, as for squares of differences.

    >>> path = WalkTokens(3)
    >>> path.noising(torch.tensor(0.5))[1]
    tensor([0.1842, 0.0000, 0.1842], dtype=torch.float64)
    """

    def __init__(
        self, size: int, distance: Tensor | None = None, scale: float | None = None, power: float = 1.0
    ):
        if distance is None:
            level = torch.arange(size, dtype=torch.float64) / max(size - 1, 1)
            distance = (level[:, None] - level).abs()
        super().__init__(size, distance, float(size - 1) if scale is None else scale, power)
        ratio = (LEAST / self.scale) ** (1 / self.power)
        self.first = ratio / (1 + ratio)
        for t in torch.linspace(0.05, 0.95, 7, dtype=torch.float64) * self.last:
            if float(self.noising(t).min()) < 0:
                raise ValueError(
                    "distance: no rates noise the data along it; take MetricTokens, or differences of levels"
                )

    def noising(self, t: Tensor) -> Tensor:
        """N_t over the slope of beta, ``(..., K, K)`` from row to column, with zeros on the diagonal."""
        kernel = self.kernel(t.double()).exp()
        mean = (kernel * self.distance).sum(-1, keepdim=True)
        rates = torch.linalg.solve(kernel, kernel * (self.distance - mean))
        rates = rates * (1 - torch.eye(self.size, dtype=rates.dtype, device=rates.device))
        return torch.where(rates.abs() < ROUNDING * rates.amax((-1, -2), keepdim=True), 0.0, rates)

    def rates(self, t: Tensor, x: Tensor, log_posterior: Tensor, corrector: float = 0.0) -> Tensor:
        beta, slope = (by_token(value, x) for value in self.beta(t))
        early = beta < LEAST
        found = slope.to(log_posterior) * self._walked(t, x, log_posterior, corrector)
        return torch.where(early, super().rates(t, x, log_posterior), found) if bool(early.any()) else found

    def expected(
        self, t: Tensor, t_next: Tensor, x: Tensor, log_posterior: Tensor, corrector: float = 0.0
    ) -> Tensor:
        # rates grow like 1 / beta where beta is small
        first, last = (self.beta(s)[0].clamp(min=LEAST) for s in (t, t_next))
        change = by_token(first * (last / first).log(), x).to(log_posterior)
        return change * self._walked(t, x, log_posterior, corrector)

    def _walked(self, t: Tensor, x: Tensor, log_posterior: Tensor, corrector: float) -> Tensor:
        """sum_k p(k | x_t) N_t(y, x) p_t(y | k) / p_t(x | k), the rates over the slope of beta."""
        t = t.clamp(min=self.first)
        rates, kernel = self.noising(t), self.kernel(t).to(log_posterior)
        back = self._from(x, rates.mT).to(log_posterior)
        given = log_posterior - self.log_likelihood(t, x).to(log_posterior)
        if kernel.ndim == 3:
            kernel = kernel.reshape(len(x), *[1] * (x.ndim - 1), self.size, self.size)
        found = back * (given[..., None] + kernel).logsumexp(-2).exp()
        if not corrector:
            return found
        weight = by_token(corrector * t * (1 - t), x).to(found)
        return (1 + weight) * found + weight * self._from(x, rates).to(found)
