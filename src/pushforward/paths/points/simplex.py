"""The path over the simplex to its corners, along geodesics of Fisher and Rao."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...sources import PositiveSphere, Source
from ...tensors import expand_time
from .base import TokenPoints

#: How fast log-likelihoods fall, by the angle, beyond the noise that there is.
FALL = 1e3


class SimplexTokens(TokenPoints):
    r"""From uniform noise on the simplex to its corners e_k, along geodesics of the Fisher-Rao metric.

    The roots of probabilities are points of the unit sphere whose numbers are not negative, where geodesics
    are great circles; vectors are these roots.  With the angle \theta between x and e_k,

    .. math:: v_t(x | e_k) = \frac{1}{1 - t} \frac{\theta}{\sin\theta} (e_k - \cos\theta\, x), \qquad
              p_t(x | e_k) \propto \left(\frac{\sin(\theta / (1 - t))}{\sin\theta}\right)^{K - 2}

    where \theta is at most (1 - t) pi / 2, and 0 beyond.  Davis et al. 2024, arXiv 2405.14664.

    >>> path, north = SimplexTokens(2), torch.tensor([[[0.0, 1.0]]])
    >>> path.sample(torch.tensor(0.5), north, torch.tensor([[0]])).x.square()
    tensor([[[0.5000, 0.5000]]])
    """

    corners: Tensor

    def __init__(self, size: int):
        super().__init__(size, size)
        self.register_buffer("corners", torch.eye(size))

    @property
    def points(self) -> Tensor:
        return self.corners

    def source(self, event_shape: tuple[int, ...]) -> Source:
        return PositiveSphere((*event_shape, self.width))

    def between(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        apart, together = ((x0 + sign * x1).norm(dim=-1, keepdim=True) for sign in (-1, 1))
        angle, t = 2 * torch.atan2(apart, together) / math.pi, expand_time(t, x1)
        first, second, whole = (torch.sinc(share * angle) for share in (1 - t, t, torch.ones_like(t)))
        return ((1 - t) * first * x0 + t * second * x1) / whole

    def log_likelihood(self, t: Tensor, x: Tensor) -> Tensor:
        angle = _angles(_inside(x.to(t)))
        before = angle / expand_time(1 - t, x)
        beyond = (before - math.pi / 2).relu()
        ratio = torch.sinc((before - beyond) / math.pi).log() - torch.sinc(angle / math.pi).log()
        return (self.size - 2) * ratio - FALL * beyond

    def velocity(self, t: Tensor, x: Tensor, probs: Tensor) -> Tensor:
        x = _inside(x)
        towards = probs / torch.sinc(_angles(x) / math.pi)
        return (towards - (towards * x).sum(-1, keepdim=True) * x) / expand_time(1 - t, x)

    def __repr__(self) -> str:
        return f"SimplexTokens({self.size})"


def _inside(x: Tensor) -> Tensor:
    """What is nearest to ``x`` of the sphere's part whose numbers are not negative, as far as solvers err."""
    positive = x.clamp(min=0)
    return positive / positive.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)


def _angles(x: Tensor) -> Tensor:
    """The angles between x and each corner, without loss of digits at either end."""
    return 2 * torch.atan2((1 - x).clamp(min=0).sqrt(), (1 + x).sqrt())
