"""A velocity field along another path than the one it was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..paths import Coefficients, Path, check_affine, check_rising
from ..tensors import Condition, expand_time
from .base import AnyField, as_field
from .convert import from_velocity
from .offers import Offered, by_row, combined, offered, offers

__all__ = ["ScheduleChange"]

#: Nodes of the table in which times are looked up, and steps of Newton's method from there.
NODES, ROUNDS = 1025, 12
#: How far the old field is kept from an end at which it is infinite.
EDGE = 1e-6


class ScheduleChange(nn.Module):
    """The velocity along the path ``new`` from a ``field`` trained along ``old``, without training.

    Both paths join the same normal source, independent of the data, to the same data.  Where alpha / s is
    equal their points differ by a factor alone, so that E[x1 | x_t = x] and E[n | x_t = x] of the new path
    are those of the old one at the time tau with alpha(tau) / s(tau) = alpha_new(t) / s_new(t) and at x / c,
    c being the ratio of the alphas (Karras et al. 2022, arXiv 2206.00364).  With them u_new = alpha_new'
    E[x1 | x] + s_new' E[n | x].  tau is found in float64, by Newton's method within a bracket.

    The new path may have less signal at its start, or less noise at its end, than the old one ever has.  The
    old field is then asked at its end, for the data there or for the noise; what is left follows from x.

    Raises ValueError for a path that is not affine, or whose alpha / s does not rise.

    >>> from pushforward.paths import Interpolant, Trigonometric
    >>> field = lambda t, x: (2 * t - 1) / (t**2 + (1 - t) ** 2) * x  # of normal data along the linear path
    >>> changed = ScheduleChange(field, Interpolant(), Interpolant(Trigonometric()))
    >>> changed(0.3, torch.ones(1, 1)).abs() < 1e-6  # along the circle they stand still
    tensor([[True]])
    """

    def __init__(self, field: AnyField, old: Path, new: Path):
        super().__init__()
        self.field = as_field(field)
        self.old, self.new = check_rising(check_affine(old)), check_rising(check_affine(new))
        start, stop = old.open_ends
        # no buffers, which lose their digits in a flow of float32
        self.times = torch.linspace(EDGE * start, 1 - EDGE * stop, NODES, dtype=torch.float64)
        self.angles = _angle(old.coefficients(self.times))

    def old_time(self, t: Tensor) -> Tensor:
        """tau in float64, shaped like ``t``: when the old path has the alpha / s of the new one at t."""
        wanted = _angle(self.new.coefficients(t.double()))
        angles, times = self.angles.to(t.device), self.times.to(t.device)
        index = torch.searchsorted(angles, wanted.contiguous()).clamp(1, NODES - 1)
        low, high = times[index - 1], times[index]
        share = (wanted - angles[index - 1]) / (angles[index] - angles[index - 1])
        tau = low + share.clamp(0, 1) * (high - low)
        for _ in range(ROUNDS):
            c = self.old.coefficients(tau)
            error, s = _angle(c) - wanted, c.noise_scale
            low, high = torch.where(error < 0, tau, low), torch.where(error < 0, high, tau)
            slope = (s * c.d_alpha - c.alpha * c.d_noise_scale) / (c.alpha.square() + s.square())
            step = tau - error / slope
            tau = torch.where((step >= low) & (step <= high), step, 0.5 * (low + high))
        return tau

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        t = t if isinstance(t, Tensor) else x.new_full((), t)
        tau, old_point, new_velocity = self._at(t, x)
        return new_velocity(self.field(tau, old_point(x), condition), x)

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the field, see :func:`~pushforward.fields.offered`."""
        if not offers(self.field):
            return None
        tau, old_point, new_velocity = self._at(t, x)
        found = offered(self.field, tau, old_point(x), condition, mask)
        ratio = by_row(old_point(x.new_ones([1] * x.ndim)))
        if found is None or ratio is None:
            return None
        return combined(new_velocity, (found[0], ratio * found[1]), x, mask)

    def _at(
        self, t: Tensor, x: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
        """For the times of the rows ``x``: the old times, the old points of x, and the new velocity from the
        old one and x."""
        tau = self.old_time(t)
        c = _coefficients(self.old, expand_time(tau, x), x)
        wanted = _coefficients(self.new, expand_time(t.double(), x), x)
        angle, angles = _angle(wanted), self.angles.to(x)
        before, after = angle < angles[0], angle > angles[-1]
        s, alpha = torch.where(before, wanted.noise_scale, 1.0), torch.where(after, wanted.alpha, 1.0)

        def old_point(x: Tensor) -> Tensor:
            # also where alpha or s is 0
            return x * torch.hypot(c.alpha, c.noise_scale) / torch.hypot(wanted.alpha, wanted.noise_scale)

        def new_velocity(velocity: Tensor, x: Tensor) -> Tensor:
            y = old_point(x)
            data, noise = (from_velocity(kind, velocity, y, c) for kind in ("data", "noise"))
            # beyond the ends of the old path one of the two is known, and x gives the other
            noise = torch.where(before, (x - wanted.alpha * data) / s, noise)
            data = torch.where(after, (x - wanted.noise_scale * noise) / alpha, data)
            return wanted.d_alpha * data + wanted.d_noise_scale * noise

        return tau.to(x), old_point, new_velocity


def _angle(c: Coefficients) -> Tensor:
    """The angle of (s, alpha), which rises with alpha / s and is finite at both ends."""
    return torch.atan2(c.alpha, c.noise_scale)


def _coefficients(path: Path, t: Tensor, x: Tensor) -> Coefficients:
    """The coefficients at a time in float64, in the dtype of ``x``."""
    c = path.coefficients(t)
    values = {field.name: getattr(c, field.name) for field in dataclasses.fields(c)}
    return Coefficients(**{name: value.to(x) for name, value in values.items() if value is not None})
