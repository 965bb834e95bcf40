"""DPM-Solver++ with two steps, of the ODE and of the SDE."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .denoise import Denoiser, Inside, Level, Step, Work, line, towards

#: What a step leaves for the next: the prediction at its start and its length in lambda.
Memory = tuple[Tensor, float]


class DPMSolver(Denoiser):
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2): second order, one evaluation a step.

    x' = (sigma' / sigma) x + (alpha' - alpha sigma' / sigma) (D + (D - D_before) h / (2 h_before))

    with steps h of lambda = log(alpha / sigma).  The first step, a step after one of infinite h and one of
    infinite h itself, which ends without noise, are those of :class:`DDIM`.

    >>> from pushforward.paths import Linear
    >>> from pushforward.solvers import Denoise
    >>> normal = Denoise(lambda t, x: t * x / (t**2 + (1 - t) ** 2), Linear())
    >>> x = DPMSolver(steps=200).solve(normal, torch.ones(1, 1).double(), 0.01, 0.99).x
    >>> f"{x.item():.3f}"  # the deviation of x_t falls from 0.990 to 0.990, and with it x
    '1.000'
    """

    order, stages, evaluations, least = 2, 2, 1, 2

    def step(self, work: Work, here: Level, there: Level, x: Tensor, memory: Memory | None) -> Step:
        (found,) = work.data(here.t, (x,))
        ahead, left = extrapolated(found, here, there, memory)
        end = towards(x, ahead, here, there)
        return Step(end, left, line(x, end, here, there))


class DPMSolverSDE(Denoiser):
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, section 5), with fresh noise xi in every step.

    x' = (sigma' / sigma) e^-h x + alpha' (1 - e^-2h) (D + (D - D_before) h / (2 h_before))
         + sigma' sqrt(1 - e^-2h) xi

    It solves the reverse diffusion whose noise is as strong as that of the forward one, exactly where D is
    constant; its marginals are those of the ODE if sigma is the deviation of normal noise that does not
    depend on the data.  ``order`` is the weak order.

    >>> from pushforward.paths import Linear
    >>> from pushforward.random import seeded
    >>> from pushforward.solvers import Denoise
    >>> normal = Denoise(lambda t, x: t * x / (t**2 + (1 - t) ** 2), Linear())
    >>> x0 = torch.randn(10_000, 1, generator=seeded(0))
    >>> x = DPMSolverSDE(steps=20).solve(normal, x0, 0.0, 1.0, generator=seeded(1)).x
    >>> f"{x.std().item():.1f}"
    '1.0'
    """

    order, stages, evaluations, least, draws = 2, 2, 1, 2, True

    def step(self, work: Work, here: Level, there: Level, x: Tensor, memory: Memory | None) -> Step:
        (found,) = work.data(here.t, (x,))
        ahead, left = extrapolated(found, here, there, memory)
        end = _mean(x, ahead, here, there)
        scale = _deviation(here, there)
        if scale:
            end = torch.add(end, work.noise(x), alpha=scale)
        return Step(end, left, _bridge(x, end, ahead, here, there))


def extrapolated(found: Tensor, here: Level, there: Level, memory: Memory | None) -> tuple[Tensor, Memory]:
    """The prediction extrapolated to the middle of the step, and the memory for the next."""
    h = there.log_snr - here.log_snr
    before, h_before = memory or (found, math.inf)
    finite = math.isfinite(h) and math.isfinite(h_before)
    ahead = torch.lerp(before, found, 1 + h / (2 * h_before)) if finite else found
    return ahead, (found, h)


def _decay(here: Level, there: Level) -> float:
    """e^-h, also where h is infinite."""
    return there.sigma * here.alpha / (here.sigma * there.alpha)


def _mean(x: Tensor, data: Tensor, here: Level, there: Level) -> Tensor:
    decay = _decay(here, there)
    return torch.add(there.sigma / here.sigma * decay * x, data, alpha=there.alpha * (1 - decay**2))


def _deviation(here: Level, there: Level) -> float:
    return there.sigma * math.sqrt(1 - _decay(here, there) ** 2)


def _bridge(x: Tensor, end: Tensor, data: Tensor, here: Level, there: Level) -> Inside:
    """Points between ``x`` and ``end`` of the diffusion with a constant prediction, one after the other."""
    known, place = x, here

    def inside(level: Level, noise: Callable[[Tensor], Tensor]) -> Tensor:
        nonlocal known, place
        mean = _mean(known, data, place, level)
        before, after = _deviation(place, level), _deviation(level, there)
        # the normal distribution of the state at the level, given where the diffusion is at the end
        slope = there.sigma / level.sigma * _decay(level, there)
        total = (slope * before) ** 2 + after**2
        gain = slope * before**2 / total if total else 0.0
        scale = before * math.sqrt(max(0.0, 1 - gain * slope))
        known = mean + gain * (end - _mean(mean, data, level, there)) + scale * noise(x)
        place = level
        return known

    return inside
