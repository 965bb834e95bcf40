"""The path from normal noise to learnt unit vectors."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ...nn.checks import check_count
from ...sources import Normal, Source
from ...tensors import expand_time
from ..schedules import Linear, Schedule
from .base import TokenPoints

#: How far from noise at t = 0 and from data at t = 1 a schedule may be.
SLACK = 0.05


class EmbeddedTokens(TokenPoints):
    r"""From normal noise to learnt unit vectors e_k of ``width`` numbers: x_t = alpha e_k + sigma z.

    The cross entropy of the posterior keeps the vectors apart: what is alike could not be told apart (Li et
    al. 2022, arXiv 2205.14217; Dieleman et al. 2022, arXiv 2211.15089).  Tokens that may stand for each other
    come to lie together.

    Raises ValueError for sizes out of range, and a schedule that does not lead from noise to data.

    >>> path = EmbeddedTokens(3, width=2)
    >>> x1 = torch.tensor([[0, 1, 2, 1]])
    >>> bool((path.nearest(path.sample(torch.tensor(1.0), x1).x) == x1).all())
    True
    """

    scheduled: ClassVar[bool] = True

    def __init__(self, size: int, schedule: Schedule | None = None, width: int = 8):
        super().__init__(size, check_count("width", width, 2))
        self.schedule = schedule or Linear()
        alpha, sigma, *_ = self.schedule(torch.tensor([0.0, 1.0], dtype=torch.float64))
        wanted = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
        found = torch.cat([alpha, sigma])
        if not bool(((found - wanted).abs() <= SLACK).all()):
            raise ValueError(
                f"schedule: expected alpha from 0 to 1 and sigma from 1 to 0, got a "
                f"{type(self.schedule).__name__} with alpha from {found[0]:.3g} to {found[1]:.3g} and sigma "
                f"from {found[2]:.3g} to {found[3]:.3g}"
            )
        self.weight = nn.Parameter(torch.randn(size, width))

    @property
    def points(self) -> Tensor:
        return normalize(self.weight, dim=-1)

    def source(self, event_shape: tuple[int, ...]) -> Source:
        return Normal((*event_shape, self.width))

    def between(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        alpha, sigma, *_ = (expand_time(value, x1) for value in self.schedule(t))
        return alpha * x1 + sigma * x0

    def log_likelihood(self, t: Tensor, x: Tensor) -> Tensor:
        alpha, sigma, *_ = self.schedule(t)
        # points have equal lengths, so that |x - alpha e|^2 differs by inner products alone
        return expand_time(alpha / sigma.square(), x) * (x.to(t) @ self.points.to(t).T)

    def velocity(self, t: Tensor, x: Tensor, probs: Tensor) -> Tensor:
        alpha, sigma, d_alpha, d_sigma = (expand_time(value, x) for value in self.schedule(t))
        shrinks = d_sigma / sigma
        return shrinks * x + (d_alpha - alpha * shrinks) * (probs @ self.points.to(x))

    def __repr__(self) -> str:
        return f"EmbeddedTokens({self.size}, width={self.width})"
