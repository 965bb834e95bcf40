"""Heavy tails: a product of Student t distributions whose degrees of freedom can be learnt."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import random
from ..nn.checks import check_number, check_sizes
from ..tensors import Condition, sum_event
from .base import Source

#: Where the expansion of the ratio of two gamma functions takes over, right to 1e-16 there.
ASYMPTOTIC = 100.0
#: Where the square of a double would soon overflow.
LARGE = 1e100


class StudentT(Source):
    """Independent t distributions, ``x = loc + scale T_df`` for every element, of learnt loc, scale and df.

    A flow of Lipschitz bijections has tails like those of its source, so heavy-tailed data need a
    heavy-tailed source (Jaini et al. 2020, arXiv 1907.04481).  ``df`` is the initial number of degrees of
    freedom; with ``learn=False`` nothing is learnt.  Draws are sqrt(df (u^(-2/df) - 1)) cos(2 pi v) for
    uniform u, v (Bailey 1994, doi 10.1090/S0025-5718-1994-1197233-X), with gradients to all parameters.
    Raises ValueError for ``df`` that is not positive.

    >>> StudentT(2, df=1.0).log_prob(torch.zeros(1, 2))  # -2 log pi, a Cauchy distribution
    tensor([-2.2895], grad_fn=...)
    """

    def __init__(self, event_shape: int | Sequence[int], df: float = 5.0, learn: bool = True):
        super().__init__()
        df = check_number("df", df, 0, torch.finfo(torch.float32).max)
        self.event_shape = check_sizes("event_shape", event_shape)
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
        # in double precision, in which z^2 and the difference of large logarithms are still numbers
        df, log_scale = self.log_df.double().exp(), self.log_scale.double()
        z = (x.double() - self.loc.double()) * (-log_scale).exp()
        height = _log_ratio(df / 2) - 0.5 * (math.pi * df).log() - log_scale
        return sum_event(height - 0.5 * (df + 1) * _log1p_square(z, df)).to(x.dtype)


def _log_ratio(x: Tensor) -> Tensor:
    """log Gamma(x + 1/2) - log Gamma(x), x > 0, without the difference of two large numbers."""
    near, far = x.clamp(max=ASYMPTOTIC), x.clamp(min=ASYMPTOTIC)
    # the expansion of the ratio at infinity (Tricomi & Erdelyi 1951, doi 10.2140/pjm.1951.1.133)
    series = 0.5 * far.log() - 1 / (8 * far) + 1 / (192 * far**3) - 1 / (640 * far**5)
    return torch.where(x < ASYMPTOTIC, torch.lgamma(near + 0.5) - torch.lgamma(near), series)


def _log1p_square(z: Tensor, df: Tensor) -> Tensor:
    """log(1 + z^2 / df), also if z^2 overflows."""
    large = z.abs() > LARGE
    inside, outside = torch.where(large, 0.0, z), torch.where(large, z, LARGE).abs()
    beyond = 2 * outside.log() - df.log() + torch.log1p(df / outside / outside)
    return torch.where(large, beyond, torch.log1p(inside.square() / df))
