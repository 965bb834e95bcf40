"""The schedules of diffusions in discrete time."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from .schedules import Schedule, constant_variance

Betas = Literal["linear", "cosine"]
#: Linear betas at the first and the last of 1,000 steps.
FIRST, LAST, OF = 1e-4, 0.02, 1000
#: The offset of the cosine, and the largest of its betas.
OFFSET, LARGEST = 0.008, 0.999


class DDPM(Schedule):
    """alpha^2 = (1 - beta_1) ... (1 - beta_k) at t = 1 - k / steps, sigma = sqrt(1 - alpha^2).

    The Markov chain x_k = sqrt(1 - beta_k) x_{k-1} + sqrt(beta_k) z of Ho et al. 2020, arXiv 2006.11239, in
    reversed time.  ``betas`` are ``linear``, from 1e-4 to 0.02 for 1,000 steps and in proportion to 1 / steps
    otherwise, or ``cosine``, with alpha^2 in proportion to cos^2((k / steps + 0.008) / 1.008 pi / 2) and
    beta at most 0.999 (Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17).  Between these times log alpha is
    a monotone cubic (Fritsch & Butland 1984, doi 10.1137/0905021), so that the flow of a model of discrete
    time exists and its velocity has no jumps.  With more steps the linear betas converge to
    :class:`VariancePreserving` with its defaults, and the cosine ones to :class:`Cosine`.

    Raises ValueError for other betas, and for fewer steps than keep every beta below 1: 21 if linear, 10 if
    cosine.

    >>> alpha, sigma, *_ = DDPM()(torch.tensor([0.0, 0.999, 1.0], dtype=torch.float64))
    >>> alpha[1].square()
    tensor(0.9999, dtype=torch.float64)
    >>> sigma
    tensor([1.0000, 0.0100, 0.0000], dtype=torch.float64)
    """

    def __init__(self, steps: int = 1000, betas: Betas = "linear"):
        if betas not in get_args(Betas):
            raise ValueError(f"betas: expected one of {', '.join(get_args(Betas))}, got {betas!r}")
        least = 1 + int(LAST * OF) if betas == "linear" else 10
        if steps < least:
            raise ValueError(f"steps: expected at least {least} for {betas} betas, got {steps}")
        self.steps, self.betas = steps, betas
        logs = 0.5 * torch.log1p(-(_linear(steps) if betas == "linear" else _cosine(steps)))
        ends = (1.5 * logs[:1] - 0.5 * logs[1:2], 1.5 * logs[-1:] - 0.5 * logs[-2:-1])
        slopes = 2 * logs[1:] * logs[:-1] / (logs[1:] + logs[:-1])
        #: log alpha at k = 0, ..., steps, and its slope in k
        self._logs = torch.stack(
            [torch.cat([logs.new_zeros(1), logs.cumsum(0)]), torch.cat([ends[0], slopes, ends[1]])]
        )
        self._ready: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        place = (t.dtype, t.device)
        if place not in self._ready:  # moved once: a copy at every call would stall an accelerator
            self._ready[place] = self._logs.to(t)
        table = self._ready[place]
        k = (1 - t) * self.steps
        below = k.detach().floor().clamp(0, self.steps - 1)
        (start, slope), (stop, last) = table[:, below.long()], table[:, below.long() + 1]
        w, rise = k - below, stop - start
        square, cube = 3 * rise - 2 * slope - last, slope + last - 2 * rise
        log_alpha = start + w * (slope + w * (square + w * cube))
        alpha, sigma = log_alpha.exp(), torch.expm1(2 * log_alpha).abs().sqrt()
        d_alpha = -self.steps * alpha * (slope + w * (2 * square + 3 * w * cube))
        return alpha, sigma, d_alpha, -alpha * d_alpha / sigma

    def sigma_d_sigma(self, values: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        return constant_variance(values)


def _linear(steps: int) -> Tensor:
    return torch.linspace(FIRST, LAST, steps, dtype=torch.float64) * (OF / steps)


def _cosine(steps: int) -> Tensor:
    k = torch.arange(steps + 1, dtype=torch.float64)
    squares = ((k / steps + OFFSET) / (1 + OFFSET) * (math.pi / 2)).cos().square()
    return (1 - squares[1:] / squares[:-1]).clamp(max=LARGEST)
