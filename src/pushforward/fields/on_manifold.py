"""A network as a field of tangent vectors."""

from __future__ import annotations

from torch import Tensor, nn

from ..manifolds import Manifold
from ..tensors import Condition
from .base import AnyField, as_field


class OnManifold(nn.Module):
    """v(t, x) = P_p network(t, embed(p)) with p = project(x), P_p the projection on vectors tangent at p.

    ``network`` takes and returns events of ``manifold.embedded_shape``.  The point is projected *inside* of
    the field, so that its divergence in the coordinates is the divergence on the manifold (Chen & Lipman
    2024, arXiv 2302.03660, appendix); without that it would count how vectors change off the manifold too.

    >>> import torch
    >>> from pushforward.manifolds import Sphere
    >>> up = OnManifold(lambda t, x: torch.tensor([0.0, 0.0, 1.0]).expand_as(x), Sphere(2))
    >>> up(torch.zeros(()), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    tensor([[0., 0., 1.],
            [0., 0., 0.]])
    """

    def __init__(self, network: AnyField, manifold: Manifold):
        super().__init__()
        self.network, self.manifold = as_field(network), manifold

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        point = self.manifold.project(x)
        return self.manifold.from_embedded(point, self.network(t, self.manifold.embed(point), condition))
