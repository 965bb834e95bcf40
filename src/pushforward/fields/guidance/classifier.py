"""Guidance by the gradient of a log-probability."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...paths import Path, check_affine
from ...tensors import Condition, expand_time
from ..base import Field
from .base import Guidance, check_number, first_time, value_and_pull


class ClassifierGuidance(Guidance):
    """v + weight (s W / alpha) grad_x log p_t(y | x), W = s alpha' - alpha s'.

    With weight 1 and the exact log-probability of y given the *noisy* x_t the samples follow p(x | y): the
    velocity changes by s W / alpha times the change of the score (Dhariwal & Nichol 2021, arXiv 2105.05233;
    for flows Zheng et al. 2023, arXiv 2311.13443).  With another weight, or a classifier that knows clean
    data only, they follow no simple density.  It holds where the velocity and the score of ``path`` determine
    each other: a standard normal source that is independent of the data.

    log_prob: a function ``(t, x) -> (B,)`` of the time, a scalar or ``(B,)``, and of x ``(B, *event)``, that
    ``torch.func`` can differentiate.  path: that of the field.  earliest: below this time the gradient is
    that of this time, because the factor is infinite at t = 0, where x holds no data and the gradient is
    zero; by default 0.001 there, and 0 on other paths.

    Raises ValueError for a path that is not affine, a weight that is not finite, and a function whose result
    is not ``(B,)``.

    >>> from pushforward.fields import Guided
    >>> from pushforward.paths import Interpolant
    >>> towards_one = lambda t, x: -(x - 1).square().sum(1) / 2
    >>> guidance = ClassifierGuidance(towards_one, Interpolant())
    >>> Guided(lambda t, x: torch.zeros_like(x), guidance)(torch.tensor(0.5), torch.zeros(1, 2))
    tensor([[1., 1.]])
    """

    def __init__(
        self,
        log_prob: Callable[[Tensor, Tensor], Tensor],
        path: Path,
        weight: float = 1.0,
        earliest: float | None = None,
    ):
        super().__init__()
        self.log_prob, self.path = log_prob, check_affine(path)
        self.weight = check_number(weight, "weight")
        self.earliest = first_time(path, earliest)

    def forward(self, field: Field, t: Tensor, x: Tensor, condition: Condition | None) -> Tensor:
        at = t.clamp(min=self.earliest)
        found, pull = value_and_pull(lambda x: self.log_prob(at, x), x)
        if found.shape != x.shape[:1]:
            raise ValueError(f"log_prob: expected shape ({len(x)},), got {tuple(found.shape)}")
        c = self.path.coefficients(expand_time(at, x))
        s = c.noise_scale
        factor = s * (s * c.d_alpha - c.alpha * c.d_noise_scale) / c.alpha
        return field(t, x, condition) + self.weight * factor * pull(torch.ones_like(found))

    def extra_repr(self) -> str:
        return f"weight={self.weight:g}"
