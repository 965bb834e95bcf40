"""Continuous flows, which follow a velocity field with an ODE solver."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor

from ..fields import (
    AnyField,
    DenoisingStep,
    Drift,
    Field,
    Guidance,
    Guided,
    Masked,
    PathDrift,
    Prediction,
    as_field,
    as_guidance,
    convert,
)
from ..inputs import check_rows
from ..paths import (
    Along,
    ConstantDiffusion,
    DiffusionCoefficient,
    Path,
    Proportional,
    check_affine,
    check_rising,
)
from ..solvers import ODE, SDE, Denoise, Diffusion, Dopri5, Problem, Solution, Solver, WithIntegrals
from ..sources import Normal, Source
from ..tensors import Condition, ConditionLike, TensorLike, expand_time, to_tensor, valid_elements
from .base import Flow
from .carrying import Space
from .denoising import DenoisingFlow
from .divergences import Divergence, Exact
from .invertible import InvertibleFlow
from .landing import check_points, landed, landed_log_det, landed_path, retraction
from .shapes import ConditionShape
from .stochastic import DiffusionFlow

#: How far from an end at which the velocity is infinite a stochastic process starts.
MARGIN = 1e-3


class ContinuousFlow(InvertibleFlow):
    """The flow of dx/dt = field(t, x, condition) from ``source`` at t = 0 to the data at t = 1.

    log p_1(x_1) = log p_0(x_0) - int_0^1 div field(t, x_t) dt (Chen et al. 2018, arXiv 1806.07366,
    eq. 8).  ``divergence`` computes it, exactly unless told: with
    :class:`~pushforward.flows.Hutchinson` log-densities are estimates, right on average over the noise, which
    is drawn for each row and stays the same along a solve.  ``guidance``, a
    :class:`~pushforward.fields.Guidance` or the weight of classifier-free guidance, is used by :meth:`push`,
    :meth:`pull` and :meth:`trajectory`; densities ignore it.  ``interval`` is the part of [0, 1] that is
    integrated: fields from a data, noise or score prediction are not defined at one end, and it is common to
    leave out the last thousandth.

    Where the ``source`` is one of a manifold, :class:`~pushforward.sources.ManifoldBase`, so is the flow: its
    points are, and densities are per volume of the manifold.  Its field is an
    :class:`~pushforward.fields.OnManifold`, or else says the same of points beside the manifold.

    ``path`` is the affine path whose distributions the field has, from a standard normal source that is
    independent of the data; with it the flow has a :meth:`score`, predictions of :meth:`data`, and
    :meth:`stochastic` processes.  Where there is none, a text in its place says why, for errors.

    Raises ValueError without a source, for an interval outside [0, 1], and for a path that does not start
    from the source; SolverFailure if the solver fails on a row.

    >>> from pushforward.sources import Normal
    >>> flow = ContinuousFlow(lambda t, x, condition: torch.ones_like(x), source=Normal(2))
    >>> flow.push(torch.zeros(1, 2)).round(decimals=4), flow.log_prob(torch.ones(1, 2))
    (tensor([[1., 1.]]), tensor([-1.8379]))
    """

    equation, guided = ODE, True
    #: attributes that flows in files of older versions lack
    later: ClassVar[Mapping[str, Any]] = {"path": None, "divergence": Exact()}
    no_path = "it has no path; say ContinuousFlow(..., path=Interpolant()) if it has the marginals of one"
    #: whether the field knows what it is without its condition, as training with hidden conditions teaches
    knows_absent: bool = True

    def __init__(
        self,
        field: AnyField,
        solver: Solver | None = None,
        source: Source | None = None,
        *,
        condition_shape: ConditionShape = (),
        guidance: float | Guidance = 1.0,
        interval: tuple[float, float] = (0.0, 1.0),
        divergence: Divergence | None = None,
        path: Path | str | None = None,
    ):
        super().__init__()
        if source is None:
            raise ValueError("source: expected the distribution at t = 0, for example Normal(event_shape)")
        self.field, self.solver, self.source = as_field(field), solver or Dopri5(), source
        if not 0 <= interval[0] < interval[1] <= 1:
            raise ValueError(f"interval: expected 0 <= start < stop <= 1, got {interval}")
        self.condition_shape, self.guidance, self.interval = condition_shape, guidance, interval
        self.divergence = divergence or Exact()
        if isinstance(path, str):
            self.no_path, path = path, None
        self.path = None if path is None else _starting(path, source)
        self.check_parts()

    @property
    def density(self) -> Literal["exact", "bound", "estimate", "none"]:
        return "exact" if self.divergence.exact else "estimate"

    def check_parts(self) -> None:
        guidance = as_guidance(self.guidance)
        if self.guidance != 1.0 and guidance.compares_absent and not self.knows_absent:
            raise ValueError(
                f"guidance: {guidance} compares with the field without its condition, and this one was "
                "trained without hidden conditions (--drop-condition)"
            )

    def masked(self, mask: Tensor) -> Self:
        if not as_guidance(self.guidance).keeps_padding:
            raise ValueError(f"mask: expected guidance that leaves out elements too, got {self.guidance}")
        valid = valid_elements(mask, mask.new_empty((len(mask), *self.event_shape)))
        return self.replace(field=Masked(self.field, mask), source=self.source.masked(valid))

    @property
    def velocity(self) -> Field:
        """The field that points follow: under guidance, where its weight is not 1."""
        return self.field if self.guidance == 1.0 else Guided(self.field, self.guidance)

    @property
    def _breaks(self) -> tuple[float, ...]:
        """The times at which the field jumps, as a :class:`~pushforward.fields.Piecewise` says."""
        return tuple(getattr(self.field, "breaks", ()))

    def problem(self, condition: Condition | None = None) -> ODE:
        """The guided ODE under ``condition``."""
        field = self.velocity
        retract = retraction(self.source.manifold)
        return ODE(lambda t, x: field(t, x, condition), breaks=self._breaks, retract=retract)

    def score(self, t: TensorLike | float, x: TensorLike, condition: ConditionLike | None = None) -> Tensor:
        """grad_x log p_t(x) ``(B, *event)`` at the time ``t``, a number or ``(B,)``, in [0, 1].

        Guidance is ignored, as it is by densities.  Raises ValueError where there is no path, and at times at
        which no noise is left, where the score is infinite.
        """
        return self._predicted("score", t, x, condition)

    def data(self, t: TensorLike | float, x: TensorLike, condition: ConditionLike | None = None) -> Tensor:
        """E[x1 | x_t = x] ``(B, *event)``, the prediction of the data; otherwise as :meth:`score`."""
        return self._predicted("data", t, x, condition)

    def _predicted(self, kind: Prediction, t: Any, x: Any, condition: Any) -> Tensor:
        x = check_rows(self.rows(x), self.event_shape)
        t = to_tensor(t, "t", x.dtype).to(x)
        if t.shape not in ((), (len(x),)) or not bool(((t >= 0) & (t <= 1)).all()):
            raise ValueError(
                f"t: expected a time in [0, 1], or one for each of {len(x)} rows, got {t.tolist()}"
            )
        if kind == "score" and self._scored is not None:
            return self._scored.own_score(t, x, self.conditions(condition))
        c = self.marginals.coefficients(expand_time(t, x))
        if kind == "score" and not bool((c.noise_scale > 0).all()):
            raise ValueError(f"t: the score is infinite where no noise is left, got t = {float(t.max()):g}")
        return convert(self.field(t, x, self.conditions(condition)), x, c, "velocity", kind)

    def stochastic(
        self, diffusion: DiffusionCoefficient | Diffusion | None = None, solver: Solver | None = None
    ) -> DiffusionFlow:
        """A flow with noise and the same distribution at every t: dX = (u + g^2/2 score) dt + g dW.

        diffusion: g, see :class:`~pushforward.paths.DiffusionCoefficient`; a number is a
        :class:`~pushforward.paths.ConstantDiffusion`, a function of t is taken as it is;
        :class:`~pushforward.paths.Proportional` if none is given.  The last step has no noise: it is the
        :class:`~pushforward.fields.DenoisingStep` to the prediction of the data.  Guidance enters the
        velocity and through it the score.

        Raises ValueError where there is no path; sampling raises it for a g that is negative or not finite.

        >>> from pushforward import GaussianMixture, GaussianMixtureOracle, Interpolant
        >>> oracle = GaussianMixtureOracle(GaussianMixture(torch.tensor([[-2.0], [2.0]]), 0.5))
        >>> flow = ContinuousFlow(oracle, source=Normal(1), path=oracle.path).stochastic(1.0)
        >>> x = flow.sample(2000, generator=torch.Generator().manual_seed(0))
        >>> abs(x.var().item() - 4.25) < 0.2
        True
        """
        if self._scored is not None:
            return self._by_own_score(self._scored, diffusion, solver)
        path, field = self.marginals, self.velocity
        start, stop = self.interval
        g = _level(Proportional() if diffusion is None else diffusion, path)
        return DiffusionFlow(
            PathDrift(field, path, g),
            g,
            solver,
            self.source,
            condition_shape=self.condition_shape,
            interval=(max(start, MARGIN) if path.open_ends[0] else start, stop),
            finish=DenoisingStep(field, path),
        )

    @property
    def _scored(self) -> Any:
        """The field, if it knows its score beside its velocity, as a :class:`~pushforward.fields.BridgeField`
        does; None for others, whose score follows from the path."""
        return self.field if self.path is None and hasattr(self.field, "own_score") else None

    def _by_own_score(
        self, field: Any, diffusion: DiffusionCoefficient | Diffusion | None, solver: Solver | None
    ) -> DiffusionFlow:
        """The process of a field that knows its score, by default with the noise of its bridges."""
        g = field.own_path.bridge if diffusion is None else _level(diffusion, field.own_path)
        velocity, score = field, field.own_score
        if self.guidance != 1.0:
            if not as_guidance(self.guidance).compares_absent:
                raise ValueError(
                    "guidance: a score that is a network of its own goes with guidance that compares "
                    f"conditions, got {as_guidance(self.guidance)}"
                )
            velocity, score = Guided(velocity, self.guidance), Guided(score, self.guidance)
        return DiffusionFlow(
            Drift(velocity, score, g),
            g,
            solver,
            self.source,
            condition_shape=self.condition_shape,
            interval=self.interval,
        )

    def _ways(self) -> Mapping[type[Problem], Callable[[Solver], Flow]]:
        return {
            **super()._ways(),
            SDE: lambda solver: self.stochastic(solver=solver),
            Denoise: lambda solver: DenoisingFlow(self, solver),
        }

    @property
    def _backwards(self) -> tuple[float, float]:
        start, stop = self.interval
        return stop, start

    def _solve(self, x: Tensor, t0: float, t1: float, condition: Condition | None) -> Tensor:
        return landed(self.source.manifold, self.solver.solve(self.problem(condition), x, t0, t1).check().x)

    def rows(self, x: Any, space: Space = "data") -> Tensor:
        name = "x0" if space == "source" else "x"
        return check_points(self.source.manifold, super().rows(x, space), self.event_shape, name)

    def forward(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.pulled_log_prob(x, condition, generator)

    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self._solve(x0, *self.interval, condition)

    def pull(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self._solve(x, *self._backwards, condition)

    def trajectory(
        self, x: Tensor, times: Sequence[float] | Tensor, condition: Condition | None = None
    ) -> Solution[Tensor]:
        """States at ``times``, ``path`` of shape ``(len(times), B, *event)``.

        Increasing times start from source points at t = 0, decreasing ones from data points at t = 1.
        """
        x, t, forwards = self.start(x, times)
        ends = self.interval if forwards else self._backwards
        problem = self.problem(self.conditions(condition))
        found = self.solver.solve(problem, x, *ends, save_at=t.clamp(*self.interval)).check()
        return landed_path(self.source.manifold, found)

    def augmented(self, condition: Condition | None = None, noise: Tensor | None = None) -> ODE:
        """The ODE of (x, log_det), d log_det/dt = div field(t, x, condition), without guidance.

        ``noise`` is what ``self.divergence.draw`` gives for the rows.
        """

        velocity = WithIntegrals(
            lambda t, state: self.divergence(self.field, t, state[0], condition, noise),
            lambda t, state: (self.field(t, state[0], condition),),
        )
        # the steps heed the log-determinant too, without which a density would not integrate to 1
        retract = retraction(self.source.manifold)
        return ODE(velocity, controlled=2, breaks=self._breaks, retract=retract)

    def _solve_and_log_det(
        self,
        x: Tensor,
        ends: tuple[float, float],
        condition: Condition | None,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        problem = self.augmented(condition, self.divergence.draw(x, generator))
        x_end, log_det = self.solver.solve(problem, (x, x.new_zeros(x.shape[0])), *ends).check().x
        return landed_log_det(self.source.manifold, x, x_end, log_det)

    def push_and_log_det(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self._solve_and_log_det(x0, self.interval, condition, generator)

    def pull_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self._solve_and_log_det(x, self._backwards, condition, generator)


def _level(diffusion: DiffusionCoefficient | Diffusion, path: Path) -> Diffusion:
    """A diffusion as a level of noise by time."""
    g = ConstantDiffusion(diffusion) if isinstance(diffusion, int | float) else diffusion
    return Along(g, path) if isinstance(g, DiffusionCoefficient) else g


def _starting(path: Path, source: Source) -> Path:
    """``path``, or a ValueError where its alpha / s does not rise or it does not start from ``source``."""
    start, _ = check_affine(path).ends()
    check_rising(path)
    if start.target_scale != 0:  # the source then stands for a distribution that depends on the data
        return path
    wanted = math.hypot(start.source_scale, start.noise_scale)
    if source.is_white(wanted):
        return path
    if not source.normal:
        raise ValueError(
            f"path: scores are known for a normal source only, got a {type(source).__name__}; elsewhere "
            "-noise / sigma is not the score"
        )
    got = cast(Normal, source)
    raise ValueError(
        f"path: expected its start N(0, {wanted:g}^2) as the source, got N({float(got.loc):g}, "
        f"{float(got.scale):g}^2)"
    )
