"""Transforms of ``torch.distributions`` and of zuko as bijections, and bijections as transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from ..tensors import Condition, map_condition
from .base import REAL_LINE, Bijection, Domain


def from_torch(transform: Transform | nn.Module) -> Bijection:
    """A bijection whose forward is that of ``transform``.

    ``transform`` is a ``torch.distributions`` transform, or a module that gives one for a condition, as
    zuko's lazy transforms do; the module's parameters are learnt with the flow.  zuko's transforms run
    from the data to the source: wrap what comes out in :class:`Inverse`.  Raises ValueError for a
    transform that is not bijective.

    >>> from torch.distributions.transforms import ExpTransform
    >>> from_torch(ExpTransform()).forward_and_log_det(torch.ones(1, 2))
    (tensor([[2.7183, 2.7183]]), tensor([2.]))
    """
    return _FromTorch(transform)


def to_torch(
    bijection: Bijection, condition: Condition | None = None, event_dim: int | tuple[int, int] = 1
) -> Transform:
    """``bijection`` under ``condition`` as a transform of ``torch.distributions``, with zuko's
    ``call_and_ladj`` too.

    Arguments:
        condition: rows ``(B, ...)``; they go with the last of the dimensions before the event, ``(..., B,
            *event)``, or if there is but one, with everything.
        event_dim: how many dimensions an event has; where the bijection changes that, before and after.

    The transform remembers the log-determinant of its last points, so that ``log_abs_det_jacobian`` just
    after either direction is had for nothing.  Raises ValueError for an ``event_dim`` below 1, and the
    transform for a condition that does not fit.

    >>> from pushforward.bijections import Affine
    >>> transform = to_torch(Affine(0.0, 2.0))
    >>> transform(torch.ones(3)), transform.inv(torch.ones(3))
    (tensor([2., 2., 2.]), tensor([0.5000, 0.5000, 0.5000]))
    """
    dims = (event_dim, event_dim) if isinstance(event_dim, int) else event_dim
    if min(dims) < 1:
        raise ValueError(f"event_dim: expected at least 1, got {event_dim}")
    return _ToTorch(bijection, condition, dims)


class _FromTorch(Bijection):
    def __init__(self, transform: Transform | nn.Module):
        super().__init__()
        # a module is registered by this assignment, a transform is kept as it is
        self.transform = transform
        if isinstance(transform, Transform):
            if not transform.bijective:
                raise ValueError(f"transform: {type(transform).__name__} is not bijective")
            self.domain, self.codomain = _interval(transform.domain), _interval(transform.codomain)

    def event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        if isinstance(self.transform, nn.Module):
            return tuple(shape)
        return tuple(self.transform.forward_shape(torch.Size(shape)))

    def inverse_event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        if isinstance(self.transform, nn.Module):
            return tuple(shape)
        return tuple(self.transform.inverse_shape(torch.Size(shape)))

    def _given(self, condition: Condition | None) -> Transform:
        if isinstance(self.transform, Transform):
            return self.transform
        return self.transform(condition)

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return _image(self._given(condition), x)

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return _image(self._given(condition).inv, y)


def _image(transform: Transform, x: Tensor) -> tuple[Tensor, Tensor]:
    """Image and log|det|, a number for each row."""
    together = getattr(transform, "call_and_ladj", None)
    if together is not None:
        y, log_det = together(x)
    else:
        y = transform(x)
        log_det = transform.log_abs_det_jacobian(x, y)
    assert isinstance(y, Tensor) and isinstance(log_det, Tensor)
    # what the transform takes for a batch of events are elements of one event here
    return y, log_det.expand(x.shape[: x.ndim - transform.domain.event_dim]).reshape(len(x), -1).sum(-1)


def _interval(constraint: constraints.Constraint) -> Domain:
    """The interval in which a constraint keeps single numbers, or the real line."""
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    if constraint is constraints.simplex:
        return Domain(0.0, 1.0)
    low = getattr(constraint, "lower_bound", -torch.inf)
    high = getattr(constraint, "upper_bound", torch.inf)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return REAL_LINE
    return Domain(float(low), float(high))


def _constraint(domain: Domain, event_dim: int) -> constraints.Constraint:
    if domain.low == -torch.inf and domain.high == torch.inf:
        base: constraints.Constraint = constraints.real
    elif domain.high == torch.inf:
        base = constraints.greater_than_eq(domain.low)
    elif domain.low == -torch.inf:
        base = constraints.less_than(domain.high)
    else:
        base = constraints.interval(domain.low, domain.high)
    return constraints.independent(base, event_dim)


class _ToTorch(Transform):
    bijective = True

    def __init__(self, bijection: Bijection, condition: Condition | None, dims: tuple[int, int]):
        super().__init__()
        self.bijection, self.condition, self._dims = bijection, condition, dims
        self._last: tuple[Tensor, Tensor] | None = None

    @constraints.dependent_property(is_discrete=False)
    def domain(self) -> constraints.Constraint:
        return _constraint(self.bijection.domain, self._dims[0])

    @constraints.dependent_property(is_discrete=False)
    def codomain(self) -> constraints.Constraint:
        return _constraint(self.bijection.codomain, self._dims[1])

    def forward_shape(self, shape: Sequence[int]) -> torch.Size:
        lead = len(shape) - self._dims[0]
        return torch.Size((*shape[:lead], *self.bijection.event_shape(shape[lead:])))

    def inverse_shape(self, shape: Sequence[int]) -> torch.Size:
        lead = len(shape) - self._dims[1]
        return torch.Size((*shape[:lead], *self.bijection.inverse_event_shape(shape[lead:])))

    def _carry(self, x: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        event_dim = self._dims[1 if inverse else 0]
        if x.ndim < event_dim:
            raise ValueError(f"x: expected at least {event_dim} dimensions, got shape {tuple(x.shape)}")
        lead = x.shape[: x.ndim - event_dim]
        rows = x.reshape(-1, *x.shape[len(lead) :])

        def spread(c: Tensor) -> Tensor:
            if len(c) != 1 and (not lead or lead[-1] != len(c)):
                raise ValueError(
                    f"x: expected shape (..., {len(c)}, *event) for {len(c)} conditions, got {tuple(x.shape)}"
                )
            return c.expand(*lead, *c.shape[1:]).reshape(-1, *c.shape[1:])

        condition = map_condition(spread, self.condition)
        carry = self.bijection.inverse_and_log_det if inverse else self.bijection.forward_and_log_det
        y, log_det = carry(rows, condition)
        return y.reshape(*lead, *y.shape[1:]), log_det.reshape(lead)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Image and log|det|, in zuko's words."""
        y, log_det = self._carry(x, False)
        self._last = (x, log_det)
        return y, log_det

    def _call(self, x: Tensor) -> Tensor:
        return self.call_and_ladj(x)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        x, log_det = self._carry(y, True)
        self._last = (x, -log_det)
        return x

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        if self._last is None or self._last[0] is not x:
            self.call_and_ladj(x)
        assert self._last is not None
        return self._last[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_last": None}
