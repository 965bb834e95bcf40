"""The bound that the errors of a score put on the likelihood of its diffusion."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from .. import random
from ..fields import convert
from ..inputs import check_rows
from ..nn.checks import check_count
from ..paths import Path, log_snr, time_of_log_snr
from ..tensors import ConditionLike, TensorLike, event_size, expand_time, map_condition, sum_event
from .base import Flow
from .continuous import ContinuousFlow

#: Distance of the diffusion from an end at which alpha or the noise is 0.
MARGIN = 1e-3


@torch.no_grad()
def nll_bound(
    flow: Flow,
    x: TensorLike,
    draws: int = 32,
    condition: ConditionLike | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """An estimate of an upper bound on -log p(x), and its standard error, ``(B,)`` in nats and data units.

    p is the density of the reverse diffusion of a ``flow`` with a path (see :meth:`Flow.stochastic`), not of
    its ODE.  With the squared errors of the noise prediction n' at points x_t made of x,

        -log p(x) <= KL(q(x_0 | x) || source) - E log p(x | x_1)
                     + 1/2 int E|n - n'(t, x_t)|^2 d log(alpha^2 / s^2)

    (Song et al. 2021, arXiv 2101.09258, theorem 3; in this form Kingma et al. 2021, arXiv 2107.00630, eq.
    13), where p(x | x_1) is normal around x_1 / alpha with the noise that the path leaves at its end.
    On average over the data it exceeds their entropy by the integral of g^2/2 |score error|^2 and is tight
    for the true score.  It needs no derivatives and no solver: ``draws`` evaluations of the field a row, at
    times uniform in log(alpha^2 / s^2), in strata.  The error of the best linear prediction for data of unit
    variance is a control variate whose integral is known.  The ends are those of the path, or a thousandth
    inside where there is no signal or no noise.  The standard error takes strata for independent draws, and
    is so rather too large.

    Raises ValueError where the flow has no path, for fewer than two draws, and for rows of another shape.

    >>> from pushforward import GaussianMixture, GaussianMixtureOracle, Normal
    >>> oracle = GaussianMixtureOracle(GaussianMixture(torch.zeros(1, 2), 1.0))
    >>> flow = ContinuousFlow(oracle, source=Normal(2), path=oracle.path)
    >>> bound, _ = nll_bound(flow, torch.zeros(1, 2), generator=torch.Generator().manual_seed(0))
    >>> bound.round(decimals=2), -flow.log_prob(torch.zeros(1, 2)).round(decimals=2)
    (tensor([1.8400]), tensor([1.8400]))
    """
    check_count("draws", draws, 2)
    path, core = flow.marginals, cast(ContinuousFlow, flow.core)
    rows, given = check_rows(flow.rows(x), flow.event_shape), flow.conditions(condition)
    outer = rows.new_zeros(len(rows))
    if flow.preprocess is not None:
        rows, outer = flow.preprocess.inverse_and_log_det(rows, given, generator)
        rows = core.rows(rows)
    first, last = _ends(path)
    low, high = log_snr(path, torch.tensor([first, last], dtype=torch.float64)).tolist()
    many = rows.repeat_interleave(draws, 0)
    u = random.uniform((len(rows), draws), generator, torch.float64, rows.device)
    level = low + (high - low) * (torch.arange(draws, device=rows.device) + u).flatten() / draws
    t = time_of_log_snr(path, level, (first, last)).to(many)
    c = path.coefficients(expand_time(t, many))
    noise = random.normal(many.shape, generator, many.dtype, many.device)
    x_t = c.alpha * many + c.noise_scale * noise
    repeated = map_condition(lambda value: value.repeat_interleave(draws, 0), given)
    found = convert(core.field(t, x_t, repeated), x_t, c, "velocity", "noise")
    linear = c.noise_scale * x_t / (c.alpha.square() + c.noise_scale.square())
    gain = sum_event((noise - found).square() - (noise - linear).square())
    start = path.coefficients(torch.tensor(first, dtype=many.dtype, device=many.device))
    x_0 = start.alpha * many + start.noise_scale * noise
    prior = -0.5 * sum_event(noise.square() + math.log(2 * math.pi) + 2 * start.noise_scale.log())
    terms = 0.5 * (high - low) * gain + prior - core.source.log_prob(x_0)
    terms = terms.reshape(len(rows), draws).to(outer)
    known = _linear_part(low, high, event_size(flow.event_shape), sum_event(rows.square()).to(outer))
    return terms.mean(1) + known - outer, terms.std(1) / math.sqrt(draws)


def _ends(path: Path) -> tuple[float, float]:
    """Where the diffusion begins and ends: there log(alpha^2 / s^2) and the velocity are finite."""
    levels = log_snr(path, torch.tensor([0.0, 1.0], dtype=torch.float64)).isfinite().tolist()
    inside = [finite and not is_open for finite, is_open in zip(levels, path.open_ends)]
    return 0.0 if inside[0] else MARGIN, 1.0 if inside[1] else 1 - MARGIN


def _linear_part(low: float, high: float, size: int, square: Tensor) -> Tensor:
    """1/2 int E|n - s x_t / (alpha^2 + s^2)|^2 d log(alpha^2 / s^2) - E log N(x; x_1 / alpha, s^2 / alpha^2).

    size: d, the elements of an event.  square: |x|^2 ``(B,)``.

    With p = alpha^2 / (alpha^2 + s^2), the logistic function of the ratio, the expectation is d p^2 + |x|^2 p
    (1 - p), whose integral is d (softplus - p) + |x|^2 p.
    """
    ends = torch.tensor([low, high], dtype=torch.float64)
    (plus_low, plus_high), (p_low, p_high) = functional.softplus(ends).tolist(), ends.sigmoid().tolist()
    integral = size * (plus_high - plus_low - p_high + p_low) + square * (p_high - p_low)
    return 0.5 * (integral + size * (math.log(2 * math.pi) + 1 - high))
