"""Bridge matching: the Schroedinger bridge by two regressions."""

from __future__ import annotations

from torch import nn

from ..fields.bridge import both, check_sigma
from ..paths import Brownian, Interpolant
from ..tensors import expand_time
from .base import Batch, Loss, Objective, Step, check_share, field_of, partly_hidden
from .times import Times, Uniform, check_kinds


class BridgeMatching(Objective):
    """E |field(t, x_t) - (x1 - x0)|^2 + sigma^2 E |sqrt(t (1-t)) score(t, x_t) + z|^2 over Brownian bridges.

    x_t = (1-t) x0 + t x1 + sigma sqrt(t (1-t)) z between the points of a pair, z ~ N(0, I): simulation-free
    score and flow matching (Tong et al. 2024, arXiv 2307.03672) with other targets.  Their target for the
    velocity is infinite at the ends; these targets are bounded.  :class:`~pushforward.fields.BridgeField`
    computes velocity, score and drifts from the two minimisers E[x1 - x0 | x_t] and sigma grad log p_t
    without any infinite factor.

    With pairs of the entropic plan for the cost |x0 - x1|^2 and epsilon = 2 sigma^2 the process is the
    Schroedinger bridge with reference sigma dW; with other pairs it is their
    Markovian projection, with the right distributions at both ends and at every t.

    ``models`` holds ``"field"`` and ``"score"``, or a ``"field"`` with two heads
    (:class:`~pushforward.fields.TwoHeads`).  Each row's condition is hidden with probability
    ``drop_condition``.  The error of the score has the weight sigma^2 that it has in the drift.  To regress
    the velocity alone, use :class:`FlowMatching` on ``Interpolant(gamma=Brownian(sigma))``.

    Raises ValueError for a sigma that is not positive and a probability outside [0, 1].

    >>> import torch
    >>> from pushforward import Rows
    >>> from pushforward.nn import MLP
    >>> batch = Batch((Rows(torch.zeros(8, 2)), Rows(torch.ones(8, 2))))
    >>> models = nn.ModuleDict({"field": MLP(2), "score": MLP(2)})
    >>> sorted(BridgeMatching(0.5).loss(models, batch, Step()).terms)
    ['score', 'velocity']
    """

    def __init__(self, sigma: float = 1.0, drop_condition: float = 0.0, times: Times | None = None):
        self.sigma = check_sigma(sigma)
        self.path = Interpolant(gamma=Brownian(self.sigma))
        self.drop_condition = check_share(drop_condition)
        check_kinds(None, times)
        self.times = times or Uniform()

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        x0, x1 = batch.source.x, batch.target.x
        t = self.times.draw(x1, step)
        # one of an antithetic pair: no velocity is formed, which is infinite at both ends
        pair = self.path.sample_pair(t, x0, x1, generator=step.generator)
        condition = partly_hidden(batch, self.drop_condition, step)
        mask, score = batch.target.mask, None
        if "score" in models:
            score = field_of(models, "score", mask)
        elif mask is not None:
            raise ValueError("mask: with masked rows a bridge needs a score network of its own")
        difference, scaled_score = both(field_of(models, "field", mask), score, t, pair.plus, condition)
        value, errors = batch.reduce((difference - (x1 - x0)).square())
        s = expand_time(t, x1)
        score_value, score_errors = batch.reduce(((s * (1 - s)).sqrt() * scaled_score + pair.noise).square())
        weight = self.sigma**2
        return Loss(
            value + weight * score_value,
            errors + weight * score_errors,
            t,
            {"velocity": value, "score": score_value},
        )
