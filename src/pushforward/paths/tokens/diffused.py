"""The path of tokens from uniform noise whose rates are those of noising, reversed in time."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ...solvers.problems import Rates
from ..base import PathPoint
from .base import TokenPath, by_token
from .uniform import UniformTokens

#: Values of kappa from which on tokens are noised; before, x_t is noise already.
LEAST = 1e-5


class DiffusedTokens(UniformTokens):
    r"""The points of :class:`UniformTokens`, reached by the reversal of a process that noises the data.

    Backwards in time a token is redrawn uniformly at the rate \kappa' / \kappa, whatever the data point is.
    Given x1 = k, its reversal jumps from x to y at

    .. math:: \frac{\kappa'_t}{\kappa_t K} \frac{p_t(y | k)}{p_t(x | k)}
        = \frac{\kappa'_t}{1 - \kappa_t} \delta_{yk}
          + \frac{\kappa'_t}{\kappa_t K} \left(1 - \frac{K \kappa_t}{1 + (K - 1) \kappa_t} \delta_{xk}\right)

    so tokens also move between values that are noise.  The bound on the log-likelihood is that of discrete
    diffusion and tight for the exact posterior (Austin et al. 2021, arXiv 2107.03006; Campbell et al. 2022,
    arXiv 2205.14987), unlike that of :class:`UniformTokens`.  While kappa is below 1e-5 only the first term
    is there, as the second has no bound, which costs 1e-5 nats a token; x_t has the same distribution.

    >>> path = DiffusedTokens(3)
    >>> path.rates(torch.tensor(0.5), torch.tensor([[1]]), torch.tensor([[[0.2, 0.5, 0.3]]]).log())
    tensor([[[0.8167, 1.4167, 1.0167]]])
    """

    #: noising draws from the source anew, so that pairs with it would be lost
    starts_differ: ClassVar[bool] = False

    def sample(self, t: Tensor, *points: Tensor, generator: torch.Generator | None = None) -> PathPoint:
        """x_t given x1, the last of the points; a point of the source plays no part."""
        return super().sample(t, points[-1], generator=generator)

    def rates(self, t: Tensor, x: Tensor, log_posterior: Tensor, corrector: float = 0.0) -> Tensor:
        kappa, slope = self.kappa(t)
        noise = torch.where(kappa < LEAST, 0.0, slope / kappa.clamp(min=LEAST)) / self.size
        share = self.size * kappa / (1 + (self.size - 1) * kappa)
        return super().rates(t, x, log_posterior, corrector) + self._noise(
            x, log_posterior, noise, noise * share
        )

    def expected(
        self, t: Tensor, t_next: Tensor, x: Tensor, log_posterior: Tensor, corrector: float = 0.0
    ) -> Tensor:
        first, last = (self.kappa(s)[0].clamp(min=LEAST) for s in (t, t_next))
        more = self.size - 1
        noise = torch.log(last / first) / self.size
        kept = (torch.log1p(more * last) - torch.log1p(more * first)) / more
        found = super().expected(t, t_next, x, log_posterior, corrector)
        return found + self._noise(x, log_posterior, noise, kept)

    def _noise(self, x: Tensor, log_posterior: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
        """The second term, to every value: ``noise``, less ``kept`` where x is that of the data."""
        stays = log_posterior.gather(-1, x[..., None]).exp()
        return by_token(noise, x).to(stays) - by_token(kept, x).to(stays) * stays

    def divergence(self, t: Tensor, x: Tensor, x1: Tensor, log_posterior: Tensor) -> Tensor:
        return TokenPath.divergence(self, t, x, x1, log_posterior)

    def redraws(self, posterior: Rates) -> None:
        return None
