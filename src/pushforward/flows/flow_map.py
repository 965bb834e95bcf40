"""Flows of a flow map, which reach the data in one step or a few."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

import torch
from torch import Tensor

from ..fields import AnyFlowMap, Diagonal, Field, as_flow_map, jump, log_det_of
from ..inputs import check_rows
from ..paths import DiffusionCoefficient, Path
from ..solvers import ODE, SDE, Denoise, Diffusion, Problem, Solution, Solver
from ..sources import Source
from ..tensors import Condition, ConditionLike, TensorLike, sum_event, to_tensor
from .base import Flow
from .continuous import ContinuousFlow
from .invertible import InvertibleFlow
from .shapes import ConditionShape

#: Why a map that was trained in one direction is not asked for the other.
_ONE_SIDED = (
    "this flow map runs one way, from the source to the data; train it with two_sided=True (--two-sided)"
)


#: Why a map without log-determinants has no density.
_NO_DENSITY = (
    "has no density of its own: train a head for its log-determinants (--head), or take the density of its "
    "velocity, flow.continuous().log_prob(x) (--solver dopri5)"
)


class Defect(NamedTuple):
    """What a round trip of rows through a flow map shows, each ``(B,)``.

    distance: |X_{0,1}(X_{1,0}(x)) - x|, Euclidean.  log_det: |log-determinant there + that of the way back|.
    """

    distance: Tensor
    log_det: Tensor


class FlowMapFlow(InvertibleFlow):
    r"""Source points carried to the data by a flow map, in ``steps`` evaluations:

    .. math:: x_{k+1} = X_{t_k, t_{k+1}}(x_k), \qquad X_{s,t}(x) = x + (t - s)\, v(s, t, x)

    field: v, a :class:`~pushforward.fields.FlowMap`.
    steps: how many equal steps there are.  grid: the times of the steps instead, rising from 0 to 1, or from
    end to end of ``interval``.
    two_sided: whether the map was trained for s > t too, and so runs from the data to the source.
    guidance: the weight of guidance, of a field that takes it as :class:`~pushforward.fields.AtWeight` does;
    ``flow.replace(guidance=2.0)``.
    path: that whose distributions its velocity v(t, t, x) has, see :class:`ContinuousFlow`.
    known_steps: the numbers of equal steps that were trained, None for any; another number warns, and the
    nearest of them is taken.

    Where the field knows its log-determinants, as :class:`~pushforward.fields.WithLogDet` does, and the map
    is two-sided, ``log_prob`` takes ``steps`` evaluations.  It is an estimate, unless the field says that it
    is ``exact``: map and head are as good as they were learnt, see :meth:`log_prob_and_defect`.
    Its velocity is an ordinary field: :meth:`continuous` is the :class:`ContinuousFlow` that it should agree
    with, which has a density and takes solvers and guidance.  Boffi et al. 2024, arXiv 2406.07507.

    Raises ValueError for steps that are not positive, a grid that does not rise from end to end, and for what
    runs backwards unless ``two_sided``.

    >>> from pushforward.sources import Normal
    >>> flow = FlowMapFlow(lambda s, t, x, condition: -x, Normal(2), steps=2)
    >>> flow.push(torch.ones(1, 2))
    tensor([[0.2500, 0.2500]])
    """

    #: attributes that flows in files of older versions lack
    later: ClassVar[Mapping[str, Any]] = {
        "steps": 1,
        "known_steps": None,
        "grid": None,
        "two_sided": False,
        "interval": (0.0, 1.0),
        "path": None,
        "guided": False,
        "guidance": 1.0,
    }
    #: why it does not run back, and has no density
    one_way, no_density = _ONE_SIDED, _NO_DENSITY
    no_path = "it has no path; say FlowMapFlow(..., path=Interpolant()) if its velocity is that of one"

    def __init__(
        self,
        field: AnyFlowMap,
        source: Source,
        steps: int = 1,
        grid: Sequence[float] | None = None,
        *,
        two_sided: bool = False,
        condition_shape: ConditionShape = (),
        interval: tuple[float, float] = (0.0, 1.0),
        path: Path | str | None = None,
    ):
        super().__init__()
        self.field, self.source, self.condition_shape = as_flow_map(field), source, condition_shape
        self.grid: tuple[float, ...] | None = None if grid is None else tuple(grid)
        self.steps = len(self.grid) - 1 if self.grid and steps == 1 else steps
        self.known_steps: tuple[int, ...] | None = None
        self.two_sided = two_sided
        self.interval = interval
        #: whether the weight of guidance is an input of the field, and that weight
        self.guided = hasattr(self.field, "at")
        self.guidance: Any = getattr(self.field, "weight", 1.0)
        if isinstance(path, str):
            self.no_path, path = path, None
        self.path = path
        self.check_parts()

    def check_parts(self) -> None:
        if self.guided:
            self.field = cast(Any, self.field).at(self.guidance)
        lo, hi = self.interval
        if not 0 <= lo < hi <= 1:
            raise ValueError(f"interval: expected 0 <= start < stop <= 1, got {self.interval}")
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"steps: expected a positive number of steps, got {self.steps!r}")
        grid = self.grid
        if grid is None:
            self.steps = self._known(self.steps)
            return
        rises = len(grid) > 1 and all(a < b for a, b in pairwise(grid))
        if not (rises and math.isclose(min(grid), lo) and math.isclose(max(grid), hi)):
            raise ValueError(f"grid: expected times that rise from {lo:g} to {hi:g}, got {list(grid)}")
        if self.steps != len(grid) - 1:
            wanted = f"{len(grid) - 1} as the grid has, or grid=None"
            raise ValueError(f"steps: expected {wanted}, got {self.steps}")

    def _known(self, steps: int) -> int:
        """``steps``, or with a warning the nearest number that was trained."""
        if self.known_steps is None or steps in self.known_steps:
            return steps
        nearest = min(self.known_steps, key=lambda known: abs(math.log(known / steps)))
        known = ", ".join(map(str, self.known_steps))
        warnings.warn(f"steps: {steps} was not trained; takes {nearest}, of {known}", stacklevel=4)
        return nearest

    @property
    def times(self) -> tuple[float, ...]:
        """The times at which steps begin and end."""
        if self.grid is not None:
            return self.grid
        lo, hi = self.interval
        return (*(lo + (hi - lo) * k / self.steps for k in range(self.steps)), hi)

    @property
    def invertible(self) -> bool:
        return self.two_sided

    @property
    def density(self) -> Literal["exact", "bound", "estimate", "none"]:
        if not self.two_sided or log_det_of(self.field) is None:
            return "none"
        return "exact" if getattr(self.field, "exact", False) else "estimate"

    @property
    def velocity(self) -> Field:
        return Diagonal(self.field)

    def in_evaluations(self, nfe: int) -> Self:
        if nfe > 1 and getattr(self.field, "straight", False):
            raise ValueError("this map was trained for one step; pushforward distil trains others")
        return self.replace(steps=nfe, grid=None)

    def continuous(self, solver: Solver | None = None) -> ContinuousFlow:
        """The flow of the map's own velocity v(t, t, x), with a density; by default with Dopri5."""
        return ContinuousFlow(
            Diagonal(self.field),
            solver,
            self.source,
            condition_shape=self.condition_shape,
            interval=self.interval,
            path=self.path if self.path is not None else self.no_path,
        )

    def _ways(self) -> Mapping[type[Problem], Callable[[Solver], Flow]]:
        def follow(solver: Solver) -> Flow:
            return self.continuous().following(solver)

        return {ODE: follow, SDE: follow, Denoise: follow}

    def score(self, t: TensorLike | float, x: TensorLike, condition: ConditionLike | None = None) -> Tensor:
        """That of the distributions of its velocity, see :meth:`ContinuousFlow.score`."""
        return self.continuous().score(t, x, condition)

    def data(self, t: TensorLike | float, x: TensorLike, condition: ConditionLike | None = None) -> Tensor:
        """E[x1 | x_t = x] by its velocity, see :meth:`ContinuousFlow.data`."""
        return self.continuous().data(t, x, condition)

    def stochastic(
        self, diffusion: DiffusionCoefficient | Diffusion | None = None, solver: Solver | None = None
    ) -> Flow:
        """A flow with noise that follows its velocity, see :meth:`ContinuousFlow.stochastic`."""
        return self.continuous().stochastic(diffusion, solver)

    def jump(
        self,
        s: TensorLike | float,
        t: TensorLike | float,
        x: TensorLike,
        condition: ConditionLike | None = None,
    ) -> Tensor:
        """X_{s,t}(x) ``(B, *event)``, for times that are scalars or ``(B,)``.

        Raises ValueError for times outside [0, 1], and for s > t unless the map is two-sided.
        """
        x = check_rows(self.rows(x), self.event_shape)
        s, t = (self._time(name, value, x) for name, value in (("s", s), ("t", t)))
        if not self.two_sided and bool((s > t).any()):
            raise ValueError(f"s, t: expected s <= t; {_ONE_SIDED}")
        return jump(self.field, s, t, x, self.conditions(condition))

    def _time(self, name: str, value: TensorLike | float, x: Tensor) -> Tensor:
        t = to_tensor(value, name, x.dtype).to(x)
        if t.shape not in ((), (len(x),)) or not bool(((t >= 0) & (t <= 1)).all()):
            raise ValueError(
                f"{name}: expected a time in [0, 1], or one for each of {len(x)} rows, got {t.tolist()}"
            )
        return t

    def _along(self, x: Tensor, times: Sequence[float], condition: Condition | None) -> Tensor:
        for s, t in pairwise(times):
            x = self._step(x, s, t, condition)
        return x

    def _step(self, x: Tensor, s: float, t: float, condition: Condition | None) -> Tensor:
        return jump(self.field, x.new_tensor(s), x.new_tensor(t), x, condition)

    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self._along(x0, self.times, condition)

    def pull(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        if not self.two_sided:
            raise ValueError(f"pull: {_ONE_SIDED}")
        return self._along(x, self.times[::-1], condition)

    def trajectory(
        self,
        x: Tensor,
        times: Sequence[float] | Tensor,
        condition: Condition | None = None,
        generator: torch.Generator | None = None,
    ) -> Solution[Tensor]:
        """States at ``times``, ``path`` of shape ``(len(times), B, *event)``.

        Increasing times start from source points, decreasing ones, of a two-sided map, from data points.
        A state at t is one jump from the last time of the steps before it, so that the states of the steps
        are those of :meth:`push`, and each takes one evaluation.
        """
        x, moments, forwards = self.start(x, times)
        if not forwards and not self.two_sided:
            raise ValueError(f"times: expected increasing times; {_ONE_SIDED}")
        given = self.conditions(condition)
        knots = self.times if forwards else self.times[::-1]
        wanted = moments.clamp(*self.interval).tolist()
        found: list[Tensor] = []
        evaluations, place = 0, 0
        for t in wanted:
            while place + 2 < len(knots) and (knots[place + 1] <= t if forwards else knots[place + 1] >= t):
                x = self._step(x, knots[place], knots[place + 1], given)
                place, evaluations = place + 1, evaluations + 1
            at_knot = t == knots[place]
            found.append(x if at_knot else self._step(x, knots[place], t, given))
            evaluations += not at_knot
        nfe = torch.full((len(x),), evaluations, device=x.device)
        path = torch.stack(found) if found else x.new_zeros(0, *x.shape)
        last = path[-1] if found else x
        return Solution(last, nfe, evaluations, torch.zeros_like(nfe), moments, path)

    def forward(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.pulled_log_prob(x, condition, generator)

    def push_and_log_det(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self._along_and_log_det(x0, self.times, condition)

    def pull_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        if not self.two_sided and log_det_of(self.field) is not None:
            raise ValueError(f"log_prob: {_ONE_SIDED}")
        return self._along_and_log_det(x, self.times[::-1], condition)

    def _along_and_log_det(
        self, x: Tensor, times: Sequence[float], condition: Condition | None
    ) -> tuple[Tensor, Tensor]:
        leap = log_det_of(self.field)
        if leap is None:
            raise ValueError(f"a FlowMapFlow {_NO_DENSITY}")
        total = x.new_zeros(len(x))
        for s, t in pairwise(times):
            x, log_det = leap(x.new_tensor(s), x.new_tensor(t), x, condition)
            total = total + log_det
        return x, total

    def log_prob_and_defect(
        self, x: TensorLike, condition: ConditionLike | None = None
    ) -> tuple[Tensor, Defect]:
        """The estimate ``log_prob`` of rows ``(B, *event)``, and how far the map is from what it says.

        The rows are pulled to the source and pushed back, in twice the evaluations.  Where the map and its
        head are exact both figures of the :class:`Defect` are zero; they do not show an error that both
        directions share.  Raises ValueError for a flow without a density.
        """
        rows, given = check_rows(self.rows(x), self.event_shape), self.conditions(condition)
        x0, down = self.pull_and_log_det(rows, given)
        back, up = self.push_and_log_det(x0, given)
        log_prob = self.source.log_prob(x0, given).to(down) + down
        return log_prob, Defect(sum_event((back - rows).square()).sqrt(), (down + up).abs())
