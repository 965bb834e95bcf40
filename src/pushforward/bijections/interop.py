"""Transforms of ``torch.distributions`` and of zuko as bijections, and bijections as transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from ..nn.checks import check_count, check_kind, check_sizes
from ..tensors import Condition, every, flatten_event, map_condition, pack_condition
from .base import REAL_LINE, Bijection, Domain


def from_torch(transform: Transform | nn.Module) -> Bijection:
    """A bijection whose forward is that of ``transform``.

    ``transform`` is a ``torch.distributions`` transform, or a module that gives one for a condition, as
    zuko's lazy transforms do; the module's parameters are learnt with the flow.  zuko's transforms run
    from the data to the source: wrap what comes out in :class:`Inverse`.

    Raises ValueError for a transform that is not bijective, and the bijection for points outside the domain
    (the codomain, for its inverse) and for finite ones whose image is not finite.  Under ``torch.compile``
    nothing is checked.

    >>> from torch.distributions.transforms import ExpTransform
    >>> from_torch(ExpTransform()).forward_and_log_det(torch.ones(1, 2))
    (tensor([[2.7183, 2.7183]]), tensor([2.]))
    """
    return _FromTorch(transform)


def to_torch(
    bijection: Bijection,
    condition: Condition | None = None,
    event_dim: int | tuple[int, int] = 1,
    cache_size: int = 0,
) -> Transform:
    """``bijection`` under ``condition`` as a transform of ``torch.distributions``, with zuko's
    ``call_and_ladj`` too.

    Arguments:
        condition: rows ``(B, ...)``; they go with the last of the dimensions before the event, ``(..., B,
            *event)``, or if there is but one, or a single label, with everything, one event too.
        event_dim: how many dimensions an event has; where the bijection changes that, before and after.
        cache_size: 1 to remember the last points with their images and log-determinants, as torch's
            transforms do, so that ``log_abs_det_jacobian`` just after either direction is had for nothing.

    What is remembered is forgotten where points, condition, parameters or buffers were edited or replaced
    since; edits through ``.data``, which torch does not count, are not seen.  Two transforms are equal when
    they are of the same bijection and condition.  Raises ValueError for an ``event_dim`` below 1 and a
    ``cache_size`` other than 0 and 1, and the transform for a condition that does not fit.

    >>> from pushforward.bijections import Affine
    >>> transform = to_torch(Affine(0.0, 2.0))
    >>> transform(torch.ones(3)), transform.inv(torch.ones(3))
    (tensor([2., 2., 2.]), tensor([0.5000, 0.5000, 0.5000]))
    """
    check_kind("bijection", bijection, Bijection)
    before, after = check_sizes("event_dim", (event_dim,) * 2 if isinstance(event_dim, int) else event_dim, 2)
    check_count("cache_size", cache_size, 0, 1)
    return _ToTorch(bijection, condition, (before, after), cache_size)


class _FromTorch(Bijection):
    def __init__(self, transform: Transform | nn.Module):
        super().__init__()
        if not isinstance(transform, Transform | nn.Module):
            raise ValueError(f"transform: expected a Transform or a module that gives one, got {transform!r}")
        # a module is registered by this assignment, a transform is kept as it is
        self.transform = transform
        if isinstance(transform, Transform):
            if not transform.bijective:
                raise ValueError(f"transform: {type(transform).__name__} is not bijective")
            self.domain, self.codomain = _interval(transform.domain), _interval(transform.codomain)

    def event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(getattr(self.transform, "forward_shape", tuple)(torch.Size(shape)))

    def inverse_event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(getattr(self.transform, "inverse_shape", tuple)(torch.Size(shape)))

    def _given(self, condition: Condition | None) -> Transform:
        if isinstance(self.transform, Transform):
            return self.transform
        return self.transform(condition)

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return _image(self._given(condition), x, "x")

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return _image(self._given(condition).inv, y, "y")


def _image(transform: Transform, x: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Image and log|det|, a number for each row."""
    constraint = transform.domain
    _check(_inside(constraint, x), f"{name}: expected values in the domain {constraint} of the transform", x)
    together = getattr(transform, "call_and_ladj", None)
    if together is not None:
        y, log_det = together(x)
    else:
        y = transform(x)
        log_det = transform.log_abs_det_jacobian(x, y)
    assert isinstance(y, Tensor) and isinstance(log_det, Tensor)
    # what the transform takes for a batch of events are elements of one event here
    log_det = flatten_event(log_det.expand(x.shape[: x.ndim - constraint.event_dim])).sum(-1)
    lost = flatten_event(~y.isfinite()).any(-1) & flatten_event(x.isfinite()).all(-1)
    _check(~lost, f"{name}: the transform has no finite image of all values", x)
    return y, log_det


def _check(fits: Tensor, message: str, x: Tensor) -> None:
    if not torch.compiler.is_compiling() and not every(fits):
        raise ValueError(f"{message}, got values from {x.min().item():g} to {x.max().item():g}")


def _base(constraint: constraints.Constraint) -> constraints.Constraint:
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    return constraint


def _inside(constraint: constraints.Constraint, x: Tensor) -> Tensor:
    """Whether points obey a constraint; what is no number is let through on the real line."""
    base = _base(constraint)
    if base in (constraints.real, constraints.real_vector):
        return torch.ones_like(x, dtype=torch.bool)
    if base is constraints.simplex:  # torch's own tolerance is that of double precision
        off = (x.sum(-1) - 1).abs() <= 16 * x.shape[-1] * torch.finfo(x.dtype).eps
        return (x >= 0).all(-1) & off
    return base.check(x)


def _interval(constraint: constraints.Constraint) -> Domain:
    """The interval in which a constraint keeps single numbers, or the real line."""
    constraint = _base(constraint)
    if constraint is constraints.simplex:
        return Domain(0.0, 1.0)
    low = getattr(constraint, "lower_bound", -torch.inf)
    high = getattr(constraint, "upper_bound", torch.inf)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return REAL_LINE
    return Domain(float(low), float(high))


def interval(domain: Domain, event_dim: int) -> constraints.Constraint:
    """``domain`` in torch's words, for events of ``event_dim`` dimensions."""
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

    def __init__(
        self, bijection: Bijection, condition: Condition | None, dims: tuple[int, int], cache_size: int
    ):
        super().__init__(cache_size)
        self.bijection, self._dims = bijection, dims
        self.condition = map_condition(lambda c: c[None] if c.ndim == 0 else c, condition)
        #: the last x, y and log-determinant, and what they depended on
        self._last: tuple[Tensor, Tensor, Tensor] | None = None
        self._stamp: list[Any] = []

    def with_cache(self, cache_size: int = 1) -> Transform:
        if cache_size == self._cache_size:
            return self
        return to_torch(self.bijection, self.condition, self._dims, cache_size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _ToTorch):
            return False
        mine, theirs = (pack_condition(t.condition) for t in (self, other))
        same = mine.keys() == theirs.keys() and all(torch.equal(c, theirs[k]) for k, c in mine.items())
        return self.bijection is other.bijection and self._dims == other._dims and same

    @constraints.dependent_property(is_discrete=False)
    def domain(self) -> constraints.Constraint:
        return interval(self.bijection.domain, self._dims[0])

    @constraints.dependent_property(is_discrete=False)
    def codomain(self) -> constraints.Constraint:
        return interval(self.bijection.codomain, self._dims[1])

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
        rows = x.reshape(lead.numel(), *x.shape[len(lead) :])

        def spread(c: Tensor) -> Tensor:
            if len(c) == 1:
                return c.expand(len(rows), *c.shape[1:])
            if not lead or lead[-1] != len(c):
                raise ValueError(
                    f"x: expected shape (..., {len(c)}, *event) for {len(c)} conditions, got {tuple(x.shape)}"
                )
            return c.expand(*lead, *c.shape[1:]).reshape(len(rows), *c.shape[1:])

        condition = map_condition(spread, self.condition)
        carry = self.bijection.inverse_and_log_det if inverse else self.bijection.forward_and_log_det
        y, log_det = carry(rows, condition)
        return y.reshape(*lead, *y.shape[1:]), log_det.reshape(lead)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Image and log|det|, in zuko's words."""
        return self._carry(x, False)

    def __call__(self, x: Tensor) -> Tensor:
        last = self._remembered(0, x)
        if last is None:
            y, log_det = self._carry(x, False)
            last = self._remember(x, y, log_det)
        return last[1]

    def _inv_call(self, y: Tensor) -> Tensor:
        last = self._remembered(1, y)
        if last is None:
            x, log_det = self._carry(y, True)
            last = self._remember(x, y, -log_det)
        return last[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        last = self._remembered(0, x)
        return last[2] if last is not None and last[1] is y else self._carry(x, False)[1]

    def _remember(self, x: Tensor, y: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        last = x, y, log_det
        if self._cache_size == 1:
            self._last, self._stamp = last, self._stamped(x, y)
        return last

    def _remembered(self, side: int, point: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """What is remembered, if ``point`` is its x (side 0) or y (side 1) and nothing changed since."""
        last = self._last
        if last is None or last[side] is not point:
            return None
        now = self._stamped(*last[:2])
        same = len(now) == len(self._stamp) and all(
            a is b or (not isinstance(a, Tensor) and a == b) for a, b in zip(now, self._stamp)
        )
        return last if same else None

    def _stamped(self, *points: Tensor) -> list[Any]:
        """All that an image depends on: tensors with the numbers of their edits, and modes."""
        own = (*self.bijection.parameters(), *self.bijection.buffers())
        stamp: list[Any] = [torch.is_grad_enabled(), *(m.training for m in self.bijection.modules())]
        for tensor in (*points, *own, *pack_condition(self.condition).values()):
            # edits of inference tensors are not counted: nothing equals a new object
            stamp += [tensor, object() if tensor.is_inference() else tensor._version, tensor.requires_grad]
        return stamp

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_stamp": [], "_last": None}
