"""Flow matching on manifolds."""

from __future__ import annotations

import torch
from torch import nn

from ..manifolds import Manifold
from ..paths import GeodesicPath
from .base import Batch, Loss, Objective, Step, check_share, field_of, partly_hidden
from .times import Times, Uniform, check_kinds


class GeodesicMatching(Objective):
    """E g_x(v - u, v - u) / d, u the velocity of the geodesic at x = x_t and v the field's, g the metric.

    Riemannian flow matching (Chen & Lipman 2024, arXiv 2302.03660, eq. 12) on a ``manifold`` of dimension d.
    ``models`` holds ``"field"``, whose vectors are tangent, as those of
    :class:`~pushforward.fields.OnManifold` are.  Each row's condition is hidden with probability
    ``drop_condition``.  The term ``moved`` counts the pairs of a batch that have no single geodesic, see
    :class:`~pushforward.paths.GeodesicPath`.  Raises ValueError for one that is no probability.

    >>> from pushforward import Rows
    >>> from pushforward.fields import OnManifold
    >>> from pushforward.manifolds import Torus
    >>> from pushforward.nn import MLP
    >>> space = Torus(2)
    >>> batch = Batch((Rows(torch.zeros(8, 2)), Rows(torch.ones(8, 2))))
    >>> field = OnManifold(MLP(4), space)
    >>> GeodesicMatching(space).loss(nn.ModuleDict({"field": field}), batch, Step()).per_sample.shape
    torch.Size([8])
    """

    def __init__(self, manifold: Manifold, drop_condition: float = 0.0, times: Times | None = None):
        self.manifold, self.path = manifold, GeodesicPath(manifold)
        check_kinds(self.path, times)
        self.drop_condition = check_share(drop_condition)
        self.times = (times or Uniform()).along(self.path)

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        target = batch.marginals[-1]
        t = self.times.draw(target.x, step, 1e-5, (False, False))
        before = self.path.moved
        point = self.path.sample(t, *(rows.x for rows in batch.marginals), generator=step.generator)
        assert point.velocity is not None
        condition = partly_hidden(batch, self.drop_condition, step)
        error = field_of(models)(t, point.x, condition) - point.velocity
        errors = self.manifold.inner(point.x, error, error) / self.manifold.dim
        moved = torch.tensor(float(self.path.moved - before))
        return Loss(batch.mean(errors), errors.detach(), t, {"moved": moved})
