"""The unified predictor-corrector."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .denoise import Denoiser, Level, Step, Work, line, towards
from .dpm import extrapolated


@dataclass(frozen=True)
class Before:
    """The step before: its start, the corrected state and the prediction there, its length in lambda.

    older: the prediction one step earlier, and the length of that step; None where there is none.
    """

    here: Level
    x: Tensor
    data: Tensor
    h: float
    older: tuple[Tensor, float] | None


class UniPC(Denoiser):
    """UniPC-2 (Zhao et al. 2023, arXiv 2302.04867, with B(h) = e^h - 1): third order, one evaluation a step.

    The predictor is the step of :class:`DPMSolver`.  The corrector repeats it with the prediction D' found at
    its end, which the next step needs anyway, so that it costs nothing:

        x' = (sigma' / sigma) x + w (D + rho_1 (D - D_before) h / h_before + rho_2 (D' - D))

    with w = alpha' - alpha sigma' / sigma, and rho such that it is exact where D is a polynomial of degree 2
    in lambda = log(alpha / sigma); where there is no D_before, rho_2 = 1/2.  The last step is not corrected.

    >>> import torch
    >>> from pushforward.paths import Linear
    >>> from pushforward.solvers import Denoise
    >>> normal = Denoise(lambda t, x: t * x / (t**2 + (1 - t) ** 2), Linear())
    >>> x = UniPC(steps=100).solve(normal, torch.ones(1, 1).double(), 0.02, 0.98).x
    >>> f"{x.item():.3f}"
    '1.000'
    """

    order, stages, evaluations, least = 3, 3, 1, 2

    def step(self, work: Work, here: Level, there: Level, x: Tensor, memory: Before | None) -> Step:
        (found,) = work.data(here.t, (x,))
        older = None
        if memory is not None:
            x, older = corrected(memory, here, found), (memory.data, memory.h)
        ahead, (_, h) = extrapolated(found, here, there, older)
        end = towards(x, ahead, here, there)
        return Step(end, Before(here, x, found, h, older), line(x, end, here, there))


def corrected(step: Before, there: Level, found: Tensor) -> Tensor:
    """The end ``there`` of a step again, with the prediction ``found`` at the end that was predicted."""
    ahead = 0.5 * (step.data + found)
    if step.older is not None and math.isfinite(step.h) and math.isfinite(step.older[1]):
        before, h_before = step.older
        ratio = step.h / h_before
        # means over the step of its fraction in lambda and of its square, weighted by e^lambda
        decay = math.expm1(-step.h)
        first = (decay / -step.h - 1) / decay
        second = 2 * ((decay / -step.h - 1) / -step.h - 0.5) / decay
        rho = (first - second) / (1 + 1 / ratio)
        ahead = step.data + rho * ratio * (step.data - before) + (first - rho) * (found - step.data)
    return towards(step.x, ahead, step.here, there)
