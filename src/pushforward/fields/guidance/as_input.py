"""The weight of classifier-free guidance as an input of a flow map, which is a part of its condition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...nn import ConditionSpec
from ...tensors import Condition, drop_condition, expand_time
from ..base import AnyField, as_field
from ..flow_map import AnyFlowMap, Diagonal, as_flow_map
from ..latent import OTHER, joined, joined_spec
from ..log_det import log_det_of
from ..offers import Offered

#: The name of the weight in a condition.
WEIGHT = "guidance"


def hidden_rows(condition: Condition) -> Tensor:
    """Which rows ``(B,)`` have no condition: all parts of one are hidden together.

    >>> hidden_rows(torch.tensor([2, -1]))
    tensor([False,  True])
    """
    value = condition if isinstance(condition, Tensor) else next(iter(condition.values()))
    first = value.flatten(1)[:, 0] if value.ndim > 1 else value
    return first.isnan() if first.is_floating_point() else first < 0


def with_weight(condition: Condition, weight: Tensor) -> dict[str, Tensor]:
    """A condition that holds the weights ``(B,)`` as well, nan for rows whose condition is hidden.

    >>> with_weight(torch.tensor([3, -1]), torch.tensor([2.0, 2.0]))
    {'condition': tensor([ 3, -1]), 'guidance': tensor([2., nan])}
    """
    return joined(condition, WEIGHT, torch.where(hidden_rows(condition), torch.nan, weight))


def weight_spec(condition: ConditionSpec) -> dict[str, Any]:
    """What a network is told of :func:`with_weight`.

    Raises ValueError for a condition that has an entry of the name of the weight.

    >>> weight_spec(10)
    {'condition': 10, 'guidance': ()}
    """
    return joined_spec(condition, WEIGHT, ())


class AtWeight(nn.Module):
    """A flow map that takes weights of guidance from ``limits``, at the weight of one of them.

    weight: by default 1, or the least.  Raises ValueError for a weight that was not trained.

    >>> told = AtWeight(lambda s, t, x, condition: condition["guidance"][:, None] * x, (1.0, 4.0))
    >>> told.at(3.0)(torch.tensor(0.0), torch.tensor(1.0), torch.ones(1, 1), torch.tensor([0]))
    tensor([[3.]])
    """

    def __init__(self, flow_map: AnyFlowMap, limits: tuple[float, float], weight: float | None = None):
        super().__init__()
        self.flow_map, self.limits = as_flow_map(flow_map, "flow_map"), limits
        self.weight = weight if weight is not None else 1.0 if limits[0] <= 1 <= limits[1] else limits[0]

    def at(self, weight: Any) -> Self:
        """The same map at another weight."""
        low, high = self.limits
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not low <= weight <= high:
            raise ValueError(
                f"guidance: expected a weight from {low:g} to {high:g}, which were trained, got {weight}"
            )
        return type(self)(self.flow_map, self.limits, float(weight))

    def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.flow_map(s, t, x, self._told(x, condition))

    @property
    def jump_and_log_det(self) -> Callable[..., tuple[Tensor, Tensor]] | None:
        """That of the map, None where it has no head."""
        leap = log_det_of(self.flow_map)
        if leap is None:
            return None
        return lambda s, t, x, condition=None: leap(s, t, x, self._told(x, condition))

    def diagonal_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Those of the flow map, see :func:`~pushforward.fields.offered`."""
        return Diagonal(self.flow_map).value_and_divergence(t, x, self._told(x, condition), mask)

    def _told(self, x: Tensor, condition: Condition | None) -> Condition | None:
        return None if condition is None else with_weight(condition, x.new_full((len(x),), self.weight))


class GuidedByInput(nn.Module):
    """``field`` under classifier-free guidance whose weights are in the condition, see :func:`with_weight`.

    >>> still = lambda t, x, condition: torch.where(condition[:, None] < 0, 0.0, 1.0) * torch.ones_like(x)
    >>> told = with_weight(torch.tensor([4, -1]), torch.tensor([3.0, 3.0]))
    >>> GuidedByInput(still)(torch.tensor(0.5), torch.zeros(2, 1), told)
    tensor([[3.],
            [0.]])
    """

    def __init__(self, field: AnyField):
        super().__init__()
        self.field = as_field(field)

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        if not isinstance(condition, dict):
            return self.field(t, x, condition)
        rest = {name: value for name, value in condition.items() if name != WEIGHT}
        plain = rest[OTHER] if list(rest) == [OTHER] else rest
        absent = self.field(t, x, drop_condition(plain))
        weight = expand_time(condition[WEIGHT].nan_to_num(1.0), x)
        return absent + weight * (self.field(t, x, plain) - absent)
