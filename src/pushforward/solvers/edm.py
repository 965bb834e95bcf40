"""The stochastic sampler of EDM."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..nn.checks import check_number
from .denoise import Denoiser, Level, Step, Work, level_at, line, time_of, towards
from .grid import Grid


class EDMStochastic(Denoiser):
    """The sampler of EDM (Karras et al. 2022, arXiv 2206.00364, algorithm 2): Heun's method with churn.

    Before each step the noise of x / alpha, whose deviation is nu = sigma / alpha, is raised to
    nu (1 + gamma) by fresh noise, with gamma = min(churn / steps, sqrt(2) - 1).  Then a step of Heun's method
    for x / alpha in the variable nu leads to the next level.  It keeps the marginals if sigma is the
    deviation of normal noise that does not depend on the data.

    churn: 0 is Heun's method, of second order.  s_tmin, s_tmax: between which nu noise is raised.  s_noise:
    factor of the noise that is added, a little above 1 where a network denoises too much.

    A first step from alpha = 0, where nu is infinite, and a last one to sigma = 0 are those of
    :class:`~pushforward.solvers.DDIM` and cost one evaluation; the first step has no churn.  The grid of the
    paper is ``grid="karras"``.

    Raises ValueError as :class:`Denoiser`, and for options that are negative or not finite.

    >>> from pushforward.paths import Linear
    >>> from pushforward.random import seeded
    >>> from pushforward.solvers import Denoise
    >>> normal = Denoise(lambda t, x: t * x / (t**2 + (1 - t) ** 2), Linear())
    >>> x0 = torch.randn(10_000, 1, generator=seeded(0))
    >>> x = EDMStochastic(steps=20).solve(normal, x0, 0.0, 1.0, generator=seeded(1)).x
    >>> f"{x.std().item():.1f}"
    '1.0'
    """

    order, stages, evaluations, draws = 2, 2, 2, True

    def __init__(
        self,
        steps: int = 100,
        grid: Grid | None = None,
        churn: float = 40.0,
        s_tmin: float = 0.05,
        s_tmax: float = 50.0,
        s_noise: float = 1.0,
    ):
        super().__init__(steps, grid)
        options = {"churn": churn, "s_tmin": s_tmin, "s_tmax": s_tmax, "s_noise": s_noise}
        for name, value in options.items():
            if value != 0:
                check_number(name, value, 0.0)
        self.churn, self.s_tmin, self.s_tmax, self.s_noise = churn, s_tmin, s_tmax, s_noise

    def step(self, work: Work, here: Level, there: Level, x: Tensor, memory: None) -> Step:
        here, x = self._churned(work, here, x)
        (found,) = work.data(here.t, (x,))
        end = towards(x, found, here, there)
        if there.sigma > 0 and here.alpha > 0:
            (ahead,) = work.data(there.t, (end,))
            end = torch.add(end, ahead - found, alpha=0.5 * there.alpha * (here.ratio / there.ratio - 1))
        return Step(end, None, line(x, end, here, there))

    def _churned(self, work: Work, here: Level, x: Tensor) -> tuple[Level, Tensor]:
        """The level with more noise from which the step starts, and the state there."""
        gamma = min(self.churn / self.steps, math.sqrt(2) - 1)
        if not gamma or not self.s_tmin <= here.ratio <= self.s_tmax or here == work.first:
            return here, x
        ratio = min(here.ratio * (1 + gamma), work.first.ratio)
        up = level_at(work.schedule, time_of(work.schedule, ratio, work.first.t, here.t))
        added = self.s_noise * up.alpha * math.sqrt(max(0.0, up.ratio**2 - here.ratio**2))
        return up, torch.add(up.alpha / here.alpha * x, work.noise(x), alpha=added)
