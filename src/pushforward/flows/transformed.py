"""A flow followed by a bijection, which makes preprocessing a part of the flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor

from ..bijections import Bijection
from ..inputs import check_rows
from ..paths import DiffusionCoefficient, Path
from ..solvers import ODE, Diffusion, Solution, Solver
from ..tensors import Condition, ConditionLike, TensorLike, differentiable, parameter_dtype
from .base import Flow
from .carrying import Space
from .continuous import ContinuousFlow
from .invertible import InvertibleFlow


class Transformed(InvertibleFlow):
    """``flow`` followed by ``bijection``, which maps the flow's space to the data's.

    Samples, densities and trajectories are then in data units.  Source points are those of ``source``,
    in the space of ``flow``; :func:`pushforward.inference.carry` takes rows of a source that was data, in
    their own units.  Data points have ``dtype`` (the model computes in its own), so that large numbers keep
    their digits.  With a surjection in ``bijection`` the
    density is a bound.  Raises ValueError for shapes that do not fit, and if an inverse or a density is
    requested that ``flow`` does not have.
    """

    def __init__(self, flow: Flow, bijection: Bijection, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.flow, self.bijection, self.dtype = flow, bijection, dtype
        self.source, self.condition_shape = flow.source, flow.condition_shape

    @property
    def density(self) -> Literal["exact", "bound", "estimate", "none"]:
        inner = self.flow.density
        return "bound" if self.bijection.stochastic and inner != "none" else inner

    @property
    def invertible(self) -> bool:
        return self.flow.invertible

    @property
    def core(self) -> Flow:
        return self.flow

    @property
    def preprocess(self) -> Bijection | None:
        return self.bijection

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.bijection.event_shape(self.flow.event_shape)

    def replace(self, **changes: Any) -> Self:
        """As :meth:`Flow.replace`; attributes of the inner flow are replaced there."""
        mine = {k: v for k, v in changes.items() if k in ("flow", "bijection", "dtype")}
        inner = {k: v for k, v in changes.items() if k not in mine}
        twin = super().replace(**mine)
        if inner:
            twin.flow = twin.flow.replace(**inner)
        return twin

    def space_dtype(self, space: Space) -> torch.dtype | None:
        return self.dtype if space == "data" else parameter_dtype(self.flow)

    def following(self, solver: Solver) -> Transformed:
        return self.replace(flow=self.flow.following(solver))

    @property
    def marginals(self) -> Path:
        """The path of the inner flow, in its space."""
        return self.flow.marginals

    def stochastic(
        self, diffusion: DiffusionCoefficient | Diffusion | None = None, solver: Solver | None = None
    ) -> Transformed:
        return self.replace(flow=self.flow.stochastic(diffusion, solver))

    def score(self, t: TensorLike | float, x: TensorLike, condition: ConditionLike | None = None) -> Tensor:
        """grad log p_t of the states of :meth:`trajectory`, which are those of the inner flow in data units.

        With x = f(y) it is J^T grad_y log p_t(y) + grad_x log|det J|, J = dy/dx.  Raises ValueError for a
        bijection that draws noise.
        """
        if self.bijection.stochastic:
            raise ValueError(
                f"a {type(self.bijection).__name__} draws noise, through which no score is known"
            )
        given = self.conditions(condition)
        with differentiable(), torch.enable_grad():
            points = check_rows(self.rows(x), self.event_shape).clone().requires_grad_()
            y, log_det = self.bijection.inverse_and_log_det(points, given)
            inner = self.flow.score(t, y.detach().to(self.model_dtype), given).to(y)
            (found,) = torch.autograd.grad((y * inner.detach()).sum() + log_det.sum(), points)
        return found

    def data(self, t: TensorLike | float, x: TensorLike, condition: ConditionLike | None = None) -> Tensor:
        """The prediction of the inner flow, in data units; a mean where the bijection is affine."""
        given = self.conditions(condition)
        y, _ = self._inwards(check_rows(self.rows(x), self.event_shape), given, None)
        return self.bijection.forward(self.flow.data(t, y, given).to(self.dtype), given)

    @property
    def _one_way(self) -> str:
        """Why there is no inverse: what the inner flow says, where it can be trained to have one."""
        told = f"a {type(self.flow).__name__} runs one way: it has no inverse and no density"
        return getattr(self.flow, "one_way", told)

    @property
    def _inverse(self) -> InvertibleFlow:
        if not self.flow.invertible:
            raise ValueError(self._one_way)
        return cast(InvertibleFlow, self.flow)

    def _inwards(
        self, x: Tensor, condition: Condition | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        y, log_det = self.bijection.inverse_and_log_det(x.to(self.dtype), condition, generator)
        return y.to(self.model_dtype), log_det

    @property
    def model_dtype(self) -> torch.dtype:
        """The dtype in which the inner flow computes."""
        held = (*self.source.buffers(), *self.source.parameters())
        return next((tensor.dtype for tensor in held if tensor.is_floating_point()), torch.float32)

    def forward(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        if self.flow.density == "none":
            raise ValueError(f"a {type(self.flow).__name__} {self.flow.no_density}")
        y, log_det = self._inwards(x, condition, generator)
        return self.flow(y, condition, generator).to(log_det) + log_det

    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        y = self.flow.push(x0, condition, generator)
        return self.bijection.forward(y.to(self.dtype), condition, generator)

    def pull(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self._inverse.pull(self._inwards(x, condition, generator)[0], condition, generator)

    def push_and_log_det(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        y, inner = self._inverse.push_and_log_det(x0, condition, generator)
        x, outer = self.bijection.forward_and_log_det(y.to(self.dtype), condition, generator)
        return x, inner + outer

    def pull_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        y, outer = self._inwards(x, condition, generator)
        x0, inner = self._inverse.pull_and_log_det(y, condition, generator)
        return x0, inner + outer

    def states(self, x0: Any, condition: ConditionLike | None = None) -> Tensor | None:
        """As :meth:`Flow.states`, every state mapped to data units; the preprocessing is no layer."""
        inner = self.flow.states(x0, condition)
        if inner is None:
            return None
        moved = self.bijection.forward(inner.flatten(0, 1).to(self.dtype))
        return moved.unflatten(0, inner.shape[:2])

    def trajectory(
        self,
        x: Tensor,
        times: Sequence[float] | Tensor,
        condition: Condition | None = None,
        generator: torch.Generator | None = None,
    ) -> Solution[Tensor]:
        """As :meth:`ContinuousFlow.trajectory`, every state mapped to data units.

        Raises ValueError where the inner flow has no trajectory.
        """
        if not hasattr(self.flow, "trajectory"):
            raise ValueError(f"a {type(self.flow).__name__} has no trajectory in time")
        x, times, forwards = self.start(x, times)
        condition = self.conditions(condition)
        if not forwards:
            x = self._inwards(x, condition, generator)[0]
        noise = {} if self.flow.equation is ODE else {"generator": generator}
        solution = cast(ContinuousFlow, self.flow).trajectory(x, times, condition, **noise)
        assert solution.path is not None
        count, rows = solution.path.shape[:2]
        path = solution.path.flatten(0, 1).to(self.dtype)
        moved = self.bijection.forward(path, None, generator)
        return Solution(
            moved[-rows:],
            solution.nfe,
            solution.calls,
            solution.status,
            solution.times,
            moved.reshape(count, rows, *moved.shape[1:]),
        )
