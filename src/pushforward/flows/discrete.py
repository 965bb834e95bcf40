"""Flows of tokens, which jump from the source to the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from .. import random
from ..fields import AnyField, Guidance, as_field, as_guidance
from ..inputs import check_device, check_rows
from ..nn.checks import check_count, check_sizes
from ..paths import LateTimes, TokenPath, check_tokens
from ..solvers import Jump, Solver, TauLeaping
from ..sources import TokenSource
from ..tensors import (
    Condition,
    ConditionLike,
    TensorLike,
    event_size,
    flatten_event,
    map_condition,
    sum_event,
    take_condition,
    to_tensor,
)
from .base import DensityFlow
from .carrying import Space
from .distribution import FlowDistribution
from .kolmogorov import MOST_STATES, count_states, state_probs
from .one_way import OneWayFlow
from .shapes import ConditionShape

#: A log-probability that stands for that of what is impossible, where differences are taken.
NEVER = -1e4
#: Times at which the bound of ``log_prob`` is evaluated for each row.
DRAWS = 16


class DiscreteFlow(OneWayFlow, DensityFlow):
    """Tokens that jump from the source to the data at the rates of a posterior, along a ``path`` of tokens.

    field: log p(x1^i = k | x_t = x) ``(B, *event, K)`` of tokens ``(B, *event)``, up to a constant a token,
    such as a :class:`~pushforward.fields.TokenPosterior` or an oracle.  solver: of a
    :class:`~pushforward.solvers.Jump`; by default :class:`~pushforward.solvers.TauLeaping` with 100 steps.
    It also has the corrector and the temperature.  guidance: a :class:`~pushforward.fields.Guidance` of the
    log-probabilities, or the weight of classifier-free guidance, p(k | c)^w p(k)^(1 - w).

    Points are int64, from 0 to K - 1; whole floats are taken too.  ``log_prob`` is the log-probability
    of an event in nats, without corrector, temperature and guidance.  Up to 4,096 states of x_t it is exact,
    by the Kolmogorov equation on all of them, one solve for each condition.  Beyond it is a lower bound, the
    mean of :meth:`elbo` over 16 times.  A field that was trained on coupled pairs says so by ``coupled``; it
    has the same samples and log-probabilities, with a bound that is less tight, and no corrector.

    Raises ValueError for values that are no tokens, and a solver of another problem.  Campbell et al. 2024,
    arXiv 2402.04997; Gat et al. 2024, arXiv 2407.15595; the bound: Shaul et al. 2024, arXiv 2412.03487.

    >>> from pushforward.oracles import TokenOracle
    >>> from pushforward.paths import MaskedTokens
    >>> path, table = MaskedTokens(2), torch.tensor([[0.4, 0.1], [0.2, 0.3]])
    >>> flow = DiscreteFlow(TokenOracle(table, path), path, 2)
    >>> flow.density, flow.log_prob([[1, 0]]).exp()
    ('exact', tensor([0.2000], dtype=torch.float64))
    """

    equation, guided, discrete, interval = Jump, True, True, (0.0, 1.0)
    no_path = "it jumps between tokens, which have no velocity"
    #: attributes that flows in files of older versions lack
    later: ClassVar[dict[str, Any]] = {}
    #: whether the field knows what it is without its condition, as training with hidden conditions teaches
    knows_absent: bool = True
    #: whether the field was trained on pairs, so that tokens of the source say something of the data
    coupled: bool = False

    def __init__(
        self,
        field: AnyField,
        path: TokenPath,
        event_shape: int | Sequence[int],
        solver: Solver | None = None,
        *,
        condition_shape: ConditionShape = (),
        guidance: float | Guidance = 1.0,
    ):
        super().__init__()
        self.field, self.tokens = as_field(field), path
        self.solver = solver or TauLeaping()
        self.source = TokenSource(check_sizes("event_shape", event_shape), path.start)
        self.condition_shape, self.guidance = condition_shape, guidance
        self.check_parts()

    def check_parts(self) -> None:
        if self.solver.solves is not Jump:
            raise ValueError(
                f"solver: {self.solver!r} solves no Jump; take TauLeaping, JumpEuler or SingleJumps"
            )
        guidance = as_guidance(self.guidance)
        if self.guidance != 1.0 and guidance.compares_absent and not self.knows_absent:
            raise ValueError(
                f"guidance: {guidance} compares with the field without its condition, and this one was "
                "trained without hidden conditions (--drop-condition)"
            )

    @property
    def density(self) -> Literal["exact", "bound", "estimate", "none"]:
        size = event_size(self.event_shape)
        return "exact" if count_states(self.tokens, size) <= MOST_STATES else "bound"

    def rows(self, x: Any, space: Space = "data") -> Tensor:
        """Tokens as int64.  Raises ValueError for values that are not whole, or out of range."""
        name = "x0" if space == "source" else "x"
        rows = to_tensor(x, name, torch.float64)
        check_device(rows, self, name)
        return check_tokens(rows, self.tokens.values if space == "source" else self.tokens.size, name)

    def posterior(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        """log p(x1^i = k | x_t = x), ``(B, *event, K)``, without guidance."""
        return self.field(t, x, condition).log_softmax(-1)

    def _guided(self, t: Tensor, x: Tensor, condition: Condition | None, temperature: float) -> Tensor:
        """The posterior that samples are drawn with."""
        if self.guidance == 1.0:
            found = self.posterior(t, x, condition)
        else:
            # events get a last dimension, over which the guidance of a time is spread
            found = as_guidance(self.guidance)(
                lambda t, y, c=None: self.posterior(t, y[..., 0], c).clamp(min=NEVER),
                t,
                x[..., None],
                condition,
            ).log_softmax(-1)
        return found if temperature == 1 else (found / temperature).log_softmax(-1)

    def problem(self, condition: Condition | None = None) -> Jump:
        """The guided process under ``condition``."""
        return self._process(condition, 0.0, 1.0)

    def _process(self, condition: Condition | None, corrector: float, temperature: float) -> Jump:
        path = self.tokens
        if corrector and self.coupled:
            raise ValueError(
                "corrector: jumps back to the source are known for tokens that are independent of the data, "
                "and this flow was trained on pairs (--coupling)"
            )

        def posterior(t: Tensor, x: Tensor) -> Tensor:
            return self._guided(t, x, condition, temperature)

        return Jump(
            lambda t, x: path.rates(t, x, posterior(t, x), corrector),
            lambda t, s, x: path.expected(t, s, x, posterior(t, x), corrector),
            lambda t, x: posterior(t, x).exp(),
            path.redraws(posterior),
            lambda corrector, temperature: self._process(condition, corrector, temperature),
        )

    def in_evaluations(self, nfe: int) -> Self:
        return self.replace(solver=self.solver.in_steps(nfe))

    def forward(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        if self.density == "exact":
            return self._exact(self.rows(x), condition)
        return self.elbo(x, DRAWS, condition, generator)[0]

    def _exact(self, x: Tensor, condition: Condition | None) -> Tensor:
        """Log-probabilities from those of all states, one solve for each different condition."""
        size = event_size(self.event_shape)
        places = tuple(flatten_event(x).unbind(1))
        if condition is None:
            return self._states(size, None).log()[places]
        parts = [condition] if isinstance(condition, Tensor) else [*condition.values()]
        flat = torch.cat([flatten_event(part[:, None]).double() for part in parts], 1)
        _, groups = flat.nan_to_num(nan=math.pi).unique(dim=0, return_inverse=True)
        found = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for group in groups.unique():
            rows = (groups == group).nonzero()[:, 0]
            one = take_condition(condition, rows[:1])
            found[rows] = self._states(size, one).log()[tuple(place[rows] for place in places)]
        return found

    def _states(self, size: int, condition: Condition | None) -> Tensor:
        """The probabilities of all states under one condition ``(1, ...)``."""

        def posterior(t: Tensor, x: Tensor) -> Tensor:
            rows = x.reshape(len(x), *self.event_shape)
            given = map_condition(lambda c: c.expand(len(x), *c.shape[1:]), condition)
            return self.posterior(t, rows, given).reshape(len(x), size, -1)

        return state_probs(posterior, self.tokens, size)

    def elbo(
        self,
        x: TensorLike,
        draws: int = 64,
        condition: ConditionLike | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """A lower bound on the log-probability of rows ``(B, *event)`` and its standard error, ``(B,)``.

        The mean over ``draws`` times, one in each stratum, and noises; the error is at most what it says.
        Raises ValueError for fewer than two draws.

        >>> from pushforward.oracles import TokenOracle
        >>> from pushforward.paths import MaskedTokens
        >>> path, table = MaskedTokens(2), torch.tensor([[0.4, 0.1], [0.2, 0.3]])
        >>> flow = DiscreteFlow(TokenOracle(table, path), path, 2)
        >>> bound, error = flow.elbo([[1, 0]], 4000, generator=torch.Generator().manual_seed(0))
        >>> bool((bound - math.log(0.2)).abs() < 4 * error)
        True
        """
        check_count("draws", draws, 2)
        rows = check_rows(self.rows(x), self.event_shape)
        given, path = self.conditions(condition), self.tokens
        late = LateTimes(event_size(self.event_shape), path.last)
        found = []
        for i in range(draws):
            u = random.uniform((len(rows),), generator, torch.float64, rows.device)
            t = late.quantile((i + u) / draws)
            point = path.sample(t, rows, generator=generator)
            each = path.divergence(t, point.x, rows, self.posterior(t, point.x, given))
            found.append(sum_event(each.double()) * late.weight(t))
        terms = torch.stack(found)
        return -terms.mean(0), terms.std(0) / math.sqrt(draws)

    def sample_and_log_prob(
        self,
        n: int | Sequence[int],
        condition: ConditionLike | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draws as :meth:`sample`, and their :meth:`log_prob`."""
        x = self.sample(n, condition, generator)
        return x, self.log_prob(x, condition, generator)

    def given(
        self, condition: ConditionLike | None = None, generator: torch.Generator | None = None
    ) -> torch.distributions.Distribution:
        """The distribution under ``condition`` as a torch distribution of ``batch_shape`` () or (B,)."""
        found = FlowDistribution(self, self.conditions(condition), generator)
        found.has_rsample = False
        return found
