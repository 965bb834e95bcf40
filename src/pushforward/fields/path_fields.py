"""What a velocity field along a path gives besides: the drift of a noisy process, and its last step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..paths import Path, check_affine
from ..solvers import Diffusion, level
from ..tensors import Condition, expand_time
from .base import AnyField, as_field
from .convert import from_velocity
from .offers import Offered, combined, offered

__all__ = ["DenoisingStep", "PathDrift"]


class PathDrift(nn.Module):
    """velocity + g^2/2 score, the score being that of the velocity along ``path``: one evaluation for both.

    With it dX = drift dt + g dW has the marginals of the velocity field (Song et al. 2021, arXiv 2011.13456;
    Albergo et al. 2023, arXiv 2303.08797).  ``backward`` gives velocity - g^2/2 score, of the process from
    t = 1 to t = 0.  Where g = 0 the score counts for nothing, also if it is infinite.  For a score of its own
    see :class:`~pushforward.fields.Drift`.

    >>> from pushforward.paths import Interpolant
    >>> still = lambda t, x, condition=None: torch.zeros_like(x)
    >>> PathDrift(still, Interpolant(), 2.0)(torch.tensor(0.5), torch.ones(1, 1))
    tensor([[-4.]])
    """

    def __init__(self, field: AnyField, path: Path, diffusion: Diffusion, backward: bool = False):
        super().__init__()
        self.field, self.path = as_field(field), check_affine(path)
        self.diffusion, self.backward = diffusion, backward

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        t = t if isinstance(t, Tensor) else x.new_full((), t)
        return self._at(t, x)(self.field(t, x, condition), x)

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the field, see :func:`~pushforward.fields.offered`."""
        return combined(self._at(t, x), offered(self.field, t, x, condition, mask), x, mask)

    def _at(self, t: Tensor, x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The drift from the velocity and x, at the times of the rows ``x``."""
        c, g = self.path.coefficients(expand_time(t, x)), level(self.diffusion, t, x)
        factor = (-0.5 if self.backward else 0.5) * g.square()

        def drift(velocity: Tensor, x: Tensor) -> Tensor:
            score = from_velocity("score", velocity, x, c)
            return torch.where(g > 0, velocity + factor * score, velocity)

        return drift


class DenoisingStep(nn.Module):
    """x' = alpha' data + s' noise: a step from t to a later time without noise, with the prediction at t.

    It ends at the prediction of the data where no noise is left.  Song et al. 2021, arXiv 2010.02502, eq. 12.

    >>> from pushforward.paths import Interpolant
    >>> step = DenoisingStep(lambda t, x, condition=None: torch.ones_like(x), Interpolant())
    >>> step(torch.tensor(0.5), torch.tensor(1.0), torch.ones(1, 1))
    tensor([[1.5000]])
    """

    def __init__(self, field: AnyField, path: Path):
        super().__init__()
        self.field, self.path = as_field(field), check_affine(path)

    def forward(self, t: Tensor, t_next: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        before, after = (self.path.coefficients(expand_time(time, x)) for time in (t, t_next))
        velocity = self.field(t, x, condition)
        data, noise = (from_velocity(kind, velocity, x, before) for kind in ("data", "noise"))
        return after.alpha * data + after.noise_scale * noise
