"""Flows of vectors that are rounded to the tokens whose points are nearest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor

from ..fields import AnyField, Guidance, PosteriorVelocity
from ..inputs import check_device
from ..nn.checks import check_sizes
from ..paths import TokenPoints, check_tokens
from ..solvers import ODE, Euler, Problem, Solution, Solver
from ..tensors import Condition, ConditionLike, event_size, parameter_dtype, to_tensor
from .base import Flow
from .carrying import Space, moments_of
from .continuous import ContinuousFlow
from .shapes import ConditionShape

#: The attribute of a rounded flow itself; all others are those of the flow of vectors.
OWN = "flow"


class Rounding(ODE):
    """An ODE whose end is rounded to tokens."""


@dataclass(frozen=True)
class RoundingError:
    """What rounding changes at the end of a flow of vectors, means over tokens.

    distance: from a vector to the nearest point, over half the distance of the two nearest points: more than
        1 may be nearer to another.  undecided: the share of tokens whose nearest point is not the likeliest.
    """

    distance: float
    undecided: float


class RoundedFlow(Flow):
    """A flow of vectors to the points of tokens, along ``path``, which ends at the nearest.

    field: log p(x1^i = k | x_t = x) ``(B, *event, K)`` of vectors ``(B, *event, E)``, up to a constant a
    token, such as a :class:`~pushforward.fields.TokenPosterior`.  event_shape: that of tokens.  solver: of
    an ODE; by default :class:`~pushforward.solvers.Euler` with 64 steps.  guidance: of the velocity, see
    :class:`ContinuousFlow`, which is ``flow``, the flow before rounding.

    Points are int64, from 0 to K - 1; those of the source are vectors.  Tokens have no density: that of the
    vectors is no probability of tokens.  :meth:`rounding_error` says how far the rounding is.

    Raises ValueError for a solver of another problem.  Li et al. 2022, arXiv 2205.14217; Dieleman et al.
    2022, arXiv 2211.15089; on the simplex Davis et al. 2024, arXiv 2405.14664.

    >>> from pushforward.oracles import TokenOracle
    >>> from pushforward.paths import SimplexTokens
    >>> path = SimplexTokens(2)
    >>> flow = RoundedFlow(TokenOracle(torch.tensor([[0.5, 0.0], [0.0, 0.5]]), path), path, 2)
    >>> x = flow.sample(100)
    >>> x.dtype, bool((x[:, 0] == x[:, 1]).all())
    (torch.int64, True)
    """

    equation, guided, discrete = Rounding, True, True
    no_path = "its vectors are no data; flow.flow is the flow of these"
    no_density = "rounds vectors to tokens, and has densities of vectors alone"

    def __init__(
        self,
        field: AnyField,
        path: TokenPoints,
        event_shape: int | Sequence[int],
        solver: Solver | None = None,
        *,
        condition_shape: ConditionShape = (),
        guidance: float | Guidance = 1.0,
    ):
        super().__init__()
        self.flow = ContinuousFlow(
            PosteriorVelocity(field, path),
            solver or Euler(64),
            path.source(check_sizes("event_shape", event_shape)),
            condition_shape=condition_shape,
            guidance=guidance,
            interval=(0.0, path.last),
            path=self.no_path,
        )
        self.source, self.condition_shape = self.flow.source, self.flow.condition_shape
        self.check_parts()

    def check_parts(self) -> None:
        if self.solver.solves is not ODE:
            raise ValueError(f"solver: {self.solver!r} solves no ODE; take Euler, Midpoint or Heun")

    @property
    def tokens(self) -> TokenPoints:
        """The path to the points of tokens."""
        return cast(PosteriorVelocity, self.flow.field).path

    @property
    def solver(self) -> Solver:
        """What follows the velocities."""
        return self.flow.solver

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.source.event_shape[:-1]

    def _ways(self) -> Mapping[type[Problem], Callable[[Solver], Flow]]:
        return {ODE: lambda solver: self.replace(solver=solver)}

    def replace(self, **changes: Any) -> Self:
        """As :meth:`Flow.replace`; attributes of the flow of vectors are replaced there."""
        twin = super().replace(**{name: value for name, value in changes.items() if name == OWN})
        inner = {name: value for name, value in changes.items() if name != OWN}
        if inner:
            twin.flow = twin.flow.replace(**inner)
        twin.source, twin.condition_shape = twin.flow.source, twin.flow.condition_shape
        twin.check_parts()
        return twin

    def rows(self, x: Any, space: Space = "data") -> Tensor:
        """Tokens as int64, points of the source as vectors.

        Raises ValueError for tokens that are not whole or out of range, and vectors that are not finite.
        """
        if space == "source":
            return super().rows(x, space)
        rows = to_tensor(x, "x", torch.float64)
        check_device(rows, self)
        return check_tokens(rows, self.tokens.size)

    def space_dtype(self, space: Space) -> torch.dtype | None:
        return parameter_dtype(self) if space == "source" else None

    def in_evaluations(self, nfe: int) -> Self:
        return self.replace(solver=Euler(nfe))

    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.tokens.nearest(self.flow.push(x0, condition))

    def trajectory(
        self,
        x0: Tensor,
        times: Sequence[float] | Tensor,
        condition: Condition | None = None,
        generator: torch.Generator | None = None,
    ) -> Solution[Tensor]:
        """Tokens at increasing ``times``, the nearest, ``path`` of shape ``(len(times), B, *event)``.

        The last are those of :meth:`push`; the vectors are those of ``flow.flow.trajectory``.  Raises
        ValueError for times that fall.
        """
        times, forwards = moments_of(times)
        if not forwards:
            raise ValueError("times: expected increasing times, tokens are rounded at the end")
        found = self.flow.trajectory(x0, times, condition)
        path = None if found.path is None else self.tokens.nearest(found.path)
        return dataclasses.replace(found, x=self.tokens.nearest(found.x), path=path)

    def log_prob(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Raises ValueError: probabilities of tokens are not known."""
        raise ValueError(f"a RoundedFlow {self.no_density}; a DiscreteFlow has log-probabilities")

    @torch.no_grad()
    def rounding_error(
        self,
        n: int = 256,
        condition: ConditionLike | None = None,
        generator: torch.Generator | None = None,
    ) -> RoundingError:
        """What rounding changes in ``n`` draws for each condition."""
        given = self.conditions(condition)
        lead = (n, *self.condition_batch(given))
        rows = self._spread(given, lead)
        x = self.flow.push(self.source.sample(event_size(lead), rows, generator), rows)
        near, points = self.tokens.nearest(x), self.tokens.points.to(x)
        apart = torch.cdist(points, points).fill_diagonal_(torch.inf).min()
        posterior = cast(PosteriorVelocity, self.flow.field).posterior
        likely = posterior(torch.as_tensor(self.tokens.last).to(x), x, rows).argmax(-1)
        distance = (x - points[near]).norm(dim=-1).mean() / (apart / 2)
        return RoundingError(float(distance), float((near != likely).double().mean()))
