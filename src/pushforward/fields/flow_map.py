"""Flow maps: the mean velocity between two times, which carries points from one to the other in one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from torch import Tensor, nn

from ..nn import Network
from ..tensors import Condition, expand_time
from .base import AnyField, as_field, takes_condition
from .offers import Offered, offered


class FlowMap(Protocol):
    r"""The mean velocity ``(B, *event)`` from time s to time t of the point that is at x at time s.

    .. math:: X_{s,t}(x) = x + (t - s)\, v(s, t, x)

    ``s`` and ``t`` are scalars or ``(B,)``, ``x`` is ``(B, *event)``.  X carries the distribution at s to
    that at t, and v(t, t, x) is the velocity field (Boffi et al. 2024, arXiv 2406.07507).
    """

    def __call__(self, s: Tensor, t: Tensor, x: Tensor, condition: Condition | None = None, /) -> Tensor: ...


#: What is taken for a flow map: a :class:`FlowMap`, or a callable ``(s, t, x)``.
AnyFlowMap = (
    FlowMap | Callable[[Tensor, Tensor, Tensor], Tensor] | Callable[[Tensor, Tensor, Tensor, Any], Tensor]
)


class _Unconditional(nn.Module):
    """A callable ``function(s, t, x)`` as a flow map."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        if condition is not None:
            raise ValueError("condition: the flow map is a function of (s, t, x) alone, got a condition")
        return self.function(s, t, x)


def as_flow_map(flow_map: AnyFlowMap, name: str = "field") -> FlowMap:
    """``flow_map`` itself if it takes a condition, else a module around it that refuses one.

    Raises ValueError for anything but a callable of three or four arguments.

    >>> as_flow_map(lambda s, t, x: x)(0.0, 1.0, 2.0, None)
    2.0
    """
    if takes_condition(flow_map, ("s", "t", "x"), name):
        return cast(FlowMap, flow_map)
    return _Unconditional(cast(Callable[[Tensor, Tensor, Tensor], Tensor], flow_map))


def jump(flow_map: FlowMap, s: Tensor, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
    """X_{s,t}(x) = x + (t - s) v(s, t, x), ``(B, *event)``.

    >>> import torch
    >>> jump(lambda s, t, x, condition: -x, torch.tensor(0.0), torch.tensor(0.5), torch.ones(1, 2))
    tensor([[0.5000, 0.5000]])
    """
    return x + expand_time(t - s, x) * flow_map(s, t, x, condition)


class TwoTimes(nn.Module):
    """A network of one time and a span, ``network(s, x, condition, t - s)``, as a :class:`FlowMap`.

    Raises ValueError for a network that was not made with ``spans=True``.

    >>> import torch
    >>> from pushforward.nn import MLP
    >>> TwoTimes(MLP(2, spans=True))(torch.tensor(0.0), torch.tensor(1.0), torch.zeros(3, 2)).shape
    torch.Size([3, 2])
    """

    def __init__(self, network: Network):
        super().__init__()
        if not getattr(network, "spans", False):
            raise ValueError(
                f"network: expected one that takes two times, such as MLP(..., spans=True), got a "
                f"{type(network).__name__} that takes one"
            )
        self.network = network

    def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.network(s, x, condition, t - s)

    def diagonal_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """v(t, t, x) and its divergence, see :func:`~pushforward.fields.offered`."""
        return offered(self.network, t, x, condition, mask)


class Straight(nn.Module):
    """A velocity field as a :class:`FlowMap` whose leaps are straight: v(s, t, x) = field(s, x).

    X_{s,t} is then one Euler step, which after reflow is the flow itself (Liu et al. 2023, arXiv 2209.03003).

    >>> import torch
    >>> straight = Straight(lambda t, x: -x)
    >>> jump(straight, torch.tensor(0.0), torch.tensor(1.0), torch.ones(1, 2))
    tensor([[0., 0.]])
    """

    def __init__(self, field: AnyField):
        super().__init__()
        self.field = as_field(field)

    def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.field(s, x, condition)


class Diagonal(nn.Module):
    """The velocity v(t, t, x) of a flow map, an ordinary field for solvers, likelihoods and guidance.

    >>> import torch
    >>> Diagonal(lambda s, t, x: s + t + x)(torch.tensor(0.5), torch.zeros(1, 1))
    tensor([[1.]])
    """

    def __init__(self, flow_map: AnyFlowMap):
        super().__init__()
        self.flow_map = as_flow_map(flow_map, "flow_map")

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.flow_map(t, t, x, condition)

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both where the flow map offers them, as :class:`TwoTimes` does; see
        :func:`~pushforward.fields.offered`."""
        offer = getattr(self.flow_map, "diagonal_and_divergence", None)
        return None if offer is None else offer(t, x, condition, mask)
