"""The deterministic sampler of denoising diffusion implicit models."""

from __future__ import annotations

from torch import Tensor

from .denoise import Denoiser, Level, Step, Work, line, towards


class DDIM(Denoiser):
    """DDIM without noise: first order, one evaluation a step (Song, Meng & Ermon 2021, arXiv 2010.02502).

    x' = (sigma' / sigma) x + (alpha' - alpha sigma' / sigma) D(t, x)

    It is Euler's method for x / sigma in the variable alpha / sigma, exact for data of a single point, and
    DPM-Solver++ of first order (Lu et al. 2022, arXiv 2211.01095).

    >>> import torch
    >>> from pushforward.paths import Linear
    >>> from pushforward.solvers import Denoise
    >>> point = Denoise(lambda t, x: torch.full_like(x, 3.0), Linear())
    >>> DDIM(steps=2).solve(point, torch.zeros(1, 1), 0.0, 1.0, save_at=[0.5, 1.0]).path.flatten()
    tensor([1.5000, 3.0000])
    """

    order = stages = evaluations = 1

    def step(self, work: Work, here: Level, there: Level, x: Tensor, memory: None) -> Step:
        (found,) = work.data(here.t, (x,))
        end = towards(x, found, here, there)
        return Step(end, None, line(x, end, here, there))
