"""The few tensor helpers that every layer shares: time broadcasting, event shapes, conditions by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

#: A condition: labels ``(B,)``, a tensor ``(B, ...)``, or a mapping of such tensors.
Condition = Tensor | Mapping[str, "Tensor"]


def expand_time(t: Tensor | float, x: Tensor) -> Tensor:
    """Give ``t`` the shape that multiplies ``x`` of shape ``(B, *event)`` row by row.

    This is the only place where time is broadcast.  A scalar stays a scalar, ``(B,)`` becomes
    ``(B, 1, ..., 1)``, and a tensor with as many dimensions as ``x`` (an operator-valued time) is kept.

    >>> expand_time(torch.zeros(3), torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 1, 1, 1])
    """
    if not isinstance(t, Tensor):
        return torch.full((), t, dtype=x.dtype, device=x.device)
    if t.ndim == 0 or t.ndim == x.ndim:
        return t
    if t.ndim == 1 and t.shape[0] in (1, x.shape[0]):
        return t.reshape(-1, *([1] * (x.ndim - 1)))
    raise ValueError(
        f"t: expected a scalar, shape ({x.shape[0]},) or {x.ndim} dimensions, got shape {tuple(t.shape)}"
    )


def sum_event(x: Tensor) -> Tensor:
    """Sum all but the first dimension: ``(B, *event) -> (B,)``."""
    return x.reshape(x.shape[0], -1).sum(-1)


def event_size(shape: Sequence[int]) -> int:
    """Number of elements of one event."""
    return math.prod(shape)


def map_condition(function: Callable[[Tensor], Tensor], condition: Condition | None) -> Condition | None:
    """Apply ``function`` to every tensor of a condition (None stays None)."""
    if condition is None:
        return None
    if isinstance(condition, Tensor):
        return function(condition)
    return {key: function(value) for key, value in condition.items()}


def condition_length(condition: Condition) -> int:
    """The number of rows that a condition is of."""
    return len(condition if isinstance(condition, Tensor) else next(iter(condition.values())))


def take_condition(condition: Condition | None, index: Tensor | slice) -> Condition | None:
    """The conditions of the rows at ``index``."""
    return map_condition(lambda c: c[index], condition)


def condition_to(condition: Condition | None, device: torch.device | str) -> Condition | None:
    """The same condition on ``device``."""
    return map_condition(lambda c: c.to(device), condition)


def join_conditions(first: Condition, second: Condition) -> Condition:
    """The conditions of some rows and then those of others."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat([first, second])
    assert isinstance(first, Mapping) and isinstance(second, Mapping)
    return {name: torch.cat([c, second[name]]) for name, c in first.items()}


def pack_condition(condition: Condition | None) -> dict[str, Tensor]:
    """A condition as tensors of a file: ``condition``, or ``condition/NAME`` for each of a mapping.

    >>> sorted(pack_condition({"age": torch.zeros(2), "kind": torch.ones(2)}))
    ['condition/age', 'condition/kind']
    """
    if condition is None:
        return {}
    named = {"condition": condition} if isinstance(condition, Tensor) else condition
    prefix = "" if isinstance(condition, Tensor) else "condition/"
    return {prefix + name: c.contiguous() for name, c in named.items()}


def unpack_condition(tensors: Mapping[str, Tensor]) -> Condition | None:
    """The inverse of :func:`pack_condition` on a file that may hold other tensors too."""
    if "condition" in tensors:
        return tensors["condition"]
    prefix = "condition/"
    named = {name.removeprefix(prefix): c for name, c in tensors.items() if name.startswith(prefix)}
    return named or None


def drop_condition(condition: Condition | None, rows: Tensor | None = None) -> Condition | None:
    """Mark conditions as absent: label -1, or NaN in a continuous condition.

    ``rows``, a boolean ``(B,)``, says which rows lose their condition (None: all of them).  Networks
    replace an absent condition by a learnt vector; ``condition=None`` means absent everywhere.

    >>> drop_condition(torch.tensor([3, 1]), torch.tensor([True, False]))
    tensor([-1,  1])
    """

    def drop(c: Tensor) -> Tensor:
        absent = torch.full_like(c, math.nan if c.is_floating_point() else -1)
        if rows is None:
            return absent
        return torch.where(rows.reshape(-1, *([1] * (c.ndim - 1))), absent, c)

    return map_condition(drop, condition)
