"""Denoising flows, which sample a continuous flow by predictions of its data."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from ..paths import Linear, Path
from ..solvers import Denoise, NoiseSchedule, Solver, Velocity
from ..tensors import Condition, expand_time
from .one_way import OneWayFlow


class DenoisingFlow(OneWayFlow):
    """The samples of a continuous ``flow``, by a solver of :class:`~pushforward.solvers.Denoise`.

    The prediction of the data is D = (s u - s' x) / W with the flow's guided velocity u, the noise scale s
    and W = s alpha' - alpha s' of its path.  It turns every velocity into a denoising problem with the same
    solution, whatever path it was trained along, so a solver that draws no noise needs none: without a path
    the coefficients are those of the linear one, D = x + (1 - t) u.  A solver that draws noise needs the
    score, which the flow knows by its path alone.

    The velocity is not evaluated at t = 1 if no noise is left there, and the flow then ends there, without a
    margin.  There is no inverse and no density; those are the flow's own.

    flow: a :class:`~pushforward.flows.ContinuousFlow`, which makes this one by ``following(solver)``.

    Raises ValueError for a solver that draws noise where the flow has no path, with the reason.

    >>> from pushforward import ContinuousFlow, Interpolant, Normal
    >>> from pushforward.solvers import DPMSolver
    >>> flow = ContinuousFlow(lambda t, x, condition: (3 - x) / (1 - t), source=Normal(1))
    >>> DenoisingFlow(flow, DPMSolver(steps=2)).push(torch.zeros(2, 1))
    tensor([[3.],
            [3.]])
    """

    equation = Denoise

    def __init__(self, flow: Any, solver: Solver):
        super().__init__()
        self.schedule = noise_schedule(flow.marginals if solver.draws else flow.path)
        self.flow, self.solver, self.source = flow, solver, flow.source
        self.condition_shape = flow.condition_shape
        start, stop = flow.interval
        noisy = bool(self.schedule(torch.ones(()))[1])  # at t = 1
        self.interval = start, stop if noisy else 1.0

    def masked(self, mask: Tensor) -> Self:
        flow = self.flow.masked(mask)
        return self.replace(flow=flow, source=flow.source)

    def problem(self, condition: Condition | None = None) -> Denoise:
        """The denoising problem under ``condition``."""
        return denoising(self.flow.problem(condition).velocity, self.schedule)

    def log_prob(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Raises ValueError: the density is that of the continuous flow."""
        raise ValueError("a DenoisingFlow has no density of its own; ask its ContinuousFlow, in .flow")


def noise_schedule(path: Path | None) -> NoiseSchedule:
    """alpha, the noise scale and their slopes along ``path``; along the linear one where there is none.

    >>> noise_schedule(None)(torch.tensor(0.25))
    (tensor(0.2500), tensor(0.7500), tensor(1.), tensor(-1.))
    """
    if path is None:
        return Linear()

    def schedule(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c = path.coefficients(t)
        return c.alpha, c.noise_scale, c.d_alpha, c.d_noise_scale

    return schedule


def denoising(velocity: Velocity, schedule: NoiseSchedule) -> Denoise:
    """The denoising problem whose solution is that of the ODE of ``velocity``.

    >>> denoising(lambda t, x: 3 - x, noise_schedule(None)).data(torch.tensor(0.5), torch.ones(1, 1))
    tensor([[2.]])
    """

    def data(t: Tensor, x: Tensor) -> Tensor:
        alpha, s, d_alpha, d_s = schedule(expand_time(t, x))
        return (s * velocity(t, x) - d_s * x) / (s * d_alpha - alpha * d_s)

    return Denoise(data, schedule)
