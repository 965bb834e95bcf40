"""The field of one path made of the field of another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..paths import Path, check_affine, check_rising, log_snr, time_of_log_snr
from ..tensors import Condition, expand_time
from .base import AnyField, as_field
from .convert import convert


class Rescheduled(nn.Module):
    """The velocity field along the path ``new`` that goes with a velocity field along ``old``.

    At times of equal alpha / s the points of both paths are multiples of each other, and so have the same
    predictions of data and noise, of which the new velocity is made (Karras et al. 2022, arXiv 2206.00364,
    appendix B; Lipman et al. 2024, arXiv 2412.06264, section 4.6.2).  The time on ``old`` is found by
    bisection.  Where its ratio does not reach that of ``new`` its end is used.  Both paths start from a
    standard normal source that is independent of the data.

    Raises ValueError for a path that is not affine or whose alpha / s does not rise.

    >>> from pushforward.paths import Interpolant, Trigonometric
    >>> from pushforward import GaussianMixture, GaussianMixtureOracle
    >>> mixture = GaussianMixture(torch.tensor([[-1.0], [2.0]]), 0.5)
    >>> old, new = (GaussianMixtureOracle(mixture, Interpolant(s)) for s in (Trigonometric(), None))
    >>> t, x = torch.tensor(0.3), torch.tensor([[0.5]])
    >>> Rescheduled(old, old.path, new.path)(t, x), new(t, x)
    (tensor([[0.6837]]), tensor([[0.6837]]))
    """

    def __init__(self, field: AnyField, old: Path, new: Path):
        super().__init__()
        self.field = as_field(field)
        self.old, self.new = check_rising(check_affine(old)), check_rising(check_affine(new))

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        t = t if isinstance(t, Tensor) else x.new_full((), t)
        time = time_of_log_snr(self.old, log_snr(self.new, t.double())).to(x)
        c, c_new = self.old.coefficients(expand_time(time, x)), self.new.coefficients(expand_time(t, x))
        scale = torch.hypot(c.alpha, c.noise_scale) / torch.hypot(c_new.alpha, c_new.noise_scale)
        x_old = scale * x
        velocity = self.field(time, x_old, condition)
        data = convert(velocity, x_old, c, "velocity", "data")
        noise = convert(velocity, x_old, c, "velocity", "noise")
        return c_new.d_alpha * data + c_new.d_noise_scale * noise
