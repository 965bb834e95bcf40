"""A mixture of axis-parallel normal distributions with learnt parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import random
from ..nn.checks import check_count, check_sizes
from ..tensors import Condition, event_size, flatten_event
from .base import Source


class LearntMixture(Source):
    """sum_k w_k N(mu_k, diag(s_k^2)) with w, mu and s learnt: as a source, a normal distribution for one
    component.

    If the data have several modes, a flow from several components need not split one mode into many (Izmailov
    et al. 2020, arXiv 1912.13025, fix the components; here they are learnt).  Means start at draws of N(0,
    1), or at training rows by :meth:`initialise`.  Gradients of draws reach means and scales, not the
    weights.  Raises ValueError for fewer than one component.

    >>> LearntMixture(2, components=1).log_prob(torch.zeros(3, 2)).shape
    torch.Size([3])
    """

    def __init__(self, event_shape: int | Sequence[int], components: int = 8):
        super().__init__()
        check_count("components", components)
        self.event_shape = check_sizes("event_shape", event_shape)
        d = event_size(self.event_shape)
        spread = 0.0 if components == 1 else 1.0
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(spread * torch.randn(components, d))
        self.log_scales = nn.Parameter(torch.zeros(components, d))

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        dtype, device = self.means.dtype, self.means.device
        steps = self.logits.detach().softmax(0).cumsum(0)
        u = random.uniform((n, 1), generator, dtype, device)
        k = (u >= steps / steps[-1]).sum(1)
        z = random.normal((n, self.means.shape[1]), generator, dtype, device)
        return (self.means[k] + self.log_scales[k].exp() * z).reshape(n, *self.event_shape)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        means, log_scales = self.means.to(x), self.log_scales.to(x)
        z = (flatten_event(x)[:, None] - means) * (-log_scales).exp()
        log_k = -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1) - log_scales.sum(-1)
        return (log_k + self.logits.to(x).log_softmax(0)).logsumexp(1)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Put the means on rows of ``x``, one after the other, with scales K^(-1/d) times their deviations.

        Of many components that start at draws unrelated to the data, most stay unused.
        """
        count, d = self.means.shape
        if count == 1:
            return
        rows = flatten_event(x).to(self.means)
        self.means.copy_(rows[torch.arange(count, device=rows.device) % len(rows)])
        deviation = rows.std(0, correction=0).clamp(min=1e-6)
        self.log_scales.copy_((deviation.log() - math.log(count) / d).expand(count, d))
