"""Heavy tails: a product of Student t laws whose degrees of freedom can be learnt."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import random
from ..tensors import Condition, sum_event
from .base import Source


class StudentT(Source):
    """Independent t laws, ``x = loc + scale T_df`` for every element, of learnt loc, scale and df.

    Flows whose bijections are Lipschitz keep the tails of their source, so that heavy-tailed data need a
    heavy-tailed source (Jaini et al. 2020, arXiv 1907.04481).  ``df`` is where the degrees of freedom start;
    with ``learn=False`` all stays as it is.  Draws are sqrt(df (u^(-2/df) - 1)) cos(2 pi v) for uniform u, v
    (Bailey 1994, doi 10.1090/S0025-5718-1994-1197233-X), with gradients to all parameters.  Raises
    ValueError for ``df`` that is not positive.

    >>> StudentT(2, df=1.0).log_prob(torch.zeros(1, 2))  # -2 log pi, a Cauchy law
    tensor([-2.2895], grad_fn=...)
    """

    def __init__(self, event_shape: int | Sequence[int], df: float = 5.0, learn: bool = True):
        super().__init__()
        if not 0 < df < math.inf:
            raise ValueError(f"df: expected a positive number, got {df}")
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        self.loc = nn.Parameter(torch.zeros(self.event_shape), requires_grad=learn)
        self.log_scale = nn.Parameter(torch.zeros(self.event_shape), requires_grad=learn)
        self.log_df = nn.Parameter(torch.full(self.event_shape, math.log(df)), requires_grad=learn)

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        dtype, device = self.loc.dtype, self.loc.device
        u, v = random.uniform((n, 2, *self.event_shape), generator, torch.float64, device).unbind(1)
        df = self.log_df.double().exp()
        # 1 - u is never 0
        t = (df * torch.expm1(-2 / df * torch.log1p(-u))).sqrt() * (2 * math.pi * v).cos()
        return self.loc + self.log_scale.exp() * t.to(dtype)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        df = self.log_df.to(x).exp()
        z = (x - self.loc.to(x)) * (-self.log_scale.to(x)).exp()
        height = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * (math.pi * df).log()
        return sum_event(height - self.log_scale.to(x) - 0.5 * (df + 1) * torch.log1p(z.square() / df))
