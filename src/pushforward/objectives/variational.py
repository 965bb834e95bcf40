"""Variational rectified flow: flow matching under a latent that tells crossing paths apart."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from .. import random
from ..fields.latent import with_latent
from ..nn.checks import check_number
from ..sources import Source
from ..tensors import Condition, sum_event, valid_elements
from .base import Batch, Loss, Objective, Step, field_of, model_of
from .flow_matching import FlowMatching


class VariationalMatching(Objective):
    r"""Flow matching of a field that also sees a latent z, which an encoder tells it in training:

    .. math:: \operatorname{E}_{q(z | x_0, x_1, x_t, t)} |v(t, x_t, z) - \dot x_t|^2
        + \beta\, \mathrm{KL}(q \,\|\, p)

    with p = N(0, I) (Guo & Schwing 2025, arXiv 2502.09616), divided by the number of elements of an event as
    the losses of ``matching`` are.  Where paths cross, the velocity that flow matching learns is the mean of
    theirs; with z the field can tell them apart, so that its loss falls below that of every field of (t, x).
    A large beta switches the latent off: q is then p, and the loss that of flow matching.

    A :class:`~pushforward.flows.LatentFlow` draws z from p, independent of x0.  Its samples have the
    distribution of the data where three things hold: the mean of q over pairs is p, z is independent of x0,
    and z does not change along a path.  A p that is learnt as well comes nearer to the first: it makes the
    KL divergence smaller.  An encoder that sees x1 alone, as :class:`~pushforward.nn.PairEncoder` does by
    default, has the last two for independent pairs.  One that sees the path has neither: between N(0, 1) and
    N(0, 1), a latent of correlation r with x1 and -r with x0 gives samples of variance 1 + 4 r^2.

    ``models`` holds ``"field"``, whose condition has the entry ``latent`` (see
    :func:`~pushforward.fields.with_latent`), ``"encoder"``, a callable (t, x0, x1, x_t) that gives mean and
    log-deviation of q, and ``"prior"``, the source p, such as a
    :class:`~pushforward.sources.LearntMixture`; without one it is N(0, I).

    matching: path, prediction, times and weights.  warmup: the share of the training over which the gradient
    of the KL divergence rises from 0 to its own; the value of the loss has the whole beta throughout, so that
    losses compare.

    Raises ValueError for a beta that is negative and a warm-up outside [0, 1).

    >>> from pushforward import Rows
    >>> from pushforward.nn import MLP, PairEncoder
    >>> models = nn.ModuleDict({"field": MLP(2, {"latent": (2,)}), "encoder": PairEncoder(2)})
    >>> batch = Batch((Rows(torch.zeros(8, 2)), Rows(torch.ones(8, 2))))
    >>> VariationalMatching().loss(models, batch, Step()).terms["kl"]
    tensor(0.)
    """

    def __init__(self, matching: FlowMatching | None = None, beta: float = 0.1, warmup: float = 0.1):
        self.matching = matching or FlowMatching()
        self.beta = check_number("beta", beta, 0) if beta else 0.0
        if isinstance(warmup, bool) or not 0 <= warmup < 1:
            raise ValueError(f"warmup: expected a share of the steps of at least 0 and below 1, got {warmup}")
        self.warmup = warmup

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        told = _Told(models, batch, step.generator)
        loss = self.matching.of_field(told, batch, step)
        assert told.divergence is not None, "flow matching evaluates its field"
        # per element of an event, as the errors are
        kl = told.divergence / told.size
        value, share = batch.mean(kl), self._share(step)
        descended = share * value + (1 - share) * value.detach() if share < 1 else value
        terms = {**loss.terms, "matching": loss.value.detach(), "kl": batch.mean(told.divergence.detach())}
        errors = loss.per_sample + self.beta * kl.detach()
        return Loss(loss.value + self.beta * descended, errors, loss.t, terms)

    def _share(self, step: Step) -> float:
        """The share of the gradient of the KL divergence that counts by now."""
        steps = self.warmup * step.total
        return min(1.0, (step.index + 1) / steps) if steps else 1.0


class _Told:
    """A field whose latents an encoder draws where it is evaluated, with their KL divergences ``(B,)``."""

    def __init__(self, models: nn.ModuleDict, batch: Batch, generator: torch.Generator | None):
        mask, x1 = batch.target.mask, batch.target.x
        self.field, self.encoder = field_of(models, mask=mask), model_of(models, "encoder")
        self.prior = cast(Source, models["prior"]) if "prior" in models else None
        self.generator = generator
        self.valid = None if mask is None else valid_elements(mask, x1)
        self.size: float | Tensor = float(x1[:1].numel()) if len(x1) else 1.0
        if self.valid is not None:
            self.size = sum_event(self.valid).clamp(min=1).to(x1.dtype)
        self.x0, self.x1 = self._seen(batch.source.x), self._seen(x1)
        self.divergence: Tensor | None = None

    def __call__(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        mean, log_scale = self.encoder(t, self.x0, self.x1, self._seen(x))
        noise = random.normal(mean.shape, self.generator, mean.dtype, mean.device)
        z = mean + log_scale.exp() * noise
        if self.prior is None:
            spread = 0.5 * sum_event(mean.square() + (2 * log_scale).exp() - 1)
            self.divergence = spread - sum_event(log_scale)
        else:  # at the one z that is drawn: an estimate, right on average
            entropy = sum_event(0.5 * (noise.square() + math.log(2 * math.pi)) + log_scale)
            self.divergence = -entropy - self.prior.log_prob(z)
        return self.field(t, x, with_latent(condition, z))

    def _seen(self, x: Tensor) -> Tensor:
        """Points whose padded elements are zero."""
        return x if self.valid is None else torch.where(self.valid, x, 0.0)
