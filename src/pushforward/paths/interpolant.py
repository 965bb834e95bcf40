"""The interpolant x_t = alpha x1 + sigma x0 + gamma z, which covers most of the literature."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import random
from ..tensors import expand_time
from .base import AntitheticPair, Coefficients, End, Path, PathPoint
from .gammas import Constant, Gamma
from .schedules import Linear, Schedule

OpenEnds = tuple[bool, bool]


class Interpolant(Path):
    """x_t = alpha(t) x1 + sigma(t) x0 + gamma(t) z with z ~ N(0, I).

    Its velocity is dx_t/dt = alpha' x1 + sigma' x0 + gamma' z (Albergo et al. 2023, arXiv 2303.08797,
    definition 1).  ``gamma`` may be a number, meaning a constant.  ``open_ends`` says at which end, 0 or 1,
    a slope and with it the velocity is infinite.

    >>> point = Interpolant().sample(torch.tensor([0.0, 0.5]), torch.zeros(2, 3), torch.ones(2, 3))
    >>> point.x[:, 0], point.velocity[:, 0]
    (tensor([0.0000, 0.5000]), tensor([1., 1.]))
    """

    affine = True

    def __init__(self, schedule: Schedule | None = None, gamma: Gamma | float = 0.0):
        super().__init__()
        self.schedule = schedule or Linear()
        self.gamma = gamma if isinstance(gamma, Gamma) else Constant(gamma)
        self.bridge = self.gamma.bridge
        self.noisy = not (isinstance(self.gamma, Constant) and self.gamma.value == 0)
        # looked up once: in `sample` a path without open ends pays one comparison of Python tuples
        c = self._at_ends()
        self._open_drift: OpenEnds = _infinite(c.d_alpha, c.d_sigma)
        self.open_ends: OpenEnds = _infinite(c.d_alpha, c.d_sigma, c.d_gamma)

    def coefficients(self, t: Tensor) -> Coefficients:
        """All coefficients at ``t``, shaped like ``t``."""
        still, values = torch.zeros_like(t), self.schedule(t)
        gamma = self.gamma(t) if self.noisy else (still, still, still)
        return Coefficients(*values, *gamma, self.schedule.sigma_d_sigma(values))

    def sample(self, t: Tensor, *points: Tensor, generator: torch.Generator | None = None) -> PathPoint:
        """Draw x_t and its velocity.

        Raises ValueError for points of different shapes and a time at an open end.  On a GPU and under
        ``torch.compile`` times are not checked, which would cost a wait or a graph; the velocity at an open
        end is then infinite.
        """
        _refuse(t, self.open_ends)
        x0, x1 = _pair(points)
        c = self.coefficients(expand_time(t, x1))
        x = torch.addcmul(c.alpha * x1, c.sigma, x0)
        velocity = torch.addcmul(c.d_alpha * x1, c.d_sigma, x0)
        z = None
        if self.noisy:
            z = random.normal(x1.shape, generator, x1.dtype, x1.device)
            x = x + c.gamma * z
            velocity = velocity + c.d_gamma * z
        return PathPoint(t, x, (x0, x1), velocity, z, c)

    def sample_pair(
        self, t: Tensor, *points: Tensor, generator: torch.Generator | None = None
    ) -> AntitheticPair:
        """Draw x_t = I + gamma z and I - gamma z with one z, and the drift dI/dt.

        Only the drift must be finite at ``t``, so an end where only gamma' is infinite is allowed (antithetic
        sampling: Albergo et al. 2023, arXiv 2303.08797).  Raises ValueError as :meth:`sample`.

        >>> from pushforward.paths import Brownian
        >>> x0, x1 = torch.zeros(1, 2), torch.ones(1, 2)
        >>> pair = Interpolant(gamma=Brownian()).sample_pair(torch.tensor(0.5), x0, x1)
        >>> (pair.plus + pair.minus) / 2, pair.drift
        (tensor([[0.5000, 0.5000]]), tensor([[1., 1.]]))
        """
        _refuse(t, self._open_drift)
        x0, x1 = _pair(points)
        c = self.coefficients(expand_time(t, x1))
        middle = torch.addcmul(c.alpha * x1, c.sigma, x0)
        drift = torch.addcmul(c.d_alpha * x1, c.d_sigma, x0)
        z = random.normal(x1.shape, generator, x1.dtype, x1.device)
        shift = c.gamma * z
        return AntitheticPair(t, middle + shift, middle - shift, (x0, x1), drift, z, c)

    def ends(self) -> tuple[End, End]:
        c = self._at_ends()
        start, stop = (End(*(float(value[i]) for value in (c.sigma, c.alpha, c.gamma))) for i in range(2))
        return start, stop

    def _at_ends(self) -> Coefficients:
        return self.coefficients(torch.tensor([0.0, 1.0], dtype=torch.float64))


def _infinite(*slopes: Tensor) -> OpenEnds:
    """At which end, 0 or 1, one of the slopes ``(2,)`` is not finite."""
    start, stop = torch.stack([~slope.isfinite() for slope in slopes]).any(0).tolist()
    return start, stop


def _refuse(t: Tensor, open_ends: OpenEnds) -> None:
    """Raise ValueError for a time at an open end, if the check costs no synchronisation."""
    if open_ends == (False, False) or torch.compiler.is_compiling() or t.device.type != "cpu":
        return
    for end, is_open, touched in zip((0, 1), open_ends, (t <= 0, t >= 1)):
        if is_open and bool(touched.any()):
            raise ValueError(
                f"t: the velocity of this path is infinite at t = {end}; expected times inside, got t = {end}"
            )


def _pair(points: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    x0, x1 = points
    if x0.shape != x1.shape:
        raise ValueError(f"x0, x1: expected equal shapes, got {tuple(x0.shape)} and {tuple(x1.shape)}")
    return x0, x1
