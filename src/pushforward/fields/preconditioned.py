"""A network as EDM has it: scaled input, noise level for time, and a share of the input in its output."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..paths import Path, check_affine
from ..tensors import Condition, expand_time
from .base import AnyField, as_field
from .offers import Offered, by_row, combined, offered


class Preconditioned(nn.Module):
    """The data prediction c_skip x + c_out F(c_noise, c_in x) of a network F along ``path``.

    With r^2 = alpha^2 sigma_data^2 + s^2, s the noise scale of the path,

        c_skip = alpha sigma_data^2 / r^2      c_out = s sigma_data / r      c_in = 1 / r
        c_noise = log(s / alpha) / 4

    for data of deviation ``sigma_data`` (Karras et al. 2022, arXiv 2206.00364, table 1, where alpha = 1 and
    sigma_data = 0.5): input and target of F have unit variance at every t, and its errors are magnified
    least.  ``as_it_is`` calls F with t in place of c_noise.  For sigma_data = 1, F is minus a v-prediction
    behind :class:`Scaled`, as `--method edm` trains it.

    Raises ValueError for a ``sigma_data`` that is not positive and a path that is not affine.

    >>> from pushforward.paths import Interpolant, Karras
    >>> field = Preconditioned(lambda c, x: torch.zeros_like(x), Interpolant(Karras()), sigma_data=0.5)
    >>> field(torch.tensor([0.0, 1.0]), torch.ones(2, 1))
    tensor([[3.9061e-05],
            [9.9998e-01]])
    """

    def __init__(self, field: AnyField, path: Path, sigma_data: float = 1.0, as_it_is: bool = False):
        super().__init__()
        if not 0 < sigma_data < math.inf:
            raise ValueError(f"sigma_data: expected a positive number, got {sigma_data}")
        self.field, self.path = as_field(field), check_affine(path)
        self.sigma_data, self.as_it_is = float(sigma_data), as_it_is

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        t = t if isinstance(t, Tensor) else x.new_full((), t)
        time, r, combine = self._at(t, x)
        return combine(self.field(time, x / r, condition), x)

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the field, see :func:`~pushforward.fields.offered`."""
        time, r, combine = self._at(t, x)
        found, each = offered(self.field, time, x / r, condition, mask), by_row(r)
        if found is None or each is None:
            return None
        return combined(combine, (found[0], found[1] / each), x, mask)

    def _at(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """For the times of the rows ``x``: the time that F is given, r, and the prediction from F's and x."""
        c = self.path.coefficients(expand_time(t, x))
        s, deviation = c.noise_scale, self.sigma_data
        r = torch.hypot(c.alpha * deviation, s)
        time = t if self.as_it_is else 0.25 * (s / c.alpha).log().reshape(t.shape)

        def combine(value: Tensor, x: Tensor) -> Tensor:
            return (c.alpha * deviation**2 / r**2) * x + (s * deviation / r) * value

        return time, r, combine
