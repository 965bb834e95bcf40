"""A schedule from a table of its values, such as that of a model that was trained elsewhere."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..inputs import check_finite
from ..tensors import TensorLike, to_tensor
from .schedules import Schedule


class Tabulated(Schedule):
    """alpha and sigma by their values at equal steps of time from t = 0 to t = 1.

    Between the steps the angle atan2(sigma, alpha) and the radius are monotone cubics (Fritsch & Carlson
    1980, doi 10.1137/0717021), so that values and slopes are continuous, no step overshoots, and a variance
    preserving table stays so.

    alpha, sigma: ``(n,)``, n at least 2.  Raises ValueError for other shapes and for values that are not
    finite, are negative, or vanish together.

    >>> angle = torch.linspace(0, 1.5, 11)
    >>> alpha, sigma, d_alpha, d_sigma = Tabulated(angle.sin(), angle.cos())(torch.tensor(torch.pi / 9))
    >>> alpha.round(decimals=4), (d_alpha / sigma).round(decimals=4)
    (tensor(0.5000), tensor(1.5000))
    """

    def __init__(self, alpha: TensorLike, sigma: TensorLike):
        values = [to_tensor(v, name).double() for v, name in ((alpha, "alpha"), (sigma, "sigma"))]
        a, s = (check_finite(v, name) for v, name in zip(values, ("alpha", "sigma")))
        if a.ndim != 1 or len(a) < 2 or s.shape != a.shape:
            raise ValueError(f"alpha, sigma: expected (n,) both, got {tuple(a.shape)}, {tuple(s.shape)}")
        if not bool(((a >= 0) & (s >= 0) & (a + s > 0)).all()):
            raise ValueError("alpha, sigma: expected no negative values, and one of each two above 0")
        times = np.linspace(0, 1, len(a))
        from scipy.interpolate import PchipInterpolator  # which sampling does not need

        found = [PchipInterpolator(times, v.numpy()).c for v in (torch.atan2(s, a), torch.hypot(a, s))]
        #: coefficients ``(steps, 2, 4)`` of angle and radius, the highest power first
        self.cubics = torch.from_numpy(np.stack(found)).permute(2, 0, 1).contiguous()

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        steps = len(self.cubics)
        step = (t * steps).floor().clamp(0, steps - 1)
        within = (t - step / steps)[..., None]
        c3, c2, c1, c0 = self.cubics.to(t)[step.long()].unbind(-1)
        value = ((c3 * within + c2) * within + c1) * within + c0
        slope = (3 * c3 * within + 2 * c2) * within + c1
        (angle, radius), (turn, growth) = value.unbind(-1), slope.unbind(-1)
        cos, sin = angle.cos(), angle.sin()
        alpha, sigma = radius * cos, radius * sin
        return alpha, sigma, growth * cos - sigma * turn, growth * sin + alpha * turn
