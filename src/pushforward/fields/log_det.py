"""Flow maps that know the log-determinant of their leaps, by a learnt head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..nn import Network
from ..tensors import Condition, expand_time, sum_event
from .flow_map import AnyFlowMap, Diagonal, TwoTimes, as_flow_map
from .offers import Offered

__all__ = ["LogDetHead", "WithLogDet", "log_det_of"]


class LogDetHead(nn.Module):
    r"""D(s, t, x) ``(B,)``, the sum over an event of what a network of two times gives for it, with

    .. math:: \log |\det \partial X_{s,t}(x) / \partial x| = (t - s)\, D(s, t, x)

    so that D(t, t, x) is the divergence of the velocity (the head of F2D2, arXiv 2512.02636).  Trained by
    :class:`~pushforward.objectives.LogDetMatching`.

    Raises ValueError for a network that was not made with ``spans=True``.

    >>> import torch
    >>> from pushforward.nn import MLP
    >>> LogDetHead(MLP(2, spans=True))(torch.tensor(0.0), torch.tensor(1.0), torch.zeros(3, 2)).shape
    torch.Size([3])
    """

    def __init__(self, network: Network):
        super().__init__()
        self.map = TwoTimes(network)

    def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        return sum_event(self.map(s, t, x, condition))


class WithLogDet(nn.Module):
    """A flow map together with a head for the log-determinants of its leaps.

    head: D(s, t, x, condition) ``(B,)``, for example a :class:`LogDetHead`.  It is a flow map like any other,
    and a :class:`~pushforward.flows.FlowMapFlow` of it has a density.

    >>> import torch
    >>> both = WithLogDet(lambda s, t, x: -x, lambda s, t, x, condition: -2 + 0 * x.sum(1))
    >>> both.jump_and_log_det(torch.tensor(0.0), torch.tensor(0.5), torch.ones(1, 2))
    (tensor([[0.5000, 0.5000]]), tensor([-1.]))
    """

    def __init__(self, flow_map: AnyFlowMap, head: Callable[..., Tensor]):
        super().__init__()
        self.flow_map, self.head = as_flow_map(flow_map, "flow_map"), head

    def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.flow_map(s, t, x, condition)

    def jump_and_log_det(
        self, s: Tensor, t: Tensor, x: Tensor, condition: Condition | None = None
    ) -> tuple[Tensor, Tensor]:
        """X_{s,t}(x), and (t - s) D(s, t, x) ``(B,)``: one evaluation of each."""
        image = x + expand_time(t - s, x) * self.flow_map(s, t, x, condition)
        return image, (t - s) * self.head(s, t, x, condition)

    def diagonal_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """v(t, t, x) and its divergence from those of the flow map, see
        :func:`~pushforward.fields.offered`."""
        return Diagonal(self.flow_map).value_and_divergence(t, x, condition, mask)


def log_det_of(flow_map: Any) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The method ``jump_and_log_det(s, t, x, condition)`` of a flow map that has one, else None.

    >>> log_det_of(lambda s, t, x: x) is None
    True
    """
    return getattr(flow_map, "jump_and_log_det", None)
