"""The drift of a stochastic process with the marginals of a flow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..solvers import Diffusion, level
from ..tensors import Condition
from .base import AnyField, as_field
from .offers import Offered, offered, summed, times


class Drift(nn.Module):
    """velocity + g^2/2 score: the drift with which dX = drift dt + g dW has the marginals of the flow.

    The Fokker-Planck equation of the process is then the flow's continuity equation, whatever the
    ``diffusion`` g >= 0 (Song et al. 2021, arXiv 2011.13456; Albergo et al. 2023, arXiv
    2303.08797).  With ``backward`` it is velocity - g^2/2 score, the drift of the reversed
    process, to be solved from t = 1 to t = 0.  Where the score is infinite g must vanish; where g = 0 the
    score counts for nothing.

    velocity, score: fields.  diffusion: a number, a tensor or a function of t, see
    :class:`~pushforward.solvers.SDE`.

    >>> import torch
    >>> still = lambda t, x, condition=None: torch.zeros_like(x)
    >>> normal = lambda t, x, condition=None: -x
    >>> Drift(still, normal, 2.0)(torch.tensor(0.5), torch.ones(1, 1))
    tensor([[-2.]])
    """

    def __init__(self, velocity: AnyField, score: AnyField, diffusion: Diffusion, backward: bool = False):
        super().__init__()
        self.velocity, self.score = as_field(velocity, "velocity"), as_field(score, "score")
        self.diffusion, self.backward = diffusion, backward

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        t = t if isinstance(t, Tensor) else x.new_full((), t)
        velocity, factor = self.velocity(t, x, condition), self._factor(t, x)
        return torch.where(factor != 0, velocity + factor * self.score(t, x, condition), velocity)

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the field, see :func:`~pushforward.fields.offered`."""
        score = times(self._factor(t, x), offered(self.score, t, x, condition, mask))
        return summed(offered(self.velocity, t, x, condition, mask), score)

    def _factor(self, t: Tensor, x: Tensor) -> Tensor:
        return (-0.5 if self.backward else 0.5) * level(self.diffusion, t, x).square()
