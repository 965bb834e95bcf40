"""Consistency training and distillation: neighbouring noise levels lead to the same data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...tensors import expand_time
from ..base import Step
from ..flow_matching import pseudo_huber
from .base import At, MapLoss, MapRows

#: Noise levels of Karras et al. 2022, arXiv 2206.00364: the least and the largest, and their power.
LEAST, LARGEST, RHO = 0.002, 80.0, 7.0
#: Mean and deviation of the logarithm of the levels at which training begins (arXiv 2310.14189, eq. 10).
MEAN, DEVIATION = -1.1, 2.0
#: The constant of the pseudo-Huber loss over the root of the size of an event (arXiv 2310.14189, eq. 8).
HUBER = 0.00054


class Consistency(MapLoss):
    r"""X_{s,1} leads to the same data from the next time r on the trajectory, which is nearer to the data:

    .. math:: \operatorname{E} \frac1{\sigma_s - \sigma_r}\, d(X_{s,1}(x_s), \operatorname{sg} X_{r,1}(x_r)),
        \qquad d(x, y) = \sqrt{|x - y|^2 + c^2} - c

    From data x_s and x_r are points of the same pair, with the same noise.  From a teacher x_r is one step of
    Heun's method along its velocity.  Levels of noise sigma = (1 - t) / t, those of the linear path, are
    those of Karras et al. from 80 to 0.002, of which the first is taken for t = 0 and the last for t = 1, so
    that X_{1,1} is the identity; their number doubles from ``first`` to ``last`` in training.

    improved: log-normal levels, the pseudo-Huber loss with c = 0.00054 sqrt(d) and the weight above, with
    targets of the same weights (Song & Dhariwal 2024, arXiv 2310.14189).  Otherwise levels are uniform,
    errors squared, and targets those of the averaged weights (Song et al. 2023, arXiv 2303.01469).

    Raises ValueError for numbers of levels that are not 2 <= first <= last.

    >>> [Consistency().intervals(k, 80) for k in (0, 10, 79)]
    [10, 20, 1280]
    """

    diagonal = 0.0
    derivative = False
    two_sided = False
    to_data = True

    def __init__(self, first: int = 10, last: int = 1280, improved: bool = True):
        if not 2 <= first <= last:
            raise ValueError(f"first, last: expected 2 <= first <= last, got {first} and {last}")
        self.first, self.last, self.improved = first, last, improved
        self.averaged = not improved

    def intervals(self, index: int, total: int) -> int:
        """How many pairs of neighbouring levels there are after ``index`` of ``total`` steps."""
        doublings = math.ceil(math.log2(self.last / self.first))
        return min(self.last, self.first * 2 ** (index * (doublings + 1) // max(1, total)))

    def levels(self, step: Step, like: Tensor) -> tuple[Tensor, Tensor]:
        """Levels of noise, falling, in float64, and their times, from 0 to 1, as ``like``."""
        count = self.intervals(step.index, step.total) + 1
        share = torch.linspace(0, 1, count, dtype=torch.float64, device=like.device)
        sigma = (LARGEST ** (1 / RHO) * (1 - share) + LEAST ** (1 / RHO) * share) ** RHO
        times = 1 / (1 + sigma)
        times[0], times[-1] = 0.0, 1.0
        return sigma, times.to(like)

    def times(self, a: Tensor, b: Tensor, at: At, step: Step) -> tuple[Tensor, Tensor]:
        """``a`` is where in the distribution of levels a row is."""
        sigma, times = self.levels(step, a)
        if self.improved:
            below = torch.special.ndtr((sigma.log() - MEAN) / DEVIATION)
            at_most = (below[0] - below[1:]) / (below[0] - below[-1])
            chosen = torch.searchsorted(at_most, a.double())
        else:
            chosen = (a * (len(times) - 1)).long()
        return times[chosen.clamp(max=len(times) - 2)], torch.ones_like(a)

    def errors(self, rows: MapRows) -> Tensor:
        """The distances of images, before the pseudo-Huber loss."""
        return self._errors_and_spaces(rows)[0]

    def losses(self, rows: MapRows) -> Tensor:
        errors, spaces = self._errors_and_spaces(rows)
        if not self.improved:
            return errors.square()
        return pseudo_huber(errors, HUBER / errors[0].numel() ** 0.5) / spaces

    def _errors_and_spaces(self, rows: MapRows) -> tuple[Tensor, Tensor]:
        """X_{s,1}(x_s) - X_{r,1}(x_r), and how far apart the levels at s and r are, ``(B,)``."""
        sigma, times = self.levels(rows.step, rows.s)
        place = torch.searchsorted(times, rows.s.contiguous(), right=True).clamp(max=len(times) - 1)
        r = times[place]
        with torch.no_grad():
            there = rows.ahead(r)
            target = there + expand_time(rows.t - r, there) * rows.maps.target(r, rows.t, there)
        spaces = (sigma[place - 1] - sigma[place]).to(rows.x)
        return rows.x + rows.span * rows.mean_velocity() - target, spaces
