"""Paths on which a token is that of the source up to a random time, and then that of the data."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from ... import random
from ...solvers import Redraws
from ...solvers.problems import Rates
from ...tensors import expand_time
from ..base import PathPoint
from ..schedules import Linear, Schedule
from .base import TokenPath, by_token, check_tokens

#: Halvings of an interval that find a time of the schedule.
HALVINGS = 60


class MixturePath(TokenPath):
    r"""p_t(x | x0, x1) = (1 - \kappa_t) \delta_{x0}(x) + \kappa_t \delta_{x1}(x), token by token.

    A token is redrawn from the posterior at the rate kappa' / (1 - kappa).  ``schedule`` gives kappa as its
    alpha.  Raises ValueError for one that does not rise from 0 to 1.
    """

    scheduled: ClassVar[bool] = True

    def __init__(self, size: int, values: int, schedule: Schedule | None = None):
        super().__init__(size, values)
        self.schedule = schedule or Linear()
        t = torch.linspace(0, 1, 101, dtype=torch.float64)
        kappa = self.schedule(t)[0]
        rises = bool((kappa.diff() > 0).all())
        if not rises or abs(float(kappa[0])) > 1e-9 or abs(float(kappa[-1]) - 1) > 1e-9:
            ends = f"{float(kappa[0]):.3g} to {float(kappa[-1]):.3g}"
            raise ValueError(
                f"schedule: expected an alpha that rises from 0 to 1, got a "
                f"{type(self.schedule).__name__} from {ends}"
            )

    def kappa(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """kappa and its slope, each shaped like ``t``."""
        alpha, _, slope, _ = self.schedule(t)
        return alpha, slope

    def sample(self, t: Tensor, *points: Tensor, generator: torch.Generator | None = None) -> PathPoint:
        """x_t between x0 and x1, or from the source to x1 where that is the only point."""
        x1 = check_tokens(points[-1], self.size, "x1")
        u, v = random.uniform((len(x1), 2, *x1.shape[1:]), generator, torch.float64, x1.device).unbind(1)
        if len(points) == 2:
            x0 = check_tokens(points[0], self.values, "x0")
        else:
            x0 = self.draw_start(tuple(x1.shape), v)
        kappa, _ = self.kappa(torch.as_tensor(t, dtype=torch.float64, device=x1.device))
        return PathPoint(t, torch.where(u < expand_time(kappa, x1), x1, x0), (x0, x1), None)

    def rates(self, t: Tensor, x: Tensor, log_posterior: Tensor, corrector: float = 0.0) -> Tensor:
        kappa, slope = (by_token(value, x).to(log_posterior) for value in self.kappa(t))
        forwards = slope / (1 - kappa)
        if not corrector:
            return forwards * self._padded(log_posterior)
        return self._both(log_posterior, forwards, corrector * slope * kappa, corrector * slope * (1 - kappa))

    def expected(
        self, t: Tensor, t_next: Tensor, x: Tensor, log_posterior: Tensor, corrector: float = 0.0
    ) -> Tensor:
        first, last = self.kappa(t)[0], self.kappa(t_next)[0]
        forwards = torch.log((1 - first) / (1 - last))
        squares = corrector * 0.5 * (last.square() - first.square())
        parts = forwards, squares, corrector * (last - first) - squares
        return self._both(log_posterior, *(by_token(part, x).to(log_posterior) for part in parts))

    def _both(self, log_posterior: Tensor, forwards: Tensor, mended: Tensor, back: Tensor) -> Tensor:
        """Redraws from the posterior, of two kinds, and from the source."""
        return (forwards + mended) * self._padded(log_posterior) + back * self.start.to(log_posterior)

    def _padded(self, log_posterior: Tensor) -> Tensor:
        return pad(log_posterior.exp(), (0, self.values - self.size))

    def divergence(self, t: Tensor, x: Tensor, x1: Tensor, log_posterior: Tensor) -> Tensor:
        kappa, slope = (expand_time(value, x) for value in self.kappa(t))
        there = x < self.size
        stays = log_posterior.gather(-1, torch.where(there, x, 0)[..., None])[..., 0].exp()
        missed = -log_posterior.gather(-1, x1[..., None])[..., 0]
        same = x == x1
        stays = torch.where(there, stays, 0.0)
        each = torch.where(same, 1 - stays, missed - stays)
        return (slope / (1 - kappa)).to(each) * each

    def redraws(self, posterior: Rates) -> Redraws | None:
        return Redraws(
            lambda t, x: posterior(t, x).exp(),
            lambda t: -torch.log1p(-self.kappa(t)[0]),
            self._time,
            self.waiting,
        )

    def waiting(self, x: Tensor) -> Tensor:
        """Which tokens may still be redrawn, a boolean like ``x``: all of them, but for a mask."""
        gone = self.start.to(x.device) == 1
        return gone[x] if bool(gone.any()) else torch.ones_like(x, dtype=torch.bool)

    def _time(self, ticks: Tensor) -> Tensor:
        """The time at which -log(1 - kappa) is ``ticks``."""
        kappa = -torch.expm1(-ticks)
        low, high = torch.zeros_like(kappa), torch.ones_like(kappa)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            below = self.kappa(middle)[0] < kappa
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return 0.5 * (low + high)

    def __repr__(self) -> str:
        told: Any = type(self.schedule).__name__
        return f"{type(self).__name__}({self.size}, {told}())"
