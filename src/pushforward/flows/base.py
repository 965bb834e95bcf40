"""Abstract flows, which push the source to the data, and those of them that have a density."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ..bijections import Bijection
from ..fields import Field
from ..inputs import check_device, check_finite, check_rows, to_condition
from ..paths import DiffusionCoefficient, Path
from ..solvers import Diffusion, Problem, Solver, named_kind
from ..sources import Source
from ..tensors import (
    Condition,
    ConditionLike,
    TensorLike,
    event_size,
    map_condition,
    mask_rows,
    parameter_dtype,
    to_tensor,
    valid_elements,
)
from .carrying import CARRIES, Space, checked, moments_of
from .shapes import ConditionShape, sample_shape

#: Carries source points under row conditions: ``(x0, conditions, generator) -> x``.
Carry = Callable[[Tensor, "Condition | None", "torch.Generator | None"], Tensor]

#: What a flow without a path lacks.
_UNKNOWN = "this flow has no score, data prediction or noise"


class Flow(nn.Module, ABC):
    """Carries draws of ``source`` to the data.

    ``condition_shape`` is the shape of one condition; it distinguishes a single condition from a batch.
    Points and conditions may be tensors, arrays, DataFrames or lists; they get the dtype of the model, see
    :meth:`rows`.  Batches of no rows are allowed.

    equation: the kind of problem in time that its ``solver`` solves; None where there is none, and no solver.
    guided: whether it has ``guidance``.
    invertible: whether it also runs from the data to the source, see :class:`InvertibleFlow`.
    free_source: whether any distribution with a density may take the place of its ``source``.
    discrete: whether its points are tokens, of which log_prob is the log-probability.
    unbiased: whether exp(log_prob) is right on average over draws where log_prob itself is a bound.
    density: what ``log_prob`` gives: "exact"; "bound" where a surjection (dequantisation) or hidden variables
        make it a lower bound; "estimate" where it is right on average over draws, which residual layers may
        use in training mode, or a network's, as that of a flow map's head; "none" where there is no density.
    core: the flow without the preprocessing around it.  preprocess: that preprocessing, or None.
    """

    source: Source
    condition_shape: ConditionShape = ()
    equation: ClassVar[type[Problem] | None] = None
    guided: bool = False
    free_source: ClassVar[bool] = False
    discrete: ClassVar[bool] = False
    unbiased: ClassVar[bool] = False
    #: why its scores and stochastic processes are not known, where it has no path
    no_path: str = "it does not follow a velocity field"
    #: why it has no density, where it has none
    no_density: str = "runs one way: it has no inverse and no density"

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        for name, space in CARRIES.items():
            if name in cls.__dict__:
                setattr(cls, name, checked(cls.__dict__[name], space))

    def rows(self, x: Any, space: Space = "data") -> Tensor:
        """Points of the data or of the source as a tensor of the dtype that the flow takes.

        That is the dtype of its parameters; a flow without any follows its input.  Raises ValueError for
        anything but finite numbers, and for a tensor on another device than the flow.
        """
        name = "x0" if space == "source" else "x"
        rows = to_tensor(x, name, self.space_dtype(space))
        dtype = self.space_dtype(space) or (None if rows.is_floating_point() else torch.get_default_dtype())
        check_device(rows, self, name)
        return check_finite(rows if dtype is None else rows.to(dtype), name)

    def start(self, x: Any, times: Sequence[float] | Tensor) -> tuple[Tensor, Tensor, bool]:
        """The start of a trajectory, its times as a tensor, and whether they run from the source to the data.

        Increasing times start from points of the source, decreasing ones from the data.  Raises ValueError as
        :meth:`rows`, and for times that are not one-dimensional.
        """
        moments, forwards = moments_of(times)
        space: Space = "source" if forwards else "data"
        rows = check_rows(self.rows(x, space), self.space_shape(space))
        # tokens are whole numbers, which times are not
        like = rows if rows.is_floating_point() else moments.to(rows.device)
        return rows, moments.to(like), forwards

    def conditions(self, condition: Any) -> Condition | None:
        """A condition as tensors: numbers in the dtype of the model, labels as integers."""
        return to_condition(condition, self)

    def space_dtype(self, space: Space) -> torch.dtype | None:
        """The dtype of points of the data or of the source; None where it is that of the input."""
        return parameter_dtype(self)

    def space_shape(self, space: Space) -> tuple[int, ...]:
        """The shape of one point of the data or of the source."""
        return self.event_shape if space == "data" else self.source.event_shape

    @abstractmethod
    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Source points to data points, ``(B, *source_event) -> (B, *event)``."""

    def states(self, x0: Any, condition: ConditionLike | None = None) -> Tensor | None:
        """Source points after each layer, ``(layers + 1, B, *event)``, the last ones being those of ``push``.

        None for flows without layers, or whose layers do not all have the shape of an event.
        """
        return None

    @property
    def density(self) -> Literal["exact", "bound", "estimate", "none"]:
        """What ``log_prob`` gives, see :class:`Flow`."""
        return "none"

    @property
    def invertible(self) -> bool:
        """Whether it also runs from the data to the source."""
        return False

    @property
    def core(self) -> Flow:
        """The flow without the preprocessing around it."""
        return self

    @property
    def preprocess(self) -> Bijection | None:
        """The preprocessing, from the space of the core to the data."""
        return None

    @torch.no_grad()
    def initialise(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> None:
        """Set from training rows ``x`` ``(B, *event)`` what the flow takes from data, before it is trained.

        See :class:`~pushforward.bijections.ActNorm` and :class:`~pushforward.sources.LearntMixture`.
        """

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one data point."""
        return self.source.event_shape

    @property
    def velocity(self) -> Field:
        """The velocity field that it follows, with its guidance.  Raises ValueError where there is none."""
        raise ValueError(f"a {type(self).__name__} has no velocity field")

    @property
    def marginals(self) -> Path:
        """The path whose distributions the flow has, from a standard normal source independent of the data.

        Raises ValueError, with the reason, where there is none.
        """
        path = getattr(self, "path", None)  # files of earlier versions hold none
        if path is None:
            raise ValueError(f"{_UNKNOWN}: {self.no_path}")
        return path

    def _ways(self) -> Mapping[type[Problem], Callable[[Solver], Flow]]:
        """By the problem that a solver solves: the flow that it samples from."""
        return {} if self.equation is None else {self.equation: lambda solver: self.replace(solver=solver)}

    def following(self, solver: Solver) -> Flow:
        """The flow that ``solver`` samples from, of the same distribution of data points.

        Raises ValueError for a solver of a problem that this flow does not pose.
        """
        ways = self._ways()
        if solver.solves in ways:
            return ways[solver.solves](solver)
        name = type(self).__name__
        if not ways:
            raise ValueError(f"solver: a {name} needs none")
        got, wanted = named_kind(solver.solves), " or ".join(map(named_kind, ways))
        raise ValueError(f"solver: {solver!r} solves {got}, and this flow follows {wanted}")

    def in_evaluations(self, nfe: int) -> Flow | None:
        """The flow that draws in ``nfe`` evaluations by its own steps, or a ValueError; None where a solver
        is fitted for that."""
        return None

    def score(self, t: TensorLike | float, x: TensorLike, condition: ConditionLike | None = None) -> Tensor:
        """grad_x log p_t(x) ``(B, *event)``, see :meth:`ContinuousFlow.score`, or a ValueError."""
        raise ValueError(f"{_UNKNOWN}: {self.no_path}")

    def data(self, t: TensorLike | float, x: TensorLike, condition: ConditionLike | None = None) -> Tensor:
        """E[x1 | x_t = x] ``(B, *event)``, see :meth:`ContinuousFlow.data`, or a ValueError."""
        raise ValueError(f"{_UNKNOWN}: {self.no_path}")

    def stochastic(
        self, diffusion: DiffusionCoefficient | Diffusion | None = None, solver: Solver | None = None
    ) -> Flow:
        """A flow with noise, see :meth:`ContinuousFlow.stochastic`, or a ValueError."""
        raise ValueError(f"{_UNKNOWN}: {self.no_path}")

    def replace(self, **changes: Any) -> Self:
        """A copy that shares all parameters but has other attributes: ``flow.replace(solver=...)``.

        Raises ValueError for an attribute that the flow does not have, or that does not go with it.
        """
        twin = copy.copy(self)
        twin._modules = dict(self._modules)
        for name, value in changes.items():
            if not hasattr(self, name):
                raise ValueError(f"{type(self).__name__} has no attribute {name!r} to replace")
            if not isinstance(value, nn.Module):  # a number may take the place of a module
                twin._modules.pop(name, None)
            setattr(twin, name, value)
        twin.check_parts()
        return twin

    def check_parts(self) -> None:
        """Raise ValueError for attributes that do not go together; a flow that is replaced checks itself."""

    def condition_batch(self, condition: Condition | None) -> tuple[int, ...]:
        """Leading dimensions of a condition: () for a single one, (B,) for a batch of B.

        Raises ValueError if the trailing dimensions are not ``condition_shape``.
        """
        if condition is None:
            return ()
        shape = self.condition_shape
        if isinstance(condition, Tensor) == isinstance(shape, Mapping):
            raise ValueError(f"condition: expected {shape}, got {type(condition).__name__}")
        value = condition if isinstance(condition, Tensor) else next(iter(condition.values()))
        event = next(iter(shape.values())) if isinstance(shape, Mapping) else shape
        lead = value.ndim - len(event)
        if lead < 0 or tuple(value.shape[lead:]) != tuple(event):
            raise ValueError(f"condition: expected shape (..., {event}), got {tuple(value.shape)}")
        return tuple(value.shape[:lead])

    def _spread(self, condition: Condition | None, lead: Sequence[int]) -> Condition | None:
        """Broadcast the leading dimensions of ``condition`` to ``lead`` and flatten them to rows."""
        batch = len(self.condition_batch(condition))
        return map_condition(
            lambda c: c.expand((*lead, *c.shape[batch:])).reshape(-1, *c.shape[batch:]), condition
        )

    def sample(
        self,
        n: int | Sequence[int],
        condition: ConditionLike | None = None,
        generator: torch.Generator | None = None,
        mask: TensorLike | None = None,
    ) -> Tensor:
        """``n`` draws per condition: ``(n, *event)`` for none or one, ``(n, B, *event)`` for B of them.

        Several numbers ``(n, m)`` give ``(n, m, *event)``, or ``(n, m, B, *event)``.  ``mask`` is True on the
        elements of an event that are drawn, the others are zero: one for all draws, or one for each with
        their leading dimensions.  Raises ValueError for negative numbers and for a mask that the flow cannot
        use, see :meth:`masked`.
        """
        if mask is None:
            return self._sample(n, condition, generator, self.push)
        lead = (*sample_shape(n), *self.condition_batch(self.conditions(condition)))
        flow = self.masked(mask_rows(to_tensor(mask, "mask"), lead, self.event_shape))
        return flow._sample(n, condition, generator, flow.push)

    def masked(self, mask: Tensor) -> Self:
        """The flow on B rows of which some elements are padding, where ``mask`` ``(B, ...)`` is False.

        Padded elements are zero; they are neither drawn nor counted in a density.  Raises ValueError for a
        flow that cannot leave out elements.
        """
        raise ValueError(f"mask: a {type(self).__name__} cannot leave out elements; a ContinuousFlow can")

    def _sample(
        self,
        n: int | Sequence[int],
        condition: ConditionLike | None,
        generator: torch.Generator | None,
        carry: Carry,
    ) -> Tensor:
        given = self.conditions(condition)
        lead = (*sample_shape(n), *self.condition_batch(given))
        rows = self._spread(given, lead)
        x0 = self.source.sample(event_size(lead), rows, generator)
        x = carry(x0, rows, generator)
        return x.reshape(*lead, *self.event_shape)


class DensityFlow(Flow):
    """A flow whose log-density, or a lower bound on it, can be computed."""

    @property
    def density(self) -> Literal["exact", "bound", "estimate", "none"]:
        return "exact"

    @abstractmethod
    def forward(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """The log-density ``(B,)`` of rows ``(B, *event)``, as training and ``compile`` call it."""

    def log_prob(
        self,
        x: TensorLike,
        condition: ConditionLike | None = None,
        generator: torch.Generator | None = None,
        mask: TensorLike | None = None,
    ) -> Tensor:
        """Log-density in nats and data units: log p(x) = log p_source(x0) + log|det dx0/dx|.

        ``x`` is ``(..., *event)`` and ``condition`` ``(..., *condition_shape)``; leading dimensions
        broadcast and are the shape of the result.  ``generator`` is used by bounds and estimates.  Raises
        ValueError for shapes that do not fit, values that are not finite and a source without density.
        """
        rows, given, event = self.rows(x), self.conditions(condition), self.event_shape
        lead_ndim = rows.ndim - len(event)
        if lead_ndim < 0 or tuple(rows.shape[lead_ndim:]) != tuple(event):
            raise ValueError(
                f"x: expected shape (..., {', '.join(map(str, event))}), got {tuple(rows.shape)}"
            )
        lead, batch = tuple(rows.shape[:lead_ndim]), self.condition_batch(given)
        if batch:
            lead = torch.broadcast_shapes(lead, batch)
        flat = rows.expand(*lead, *event).reshape(event_size(lead), *event)
        flow: DensityFlow = self
        if mask is not None:
            valid = mask_rows(to_tensor(mask, "mask"), lead, event)
            flow, flat = self.masked(valid), torch.where(valid_elements(valid, flat), flat, 0.0)
        found = flow(flat, self._spread(given, lead), generator)
        # tokens are whole numbers, which their log-probabilities are not
        return (found.to(rows.dtype) if rows.is_floating_point() else found).reshape(lead)
